//! The calls that there are, as the descriptors name them.

use std::collections::HashMap;
use std::sync::LazyLock;

use gristmill_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::role::Role;

/// The package that no client calls.
const INTERNAL: &str = "gristmill.internal.v1";
/// The services that take events in; the others answer questions.
const INGESTION: [&str; 2] = ["analytics.v1.EventIngestionService", "analytics.ProducerService"];

static METHODS: LazyLock<Methods> = LazyLock::new(Methods::read);

/// Everything that clients may call.
pub(crate) struct Methods {
    all: Vec<Method>,
    numbers: HashMap<String, usize>,
    services: Vec<String>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Method {
    /// As the path of its requests: `/service/method`.
    path: String,
    pub(crate) shape: Shape,
}

/// How many messages go each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One and one.
    Unary,
    /// One, and then as many as there are.
    ServerStream,
    /// As many as the client has; nobody knows when the first answer comes.
    ClientStream,
}

impl Method {
    /// Its name in a label: `service/method`.
    pub(crate) fn name(&self) -> &str {
        self.path.strip_prefix('/').unwrap_or(&self.path)
    }
}

/// All methods.
pub(crate) fn methods() -> &'static Methods {
    &METHODS
}

/// The files of `proto/` that are for clients.
pub(crate) fn files() -> FileDescriptorSet {
    let mut files = decode(FILE_DESCRIPTOR_SET);
    files.file.retain(|file| file.package() != INTERNAL);
    files
}

/// The service that a path names.
pub(crate) fn service_of(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').next().unwrap_or_default()
}

impl Methods {
    fn read() -> Self {
        let ours = files();
        let services = services(&ours.file).map(|(name, _)| name).collect();
        let standard = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let standard = standard.into_iter().flat_map(|set| decode(set).file);
        let files: Vec<_> = ours.file.into_iter().chain(standard).collect();
        let all: Vec<_> = services_methods(&files).collect();
        let numbers = all.iter().enumerate().map(|(number, it)| (it.path.clone(), number));
        Self { numbers: numbers.collect(), services, all }
    }

    /// The number of the method at a path; none, if nobody knows it.
    pub(crate) fn number(&self, path: &str) -> Option<usize> {
        self.numbers.get(path).copied()
    }

    /// The method at a path.
    pub(crate) fn at(&self, path: &str) -> Option<&Method> {
        self.all.get(self.number(path)?)
    }

    /// All of them, by number.
    pub(crate) fn all(&self) -> &[Method] {
        &self.all
    }

    /// The names of our services, those of health and reflection left out.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(String::as_str)
    }

    /// The role that answers one of our services; none, if there is no such service.
    pub(crate) fn role_of(&self, service: &str) -> Option<Role> {
        let is_ours = self.services().any(|name| name == service);
        is_ours.then(|| match INGESTION.contains(&service) {
            true => Role::Ingest,
            false => Role::Query,
        })
    }
}

/// What is compiled in is well-formed; what is not has no methods.
fn decode(set: &[u8]) -> FileDescriptorSet {
    FileDescriptorSet::decode(set).unwrap_or_default()
}

type Services<'a> = (String, &'a prost_types::ServiceDescriptorProto);

fn services(files: &[FileDescriptorProto]) -> impl Iterator<Item = Services<'_>> {
    files.iter().flat_map(|file| {
        let name = |service: &str| format!("{}.{service}", file.package());
        file.service.iter().map(move |service| (name(service.name()), service))
    })
}

fn services_methods(files: &[FileDescriptorProto]) -> impl Iterator<Item = Method> {
    services(files).flat_map(|(name, service)| {
        service.method.iter().map(move |method| {
            let shape = match (method.client_streaming(), method.server_streaming()) {
                (true, _) => Shape::ClientStream,
                (false, true) => Shape::ServerStream,
                (false, false) => Shape::Unary,
            };
            Method { path: format!("/{name}/{}", method.name()), shape }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_clients_is_known_with_its_shape_and_no_other() {
        let methods = methods();
        let shape = |path| methods.at(path).map(|method| method.shape);
        assert_eq!(shape("/analytics.AnalyticsService/GetEventCount"), Some(Shape::Unary));
        let live = "/analytics.v1.AnalyticsService/GetRealTimeAnalytics";
        assert_eq!(shape(live), Some(Shape::ServerStream));
        let stream = "/analytics.v1.EventIngestionService/StreamEvents";
        assert_eq!(shape(stream), Some(Shape::ClientStream));
        assert_eq!(shape("/grpc.health.v1.Health/Watch"), Some(Shape::ServerStream));
        assert_eq!(shape("/gristmill.internal.v1.Relay/Handle"), None);
        assert_eq!(methods.services().count(), 6);
        assert_eq!(methods.role_of("analytics.ProducerService"), Some(Role::Ingest));
        assert_eq!(methods.role_of("analytics.v1.MetricsService"), Some(Role::Query));
        assert_eq!(methods.role_of("grpc.health.v1.Health"), None);
    }
}
