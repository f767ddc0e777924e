//! One lane over HTTP: a request at a time, so that the events of a user stay in order.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::courier::{Courier, Effort, Refusals, Stuck};
use super::queue::Batch;
use super::report::Fate;
use super::shared::Shared;
use super::spill::{Spill, SpillError};
use crate::Client;

/// Sends what comes into a lane, for as long as it is polled.
pub(super) async fn run(shared: Arc<Shared>, client: Client, lane: usize) {
    let Some(queue) = shared.queues.get(lane) else { return };
    let courier = Courier { shared: Arc::clone(&shared), client };
    loop {
        let batch = queue.next().await;
        let mut fate = Fate::default();
        match &shared.spill {
            None => carry(&courier, &batch, &mut fate).await,
            Some(spill) => carry_or_keep(&courier, spill, &batch, &mut fate).await,
        }
        shared.settle(queue, &batch, fate);
    }
}

/// Sends again what lies on disk, for as long as it is polled.
pub(super) async fn replay(shared: Arc<Shared>, spill: Arc<Spill>, client: Client) {
    let courier = Courier { shared: Arc::clone(&shared), client };
    let mut failures = 0;
    loop {
        let record = match spill.first().await {
            Ok(record) => record,
            Err(error) => {
                failures += 1;
                let wait = shared.backoff().wait(failures, None, shared.entropy.next_u128());
                tracing::error!(%error, ?wait, "cannot read kept events, trying again");
                shared.failed(&error.to_string());
                sleep(wait).await;
                continue;
            }
        };
        failures = 0;
        let mut fate = Fate::default();
        let effort = Effort { until: None, refusals: Refusals::Temporary };
        // Without an end there is nothing that could be stuck.
        if courier.carry(record.piece.clone(), effort, &mut fate).await.is_ok() {
            shared.outcomes.tell(fate);
            spill.acknowledge(record).await;
        }
    }
}

async fn carry(courier: &Courier, batch: &Batch, fate: &mut Fate) {
    let until = Some(batch.since + courier.shared.config.give_up_after);
    let effort = Effort { until, refusals: Refusals::Final };
    batch.goes_out();
    if let Err(stuck) = courier.carry(batch.piece.clone(), effort, fate).await {
        stuck.give_up(fate);
    }
}

/// Sends a batch, or puts it behind those on disk: whenever there are some, for the order's sake, or
/// when the server has been away for some time.
async fn carry_or_keep(courier: &Courier, spill: &Arc<Spill>, batch: &Batch, fate: &mut Fate) {
    let piece = batch.piece.clone();
    let mut stuck = Stuck { piece, error: "the spill is full".into(), may_have_arrived: false };
    if spill.is_empty() {
        let until = Some(Instant::now() + spill.config().after);
        let effort = Effort { until, refusals: Refusals::Temporary };
        batch.goes_out();
        match courier.carry(stuck.piece, effort, fate).await {
            Ok(()) => return,
            Err(still) => stuck = still,
        }
    }
    let until = batch.since + courier.shared.config.give_up_after;
    if let Some(stuck) = keep(courier, spill, stuck, until, fate).await {
        stuck.give_up(fate);
    }
}

/// Puts events on disk, and waits for room; gives them back if that takes too long.
async fn keep(
    courier: &Courier,
    spill: &Arc<Spill>,
    stuck: Stuck,
    until: Instant,
    fate: &mut Fate,
) -> Option<Stuck> {
    let mut failures = 0;
    loop {
        let room = spill.subscribe();
        match spill.keep(stuck.piece.clone()).await {
            Ok(()) => return None,
            Err(SpillError::Full) if Instant::now() >= until => return Some(stuck),
            Err(SpillError::Full) => {
                let freed = async {
                    let mut room = room;
                    // The spill outlives its subscribers.
                    let _ = room.changed().await;
                };
                if timeout_at(until, freed).await.is_err() {
                    return Some(stuck);
                }
            }
            Err(SpillError::Io(error)) => {
                tracing::error!(%error, "cannot keep events on disk");
                if spill.is_empty() {
                    let effort = Effort { until: Some(until), refusals: Refusals::Temporary };
                    let went_out = stuck.may_have_arrived;
                    let stuck = courier.carry(stuck.piece, effort, fate).await.err()?;
                    let may_have_arrived = stuck.may_have_arrived || went_out;
                    return Some(Stuck { may_have_arrived, ..stuck });
                }
                // Those on disk are older, and go first.
                failures += 1;
                let shared = &courier.shared;
                let wait = shared.backoff().wait(failures, None, shared.entropy.next_u128());
                if Instant::now() + wait >= until {
                    return Some(stuck);
                }
                sleep(wait).await;
            }
        }
    }
}
