//! What a request for ingestion is told, over HTTP and gRPC alike: its events are taken in as its options
//! say.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use gristmill_ingest::dialect::{Events, Options, Rejection, Until};
use gristmill_ingest::{Accepted, Permit};
use gristmill_model::{ErrorCode, EventId, Outcome, Partition, Position, Positions};
use tokio::time::{Instant, timeout};

use crate::accept::{accept, wait_until_visible};
use crate::app::App;
use crate::problem::Problem;

/// What became of the events of a request.
pub(crate) struct Receipt<'a> {
    /// One for each event, in order.
    pub(crate) items: Vec<Told<'a>>,
    /// What a question may give as `at_least`; empty if nothing is on stable storage yet.
    pub(crate) positions: Positions,
    /// What was waited for.
    pub(crate) until: Until,
}

/// What became of one event.
pub(crate) struct Told<'a> {
    /// Its id, given or made; of a rejected one whatever could be read.
    pub(crate) id: EventId<'a>,
    /// Its status, or why it was not taken.
    pub(crate) result: Result<&'static str, Rejection>,
}

impl Receipt<'_> {
    /// How many events were taken, or would be.
    pub(crate) fn taken(&self) -> usize {
        self.items.iter().filter(|item| item.result.is_ok()).count()
    }

    /// Why the first event that was not taken was not.
    pub(crate) fn first_rejection(&self) -> Option<&Rejection> {
        self.items.iter().find_map(|item| item.result.as_ref().err())
    }
}

/// Takes events in, as far as the options say. `since` is when the request was read, `permit` what it holds
/// of the admission budget.
pub(crate) async fn take<'a>(
    app: &Arc<App>,
    events: Events<'a>,
    options: &Options,
    since: Instant,
    permit: Permit,
) -> Result<Receipt<'a>, Problem> {
    let until = options.until()?;
    let limit = options.timeout()?;
    let work = pin!(async {
        match until {
            Until::Checked => Ok(held(events, until)),
            Until::Queued => Ok(queue(app, events, since, permit)),
            Until::Durable | Until::Visible => {
                let accepted = accept(app, events, since).await?;
                let outcomes = match until {
                    Until::Visible => outcomes(app, &accepted).await?,
                    _ => BTreeMap::new(),
                };
                Ok(settled(accepted, &outcomes, until))
            }
        }
    });
    match limit {
        None => work.await,
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| {
            let detail = "the answer took longer than `options.timeout_seconds`; \
                whether the events were accepted is unknown: send the same again";
            Err(Problem::new(ErrorCode::DeadlineExceeded, detail))
        }),
    }
}

/// The receipt of events that were checked.
fn held(events: Events<'_>, until: Until) -> Receipt<'_> {
    let status = if until == Until::Queued { "queued" } else { "valid" };
    let items = events.into_iter().map(|event| match event {
        Ok(event) => Told { id: event.id, result: Ok(status) },
        Err(rejection) => Told { id: EventId::new(rejection.id.clone()), result: Err(rejection) },
    });
    Receipt { items: items.collect(), positions: Positions::start(), until }
}

/// Has the valid events appended after the answer.
fn queue<'a>(app: &Arc<App>, events: Events<'a>, since: Instant, permit: Permit) -> Receipt<'a> {
    let valid = events.iter().filter_map(|event| event.as_ref().ok());
    let valid: Vec<_> = valid.map(|event| event.clone().into_owned()).collect();
    app.metrics.refused.add((events.len() - valid.len()) as u64);
    if !valid.is_empty() {
        let appending = Arc::clone(app);
        let count = valid.len() as u64;
        app.background.run(count, async move {
            let events = valid.into_iter().map(Ok).collect();
            if let Err(problem) = accept(&appending, events, since).await {
                appending.metrics.queued_lost.add(count);
                let reason = problem.detail();
                tracing::error!(events = count, reason, "cannot append events that were queued");
            }
            drop(permit);
        });
    }
    held(events, Until::Queued)
}

/// The receipt of events that were appended.
fn settled<'a>(
    accepted: Accepted<'a>,
    outcomes: &BTreeMap<Position, Outcome>,
    until: Until,
) -> Receipt<'a> {
    let items = accepted.items.into_iter().map(|item| {
        let status = |position| outcomes.get(&position).map_or("accepted", |o| o.as_str());
        Told { id: item.id, result: item.result.map(status) }
    });
    Receipt { items: items.collect(), positions: accepted.positions, until }
}

/// Waits until all that was acknowledged can be queried, then tells what became of each event.
async fn outcomes(
    app: &App,
    accepted: &Accepted<'_>,
) -> Result<BTreeMap<Position, Outcome>, Problem> {
    wait_until_visible(app, &app.services.ingest.durable()).await?;
    let mut ranges: BTreeMap<Partition, (u64, u64)> = BTreeMap::new();
    for position in accepted.items.iter().filter_map(|item| item.result.as_ref().ok()) {
        let range = ranges.entry(position.partition).or_insert((position.offset, position.offset));
        *range = (range.0.min(position.offset), range.1.max(position.offset));
    }
    let mut found = BTreeMap::new();
    for (partition, (first, last)) in ranges {
        // A request's events lie together, so the range is about as long as the request.
        let outcomes = app.services.store.outcomes(partition, first..last + 1).await?;
        for (offset, outcome) in (first..).zip(outcomes) {
            if let Some(outcome) = outcome {
                found.insert(Position { partition, offset }, outcome);
            }
        }
    }
    Ok(found)
}
