//! One append of a stream: what came goes into the log, and what becomes of it comes out.

use std::sync::Arc;

use bytes::Bytes;
use gristmill_ingest::dialect::{Context, Events, native};
use gristmill_ingest::{Item, Permit};
use gristmill_model::{EventId, Positions, ProjectId, ndjson};
use gristmill_proto::analytics::v1::{Event, IngestEventResponse, RejectedEvent};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::{answer, event};
use crate::accept::accept_in_turn;
use crate::app::App;
use crate::caller::Who;
use crate::problem::Problem;
use crate::receipt::Told;

/// Where the events of a stream go.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) app: Arc<App>,
    pub(super) project: ProjectId<'static>,
    /// Who sends the events; they count against the limits of the caller's key.
    pub(super) who: Who,
    /// Held by the append whose turn it is, so that the log has the stream's events in its order.
    pub(super) turn: Arc<Mutex<()>>,
}

/// What is appended together.
pub(super) enum Content {
    /// Single events, each of which is answered for itself.
    Single(Vec<Event>),
    /// A batch with its number.
    Batch(u64, Vec<Event>),
    /// The same as lines of JSON.
    Lines(u64, Bytes),
}

/// How many events are appended together. Lines are counted if somebody wants to know.
pub(super) enum Count {
    Events(usize),
    Lines(Bytes),
}

impl Count {
    pub(super) fn get(&self) -> usize {
        match self {
            Count::Events(count) => *count,
            Count::Lines(lines) => ndjson::lines(lines).count(),
        }
    }
}

/// What became of it.
pub(super) struct Settled {
    /// How many bytes its requests took.
    pub(super) bytes: usize,
    pub(super) positions: Positions,
    pub(super) told: Answered,
}

pub(super) enum Answered {
    Single(Vec<IngestEventResponse>),
    Batch { sequence: u64, accepted: u64, rejected: Vec<RejectedEvent> },
}

impl Content {
    /// How many events it holds.
    pub(super) fn count(&self) -> Count {
        match self {
            Content::Single(events) | Content::Batch(_, events) => Count::Events(events.len()),
            Content::Lines(_, lines) => Count::Lines(lines.clone()),
        }
    }

    fn decode<'a>(&'a self, context: &Context<'a>) -> Result<Events<'a>, Problem> {
        match self {
            Content::Single(events) => {
                Ok(events.iter().map(|event| event::of(event, context, 0)).collect())
            }
            Content::Batch(_, events) => {
                let events = (0..).zip(events);
                Ok(events.map(|(index, event)| event::of(event, context, index)).collect())
            }
            Content::Lines(_, lines) if lines.is_empty() => Ok(Vec::new()),
            Content::Lines(_, lines) => Ok(native::lines(lines, context)?),
        }
    }
}

/// Appends when it is its turn. `bytes` is what its requests took, `permit` what they hold of the budget.
pub(super) async fn append(
    way: Way,
    content: Content,
    bytes: usize,
    since: Instant,
    permit: Option<Permit>,
) -> Result<Settled, Problem> {
    let Way { app, project, who, turn } = way;
    let turn = turn.lock_owned().await;
    let context = app.services.ingest.context(project, None);
    let decoded = content.decode(&context)?;
    app.ring.charge(&who, decoded.len(), || bytes)?;
    let accepted = accept_in_turn(&app, decoded, since, turn).await?;
    drop(permit);
    let positions = accepted.positions;
    let told = match &content {
        Content::Single(_) => Answered::Single(single(accepted.items, &positions)),
        Content::Batch(sequence, _) | Content::Lines(sequence, _) => {
            batch(*sequence, accepted.items)
        }
    };
    Ok(Settled { bytes, positions, told })
}

fn single(items: Vec<Item<'_>>, positions: &Positions) -> Vec<IngestEventResponse> {
    let position = positions.to_string();
    let answers = items.into_iter().map(|item| {
        let told = Told { id: item.id, result: item.result.map(|_| "accepted") };
        answer::of_event(told, position.clone())
    });
    answers.collect()
}

fn batch(sequence: u64, items: Vec<Item<'_>>) -> Answered {
    let total = items.len();
    let rejected = items.into_iter().enumerate().filter_map(|(index, Item { id, result })| {
        let _: EventId<'_> = id;
        let result = answer::rejected(index, result.err()?);
        Some(RejectedEvent { sequence, result: Some(result) })
    });
    let rejected: Vec<_> = rejected.collect();
    Answered::Batch { sequence, accepted: (total - rejected.len()) as u64, rejected }
}
