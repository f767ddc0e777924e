//! A question that can be asked again, and how two of them are known to be equal.

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use gristmill_model::{ErrorCode, Positions};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;

use super::topic::{Key, Question};
use super::{Route, text};
use crate::caller::project_of;
use crate::openapi::{Parameter, Term};
use crate::parameters::Parameters;
use crate::problem::Problem;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The parameters that are about the subscription and not about the question.
const OWN_PARAMETERS: [&str; 2] = ["last_event_id", "at_least"];
/// The headers that hold for the first request and for no repetition of it.
const OWN_HEADERS: [HeaderName; 6] = [
    LAST_EVENT_ID,
    header::ACCEPT,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TRANSFER_ENCODING,
];

/// What a request says of its subscription.
#[derive(Debug)]
pub(super) struct Terms {
    /// The newest revision that the client has, if it comes again.
    pub(super) seen: Option<Positions>,
    /// What the first answer must include.
    pub(super) at_least: Option<String>,
}

impl Terms {
    /// Takes the terms out of a request's head; what stays is the question's. The header counts
    /// before the parameter, which a browser repeats unchanged when it comes again.
    pub(super) fn take(head: &mut Parts) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(&head.uri)?;
        let given = parameters.take("last_event_id")?;
        let at_least = parameters.take("at_least")?;
        let seen = last_event_id(&head.headers)?.or(given).map(|text| text.parse());
        let seen = seen.transpose().map_err(|_| malformed_id())?;
        head.uri = without_own_parameters(&head.uri);
        Ok(Self { seen, at_least })
    }
}

/// What [`Terms::take`] takes, beside the position that every question takes.
pub(in crate::analytics) fn parameters() -> [Parameter; 2] {
    let about = "of a question that is asked live: the `id` of the newest revision that the client \
        has; if nothing has changed since, the next revision is the next change";
    [
        Term::text("last_event_id", about).in_target(),
        Term::text("Last-Event-ID", "the same as `last_event_id`, and counts before it").in_head(),
    ]
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let text = headers.get(LAST_EVENT_ID).map(|value| value.to_str().map(str::to_owned));
    text.transpose().map_err(|_| malformed_id())
}

fn malformed_id() -> Problem {
    Problem::argument("`last_event_id` is no position: give the `id` of a revision unchanged")
}

fn without_own_parameters(uri: &Uri) -> Uri {
    let is_own = |pair: &&str| OWN_PARAMETERS.contains(&name_of(pair));
    let pairs: Vec<_> = pairs(uri).filter(|pair| !is_own(pair)).collect();
    let target = match pairs.as_slice() {
        [] => PathAndQuery::try_from(uri.path()),
        pairs => PathAndQuery::try_from(format!("{}?{}", uri.path(), pairs.join("&"))),
    };
    // A part of a target is a target.
    target.map_or_else(|_| uri.clone(), Uri::from)
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

/// A request that can be made again and again.
pub(super) struct RequestQuestion {
    head: Parts,
    body: Bytes,
    route: Route,
}

impl RequestQuestion {
    /// The question that a request asks of its route, with its body as it is when its encoding is
    /// undone.
    pub(super) fn new(mut head: Parts, body: Bytes, route: Route) -> Self {
        for name in OWN_HEADERS {
            head.headers.remove(name);
        }
        Self { head, body, route }
    }
}

#[async_trait]
impl Question for RequestQuestion {
    fn key(&self) -> Key {
        let mut parameters: Vec<_> = pairs(&self.head.uri).map(str::to_owned).collect();
        parameters.sort_by(|one, other| name_of(one).cmp(name_of(other)));
        Key {
            project: project_of(&self.head.extensions).as_str().to_owned(),
            method: self.head.method.clone(),
            path: self.head.uri.path().to_owned(),
            parameters,
            body: self.body.clone(),
        }
    }

    /// The text of the plain answer as it is now.
    async fn ask(&self) -> Result<Bytes, Problem> {
        let request = Request::from_parts(self.head.clone(), Body::from(self.body.clone()));
        let (mut head, body) = (self.route)(request).await.into_parts();
        let failed = || Problem::new(ErrorCode::Internal, "the question has no answer");
        if head.status != StatusCode::OK {
            return Err(head.extensions.remove().unwrap_or_else(failed));
        }
        Ok(body.collect().await.map_err(|_| failed())?.to_bytes())
    }

    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        text::is_same(one, other)
    }

    fn data(&self, answer: &Bytes) -> Bytes {
        text::data(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(target: &str, body: &'static str) -> RequestQuestion {
        let (mut head, ()) = Request::get(target).body(()).unwrap().into_parts();
        Terms::take(&mut head).unwrap();
        let route: Route = Box::new(|_| Box::pin(async { unreachable!() }));
        RequestQuestion::new(head, Bytes::from_static(body.as_bytes()), route)
    }

    #[test]
    fn questions_are_equal_whatever_their_order_and_their_subscription() {
        let key = |target: &str| question(target, "").key();
        let one = key("/x?b=2&a=1&a=0");
        assert_eq!(one, key("/x?a=1&last_event_id=p0-1&b=2&at_least=&a=0"));
        assert_eq!(key("/x"), key("/x?&last_event_id=p0-1"));
        for other in ["/x?b=2&a=0&a=1", "/x?b=2&a=1", "/y?b=2&a=1&a=0", "/x?b=2&a=1&a=0&c"] {
            assert_ne!(one, key(other), "{other}");
        }
        assert_ne!(question("/x", "{}").key(), question("/x", "").key());
    }

    #[test]
    fn terms_are_taken_and_the_header_counts_first() {
        let request = Request::get("/x?last_event_id=p0-1&n=1&at_least=p0-2");
        let (mut head, ()) = request.header("last-event-id", "p0-3").body(()).unwrap().into_parts();
        let terms = Terms::take(&mut head).unwrap();
        assert_eq!(terms.seen.unwrap().to_string(), "p0-3");
        assert_eq!(terms.at_least.as_deref(), Some("p0-2"));
        assert_eq!(head.uri, "/x?n=1");
    }
}
