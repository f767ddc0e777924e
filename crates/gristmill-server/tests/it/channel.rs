//! A channel of gRPC over one connection, for clients made from the proto files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower::Service;

/// A connection, whose requests all go to one address.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: http2::SendRequest<Body>,
    origin: Uri,
    _driving: Arc<JoinSet<()>>,
}

impl Channel {
    /// Connects.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::with_window(address, 1024 * 1024).await
    }

    /// Connects as a client that takes so many bytes of an answer before it reads them.
    pub(crate) async fn with_window(address: SocketAddr, bytes: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(bytes);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            // It ends with an error where the server cuts it.
            let _ = connection.await;
        });
        let origin = format!("http://{address}").parse().unwrap();
        Self { sender, origin, _driving: Arc::new(driving) }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(parts).unwrap();
        Box::pin(self.sender.send_request(request))
    }
}
