//! What a request brings to show who sends it.

use std::borrow::Cow;

use axum::extract::Query;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gristmill_model::key_id;
use http::{HeaderMap, HeaderName, Uri, header};

use crate::problem::Problem;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What stands where a key should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given<'a> {
    Nothing,
    Text(Cow<'a, str>),
    /// Something that cannot be a key.
    Nonsense,
}

/// Whether a request brings anything.
pub(crate) fn has_any(headers: &HeaderMap) -> bool {
    headers.contains_key(X_API_KEY) || headers.contains_key(header::AUTHORIZATION)
}

/// Whether a header of this name says who sends a request.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    *name == X_API_KEY || *name == header::AUTHORIZATION
}

/// The key of a request: its `x-api-key`, its bearer token, or the name of its basic credentials.
pub(crate) fn given(headers: &HeaderMap) -> Result<Given<'_>, Problem> {
    let own = match single(headers, &X_API_KEY)? {
        None => Given::Nothing,
        Some(value) => value.to_str().map_or(Given::Nonsense, |text| Given::Text(text.into())),
    };
    let other = match single(headers, &header::AUTHORIZATION)? {
        None => Given::Nothing,
        Some(value) => value.to_str().map_or(Given::Nonsense, of_authorization),
    };
    match (own, other) {
        (Given::Nothing, given) | (given, Given::Nothing) => Ok(given),
        (own, other) if own == other => Ok(own),
        _ => {
            let detail = "x-api-key and authorization are both given and differ: send one of them";
            Err(Problem::argument(detail))
        }
    }
}

/// The one header of a name.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a http::HeaderValue>, Problem> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::argument(format!("the header {name} is given more than once")));
    }
    Ok(first)
}

fn of_authorization(text: &str) -> Given<'_> {
    let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Given::Text(value.into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        // Older clients send the key with no scheme before it.
        return if value.is_empty() { Given::Text(text.into()) } else { Given::Nonsense };
    }
    let decoded =
        BASE64_STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(decoded) = decoded else { return Given::Nonsense };
    match decoded.split_once(':') {
        Some(("", password)) => Given::Text(Cow::Owned(password.to_owned())),
        Some((user, _)) => Given::Text(Cow::Owned(user.to_owned())),
        None => Given::Text(Cow::Owned(decoded)),
    }
}

/// Refuses a target that has a key in it: targets end up in logs and histories.
pub(crate) fn refuse_in_target(uri: &Uri) -> Result<(), Problem> {
    // Few targets have this letter with another one of its own after it, encoded or not.
    let is_suspect = |text: &str| {
        let text = text.as_bytes();
        text.windows(2).any(|two| two == b"gm" || two == b"g%")
            || text.windows(3).any(|three| three == b"%67")
    };
    let in_path = is_suspect(uri.path()) && uri.path().split('/').any(|it| key_id(it).is_some());
    let in_query = uri.query().is_some_and(is_suspect)
        // A query that cannot be read is refused by its route.
        && Query::<Vec<(String, String)>>::try_from_uri(uri).is_ok_and(|Query(pairs)| {
            let words = pairs.iter().flat_map(|(name, value)| {
                std::iter::once(name.as_str()).chain(value.split_whitespace())
            });
            words.into_iter().any(|word| key_id(word).is_some())
        });
    if in_path || in_query {
        let detail = "there is an API key in the request target, where others may read it: revoke \
            it, and send the next one as the header x-api-key";
        return Err(Problem::argument(detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        match given(&headers).map_err(|problem| problem.status().as_u16())? {
            Given::Nothing => Ok("nothing".to_owned()),
            Given::Nonsense => Ok("nonsense".to_owned()),
            Given::Text(text) => Ok(text.into_owned()),
        }
    }

    #[test]
    fn keys_are_found_where_clients_put_them() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(of(&[]), ok("nothing"));
        assert_eq!(of(&[("x-api-key", "k")]), ok("k"));
        assert_eq!(of(&[("authorization", "Bearer k")]), ok("k"));
        assert_eq!(of(&[("authorization", "bearer  k")]), ok("k"));
        assert_eq!(of(&[("authorization", "k")]), ok("k"));
        // `k:` and `:k` and `k`.
        assert_eq!(of(&[("authorization", "Basic azo=")]), ok("k"));
        assert_eq!(of(&[("authorization", "Basic Oms=")]), ok("k"));
        assert_eq!(of(&[("authorization", "basic aw==")]), ok("k"));
        assert_eq!(of(&[("authorization", "Basic !")]), ok("nonsense"));
        assert_eq!(of(&[("authorization", "Digest a=b")]), ok("nonsense"));
        assert_eq!(of(&[("x-api-key", "k"), ("authorization", "Bearer k")]), ok("k"));
        assert_eq!(of(&[("x-api-key", "")]), ok(""));
    }

    #[test]
    fn credentials_that_contradict_each_other_are_refused() {
        assert_eq!(of(&[("x-api-key", "k"), ("authorization", "Bearer l")]), Err(400));
        assert_eq!(of(&[("authorization", "Bearer k"), ("authorization", "Bearer k")]), Err(400));
        assert_eq!(of(&[("x-api-key", "k"), ("x-api-key", "k")]), Err(400));
    }
}
