//! Reflection: tells tools such as grpcurl which calls there are and what their messages look like.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};
use tonic::server::NamedService;
use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};
use tower::util::BoxCloneSyncService;

use super::methods;

/// The names of the service, of which tools know the one or the other.
pub(super) const V1: &str =
    <v1::ServerReflectionServer<v1::ReflectionService> as NamedService>::NAME;
pub(super) const V1ALPHA: &str =
    <v1alpha::ServerReflectionServer<v1alpha::ReflectionService> as NamedService>::NAME;

type Server = BoxCloneSyncService<Request<Body>, Response<tonic::body::Body>, Infallible>;

/// Both versions of the service.
pub(crate) struct Reflection {
    v1: Server,
    v1alpha: Server,
}

impl Reflection {
    /// Reflection of everything that clients may call.
    pub(crate) fn new() -> Result<Self, Error> {
        let builder = || {
            Builder::configure()
                .register_file_descriptor_set(methods::files())
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        Ok(Self {
            v1: Server::new(builder().build_v1()?),
            v1alpha: Server::new(builder().build_v1alpha()?),
        })
    }

    /// The version of this name.
    pub(super) fn of(&self, service: &str) -> Option<Server> {
        match service {
            V1 => Some(self.v1.clone()),
            V1ALPHA => Some(self.v1alpha.clone()),
            _ => None,
        }
    }
}
