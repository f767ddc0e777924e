//! What fuzz targets reach without a socket.

use axum::body::Body;
use http::{Request, Response};

use crate::connection::Speech;
use crate::front::Front;
use crate::vitals::Vitals;

impl Front {
    /// Answers as an address for gRPC does: calls, those of gRPC-Web, and what a gateway relays.
    pub async fn answer_at_grpc(&self, request: Request<Body>) -> Response<Body> {
        self.answer_on(&Vitals::new(), Speech::Grpc, request).await
    }
}
