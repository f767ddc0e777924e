//! `grpc.health.v1.Health`: whether the process, and each of its services, should get calls.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::time::sleep;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::methods::methods;
use crate::front::Front;

/// The service's name.
pub(super) const NAME: &str = HealthServer::<OwnHealth>::NAME;

/// How often it is looked whether something has changed. Who watches is told of the process's end at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct OwnHealth(Front);

/// The service.
pub(super) fn server(front: &Front) -> HealthServer<OwnHealth> {
    HealthServer::new(OwnHealth(front.clone()))
}

#[tonic::async_trait]
impl Health for OwnHealth {
    async fn check(
        &self,
        call: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match state(&self.0, &call.get_ref().service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("this process has no service of this name"))
            }
            state => Ok(Response::new(answer(state))),
        }
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        call: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = call.into_inner().service;
        let watch = Watch { front: self.0.clone(), service, told: None };
        let states = stream::unfold(watch, |mut watch| async {
            let state = watch.next().await?;
            Some((Ok(answer(state)), watch))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

/// What a client has been told that watches a service.
struct Watch {
    front: Front,
    service: String,
    told: Option<ServingStatus>,
}

impl Watch {
    /// The next state that is another one; none after the last, when the process ends.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let state = state(&self.front, &self.service);
            if self.told.replace(state) != Some(state) {
                return Some(state);
            }
            let draining = self.front.draining();
            if draining.is_cancelled() {
                return None;
            }
            tokio::select! {
                () = draining.cancelled() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

fn answer(state: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: state as i32 }
}

/// How a service is; without a name, how the whole process is.
fn state(front: &Front, service: &str) -> ServingStatus {
    let is_serving = match service {
        "" => Some(front.is_serving()),
        _ => methods().role_of(service).and_then(|role| front.serves(role)),
    };
    match is_serving {
        None => ServingStatus::ServiceUnknown,
        Some(true) if !front.draining().is_cancelled() => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    }
}
