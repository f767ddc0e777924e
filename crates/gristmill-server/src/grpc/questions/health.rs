//! `Health`.

use std::collections::BTreeMap;

use gristmill_proto::analytics::v1;

use super::well_known::timestamp;
use crate::app::App;

/// How the process is, and what it stands on.
pub(crate) fn health(app: &App) -> v1::HealthResponse {
    let is_draining = app.draining.is_cancelled();
    let parts =
        [("log", app.services.ingest.is_available()), ("store", app.services.store.is_available())];
    let status = match parts {
        _ if is_draining => "unhealthy",
        [(_, true), (_, true)] => "healthy",
        _ => "degraded",
    };
    let word = |is_available| if is_available { "available" } else { "not available" };
    let service = |(name, healthy): (&str, bool)| v1::ServiceStatus {
        name: name.to_owned(),
        healthy,
        status: word(healthy).to_owned(),
        response_time: None,
    };
    let mut details: BTreeMap<_, _> =
        parts.map(|(name, is)| (name.to_owned(), word(is).to_owned())).into();
    details.insert("version".to_owned(), app.services.version.to_owned());
    v1::HealthResponse {
        healthy: !is_draining,
        status: status.to_owned(),
        timestamp: Some(timestamp(app.now())),
        details,
        services: parts.map(service).into(),
    }
}
