//! Whom a gateway has answer.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;
use gristmill_server::{Role, Roles, TargetAddress};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::GatewayTlsSettings;
use crate::units::{ByteSize, Span};

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewaySettings {
    pub(crate) ingest: Vec<Target>,
    pub(crate) query: Vec<Target>,
    pub(crate) tries: u32,
    pub(crate) deadline: Span,
    pub(crate) max_in_flight_requests: usize,
    pub(crate) max_in_flight_bytes: ByteSize,
    pub(crate) tls: GatewayTlsSettings,
}

/// Where another process listens for gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target(pub(crate) TargetAddress);

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let target = TargetAddress::from_str(&text);
        target.map(Self).map_err(|reason| D::Error::custom(format!("gateway: {reason}")))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl GatewaySettings {
    /// A gateway needs somebody for what its process does not do itself.
    pub(super) fn check(&self, roles: &Roles) -> anyhow::Result<()> {
        if !roles.contains(&Role::Gateway) {
            return Ok(());
        }
        let mut relays = false;
        for (role, targets) in [(Role::Ingest, &self.ingest), (Role::Query, &self.query)] {
            if roles.contains(&role) {
                continue;
            }
            relays = true;
            ensure!(
                !targets.is_empty(),
                "gateway.{role}: the role `gateway` needs processes with the role `{role}`: name \
                 the server.grpc_listen of at least one, as in [\"http://127.0.0.1:50051\"]"
            );
        }
        ensure!(
            relays,
            "roles: a process with `ingest` and `query` answers everything itself: leave `gateway` out"
        );
        ensure!(self.tries > 0, "gateway.tries: must be at least 1");
        ensure!(!self.deadline.0.is_zero(), "gateway.deadline: must be longer than 0s");
        let in_flight = self.max_in_flight_requests;
        ensure!(in_flight > 0, "gateway.max_in_flight_requests: must be at least 1");
        Ok(())
    }
}
