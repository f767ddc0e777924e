//! What becomes of events, as messages.

use gristmill_ingest::dialect::Rejection;
use gristmill_model::Timestamp;
use gristmill_proto::analytics::v1::{
    EventResult, IngestEventResponse, IngestEventsResponse, IngestMetadata, ValidationError,
};
use tokio::time::Instant;
use tonic::Status;
use tonic_types::FieldViolation;

use crate::app::App;
use crate::grpc::status;
use crate::problem::Problem;
use crate::receipt::{Receipt, Told};

/// The answer about one event.
pub(super) fn one(app: &App, receipt: Receipt<'_>, since: Instant) -> IngestEventResponse {
    let metadata = Some(metadata(app, since));
    let position = receipt.positions.to_string();
    let Some(told) = receipt.items.into_iter().next() else {
        return IngestEventResponse::default();
    };
    IngestEventResponse { metadata, ..of_event(told, position) }
}

/// The answer about one event, without metadata.
pub(super) fn of_event(told: Told<'_>, position: String) -> IngestEventResponse {
    let event_id = told.id.as_str().to_owned();
    match told.result {
        Ok(status) => IngestEventResponse {
            success: true,
            event_id,
            message: format!("event {status}"),
            position,
            status: status.to_owned(),
            ..IngestEventResponse::default()
        },
        Err(rejection) => IngestEventResponse {
            success: false,
            event_id,
            validation_errors: vec![validation_error(&rejection, "")],
            message: rejection.message,
            status: REJECTED.to_owned(),
            ..IngestEventResponse::default()
        },
    }
}

/// The answer about a batch.
pub(super) fn batch(app: &App, receipt: Receipt<'_>, since: Instant) -> IngestEventsResponse {
    let taken = receipt.taken();
    let failed = receipt.items.len() - taken;
    let mut answer = IngestEventsResponse {
        success: failed == 0,
        processed_count: number(taken),
        failed_count: number(failed),
        metadata: Some(metadata(app, since)),
        position: receipt.positions.to_string(),
        ..IngestEventsResponse::default()
    };
    for (index, told) in receipt.items.into_iter().enumerate() {
        if let Err(rejection) = &told.result {
            let field = format!("events[{index}]");
            answer.validation_errors.push(validation_error(rejection, &field));
            answer.failed_event_ids.push(told.id.as_str().to_owned());
        }
        answer.results.push(result(index, told));
    }
    answer
}

/// What became of the event at a place of a batch.
fn result(index: usize, told: Told<'_>) -> EventResult {
    let id = told.id.as_str().to_owned();
    match told.result {
        Ok(status) => EventResult {
            index: number(index),
            id,
            status: status.to_owned(),
            ..EventResult::default()
        },
        Err(rejection) => rejected(index, rejection),
    }
}

/// The result of the event at a place of a batch that was not taken.
pub(super) fn rejected(index: usize, rejection: Rejection) -> EventResult {
    EventResult {
        index: number(index),
        id: rejection.id,
        status: REJECTED.to_owned(),
        code: rejection.code.name().to_owned(),
        pointer: rejection.pointer.to_owned(),
        message: rejection.message,
    }
}

/// The status of a call whose only event was not taken.
pub(super) fn refusal(rejection: &Rejection) -> Status {
    let problem = Problem::new(rejection.code, rejection.message.as_str());
    let field = FieldViolation::new(field(rejection, "event"), rejection.message.as_str());
    status::with_fields(&problem, vec![field])
}

/// A moment.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let seconds = time.seconds();
    let micros = time.since(Timestamp(seconds * Timestamp::SECOND));
    prost_types::Timestamp { seconds, nanos: i32::try_from(micros * 1_000).unwrap_or(0) }
}

const REJECTED: &str = "rejected";

fn validation_error(rejection: &Rejection, event: &str) -> ValidationError {
    ValidationError {
        field: field(rejection, event),
        message: rejection.message.clone(),
        code: rejection.code.name().to_owned(),
    }
}

/// The path of the field at fault, such as `events[3].user_id`.
fn field(rejection: &Rejection, event: &str) -> String {
    let name = rejection.pointer.trim_start_matches('/');
    match (event, name) {
        (event, "") => event.to_owned(),
        ("", name) => name.to_owned(),
        (event, name) => format!("{event}.{name}"),
    }
}

fn metadata(app: &App, since: Instant) -> IngestMetadata {
    let time = since.elapsed();
    IngestMetadata {
        processed_at: Some(timestamp(app.now())),
        processing_node: String::new(),
        processing_time: prost_types::Duration::try_from(time).ok(),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
