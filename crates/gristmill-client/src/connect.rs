//! How connections are made: the one place that knows what a server's address may look like and
//! what stands below HTTP.

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

use crate::{ClientError, ClientTls, tls};

/// What connects, to `http` and to `https`.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// Which HTTP is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Http1,
    Http2,
}

/// What opens connections to `base`. Files are only read if it is `https`.
pub(crate) fn connector(
    base: &Uri,
    tls: &ClientTls,
    speech: Speech,
) -> Result<Connector, ClientError> {
    let config = match base.scheme_str() {
        Some("https") => tls::config(tls)?,
        _ => tls::trusting_nobody()?,
    };
    let mut tcp = HttpConnector::new();
    // Small requests must not wait for the acknowledgement of earlier ones.
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    Ok(match speech {
        Speech::Http1 => builder.enable_http1().wrap_connector(tcp),
        Speech::Http2 => builder.enable_http2().wrap_connector(tcp),
    })
}

/// Checks a server's address and takes the slash from its end.
pub(crate) fn base_of(url: &str) -> Result<(String, Uri), ClientError> {
    let wrong = |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let base = url.trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|_| wrong("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(wrong("it does not begin with http:// or https://")),
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    if let Some((_, host)) = uri.authority().and_then(|it| it.as_str().rsplit_once('@')) {
        let (url, reason) =
            (host.to_owned(), "it has a password, which would end up in logs".to_owned());
        return Err(ClientError::Url { url, reason });
    }
    Ok((base.to_owned(), uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_for_https_only_and_errors_name_them() {
        let tls = ClientTls { ca: Some("/no/such/file.pem".into()), identity: None };
        for speech in [Speech::Http1, Speech::Http2] {
            let open = |url: &str| connector(&url.parse().unwrap(), &tls, speech).map(drop);
            assert!(open("http://localhost:1").is_ok());
            let error = open("https://localhost:1").unwrap_err().to_string();
            assert!(error.starts_with("tls: cannot use /no/such/file.pem: "), "{error}");
        }
    }
}
