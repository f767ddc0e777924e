//! How connections are made: the one place that knows what a server's address may look like and
//! what stands below HTTP.

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpStream;

use crate::ClientError;

/// What the pool connects with.
pub(crate) type Connector = HttpConnector;

/// A connector for the pool.
pub(crate) fn connector() -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

/// Connects for gRPC.
pub(crate) async fn open(uri: &Uri) -> std::io::Result<TcpStream> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
    // Small requests must not wait for the acknowledgement of earlier ones.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Checks a server's address and takes the slash from its end.
pub(crate) fn base_of(url: &str) -> Result<String, ClientError> {
    let wrong = |reason: &str| ClientError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let base = url.trim_end_matches('/');
    let uri: Uri = base.parse().map_err(|_| wrong("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("https is not supported")),
        _ => return Err(wrong("it does not begin with http://")),
    }
    if uri.query().is_some() {
        return Err(wrong("it has a query"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("it has a password, which would end up in logs; use an api key"));
    }
    Ok(base.to_owned())
}
