//! API keys: who may do what, and how much of it.
//!
//! Keys are documents of the store under a project that nobody can name, so that all processes over it
//! share them. Each process has them in memory, in a [`Ring`], which it reads anew every two seconds; what
//! a request brings is looked at in [`credentials`], how much may be sent with a key is counted by its
//! [`Meter`](meter::Meter), and [`routes`] is how keys are made and revoked.
//!
//! No secret is kept: the ring and the documents have hashes.

mod credentials;
mod description;
mod first;
mod guard;
mod identify;
mod limits;
mod meter;
mod peers;
mod record;
mod ring;
pub(crate) mod routes;
mod sent;
mod usage;

use gristmill_model::Scope;
use http::{Extensions, Method};

use crate::app::App;
use crate::caller::Caller;
use crate::grpc::methods::methods;
use crate::problem::Problem;
use crate::role::Role;

pub(crate) use credentials::{has_any, is_credential, refuse_in_target};
pub(crate) use guard::{Ending, guard};
pub(crate) use meter::tells_limits;
pub(crate) use peers::{Peer, Peers};
pub(crate) use record::{Hash, hash};
pub(crate) use ring::{Held, Refusal, Ring, without_keys};

/// What a request must have to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A key, whatever it allows.
    Key,
    /// A key that allows this.
    Scope(Scope),
    /// What the process that answers it says.
    Elsewhere,
}

/// What the requests of one path need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// What all of them need.
    pub(crate) all: Need,
    /// What those need that are not `GET`, `HEAD` or a question, if that is something else.
    pub(crate) changes: Option<Need>,
}

impl Needs {
    /// What a path takes that is asked or told one thing only.
    pub(crate) fn of(all: Need) -> Self {
        Self { all, changes: None }
    }

    /// What a method needs. Browsers ask with `OPTIONS` before they send, and cannot add a key to that.
    pub(crate) fn with(&self, method: &Method) -> Need {
        match *method {
            Method::OPTIONS => Need::Nothing,
            Method::GET | Method::HEAD => self.all,
            _ => self.changes.unwrap_or(self.all),
        }
    }
}

/// What a call needs, by the path of its method.
pub(crate) fn need_of_call(path: &str) -> Need {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (service, method) = path.split_once('/').unwrap_or((path, ""));
    match service {
        "grpc.health.v1.Health" => Need::Nothing,
        "analytics.v1.AnalyticsService" if changes_cohorts(method) => Need::Scope(Scope::Admin),
        service if service.starts_with("analytics.") && is_health(method) => Need::Nothing,
        service => match methods().role_of(service) {
            Some(Role::Ingest) => Need::Scope(Scope::Write),
            Some(_) => Need::Scope(Scope::Read),
            // Reflection, and what there is not.
            None => Need::Key,
        },
    }
}

fn changes_cohorts(method: &str) -> bool {
    ["CreateCohort", "ReplaceCohort", "DeleteCohort"].contains(&method)
}

fn is_health(method: &str) -> bool {
    const HEALTH: [&str; 4] =
        ["Health", "GetProducerHealth", "GetConsumerHealth", "GetAnalyticsHealth"];
    HEALTH.contains(&method)
}

/// Counts what is about to be appended against the limits of the caller's key, all or nothing; a
/// problem if that is too much, or if the key is not valid any more, which may be so when a body has
/// come slowly. Bytes are those of the body with its encoding undone. Whoever appends events must ask
/// this first.
pub(crate) fn charge(
    app: &App,
    extensions: &Extensions,
    events: usize,
    bytes: impl FnOnce() -> usize,
) -> Result<(), Problem> {
    match extensions.get::<Caller>() {
        Some(caller) => app.ring.charge(&caller.who, events, bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_need_what_their_service_is_for() {
        let write = Need::Scope(Scope::Write);
        let read = Need::Scope(Scope::Read);
        for (path, need) in [
            ("/analytics.v1.EventIngestionService/IngestEvent", write),
            ("/analytics.v1.EventIngestionService/Health", Need::Nothing),
            ("/analytics.v1.AnalyticsService/GetFunnelAnalysis", read),
            ("/analytics.v1.AnalyticsService/ListCohorts", read),
            ("/analytics.v1.AnalyticsService/CreateCohort", Need::Scope(Scope::Admin)),
            ("/analytics.v1.AnalyticsService/ReplaceCohort", Need::Scope(Scope::Admin)),
            ("/analytics.v1.AnalyticsService/DeleteCohort", Need::Scope(Scope::Admin)),
            ("/analytics.v1.MetricsService/StreamMetrics", read),
            ("/analytics.ProducerService/SendEvent", write),
            ("/analytics.ProducerService/GetProducerHealth", Need::Nothing),
            ("/analytics.AnalyticsService/GetEventCount", read),
            ("/analytics.ConsumerService/GetConsumerStats", read),
            ("/grpc.health.v1.Health/Watch", Need::Nothing),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Key),
            ("/other/Health", Need::Key),
            ("/analytics.v1.AnalyticsService/Health/", read),
            ("", Need::Key),
        ] {
            assert_eq!(need_of_call(path), need, "{path}");
        }
    }
}
