//! Metrics as they change.
//!
//! They are looked at once a second, and those of events only if there was a commit, under the bounds of
//! live questions. Nothing is looked at before the listener has taken what was found, so nothing queues up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{ErrorCode, Positions};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::{Question, Reading, Source, of_events, of_process};
use crate::app::App;
use crate::metrics::Entered;
use crate::problem::Problem;

/// How long metrics rest at least.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// They rest at least so many times as long as the events took to be asked.
const REST_PER_ANSWER: u32 = 4;
/// And so many times as long for each subscription, so that all of them together take less than half.
const REST_PER_SUBSCRIPTION: u32 = 2;

/// What somebody hears who listens to metrics: each as it is, and again whenever its value has changed.
pub(crate) struct Changes {
    app: Arc<App>,
    question: Question,
    known: HashMap<Identity, Option<f64>>,
    /// What was found and not told yet.
    found: VecDeque<Reading>,
    /// What the metrics of events follow from.
    covered: Option<Positions>,
    next: Instant,
    is_over: bool,
    _place: (OwnedSemaphorePermit, Entered),
}

/// What makes two readings those of one metric.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    source: Source,
    name: String,
    unit: String,
    labels: BTreeMap<String, String>,
}

impl Changes {
    /// Begins to listen. What is wrong with the question is told here.
    pub(crate) async fn begin(app: Arc<App>, question: Question) -> Result<Self, Problem> {
        question.check()?;
        let place = (app.live.place()?, app.metrics.live_subscriptions.enter());
        let mut changes = Self {
            app,
            question,
            known: HashMap::new(),
            found: VecDeque::new(),
            covered: None,
            next: Instant::now(),
            is_over: false,
            _place: place,
        };
        changes.look().await?;
        Ok(changes)
    }

    /// What is to be told next; a problem is the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Reading, Problem>> {
        let draining = self.app.draining.clone();
        while !self.is_over {
            if let Some(reading) = self.found.pop_front() {
                return Some(Ok(reading));
            }
            let looked = tokio::select! {
                biased;
                () = draining.cancelled() => Err(stopping()),
                looked = self.look_in_time() => looked,
            };
            if let Err(problem) = looked {
                self.is_over = true;
                return Some(Err(problem));
            }
        }
        None
    }

    async fn look_in_time(&mut self) -> Result<(), Problem> {
        sleep_until(self.next).await;
        self.look().await
    }

    async fn look(&mut self) -> Result<(), Problem> {
        let began = Instant::now();
        self.next = began + SHORTEST_REST;
        for reading in of_process(&self.app, &self.question) {
            self.take(reading);
        }
        let committed = self.app.services.store.progress().committed;
        if self.covered.as_ref() == Some(&committed) {
            return Ok(());
        }
        let app = Arc::clone(&self.app);
        let turn = app.live.turn().await;
        let began = Instant::now();
        let readings = of_events(&app, &self.question).await?;
        drop(turn);
        app.metrics.live_answers.add(1);
        self.covered = Some(committed);
        let rest = rest(began.elapsed(), app.metrics.live_subscriptions.get());
        self.next = Instant::now() + rest;
        readings.into_iter().for_each(|reading| self.take(reading));
        Ok(())
    }

    /// Has a reading told if it is news.
    fn take(&mut self, reading: Reading) {
        let identity = Identity {
            source: reading.source,
            name: reading.name.clone(),
            unit: reading.unit.clone(),
            labels: reading.labels.clone(),
        };
        if self.known.insert(identity, reading.value) != Some(reading.value) {
            self.found.push_back(reading);
        }
    }
}

fn rest(took: Duration, subscriptions: u64) -> Duration {
    let subscriptions = u32::try_from(subscriptions).unwrap_or(u32::MAX);
    let times = REST_PER_ANSWER.max(REST_PER_SUBSCRIPTION.saturating_mul(subscriptions));
    SHORTEST_REST.max(took.saturating_mul(times))
}

fn stopping() -> Problem {
    Problem::new(ErrorCode::NotReady, "the server is stopping: listen again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_together_take_less_than_half() {
        assert_eq!(rest(Duration::ZERO, 1), SHORTEST_REST);
        let took = Duration::from_secs(2);
        for subscriptions in 1..=256 {
            let share = took.as_secs_f64() / (took + rest(took, subscriptions)).as_secs_f64();
            assert!(share * (subscriptions as f64) < 0.5, "{subscriptions}");
        }
    }
}
