//! One task for each distinct question, and how often it may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{ErrorCode, Positions, limits};
use gristmill_query::{Recall, RecallRoom, measured};
use http::Method;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::app::App;
use crate::problem::Problem;

/// The shortest time between two answers to a question.
const SHORTEST_REST: Duration = Duration::from_millis(100);
/// A question rests at least so many times as long as its last answer took, unless that was the first
/// one, of which something is kept that makes the next one quicker.
const REST_PER_ANSWER: u32 = 4;
/// And so many times as long for each question that is asked, so that all of them together take
/// less than half of what one plain question after the other would.
const REST_PER_TOPIC: u32 = 2;
/// How many live questions are answered at a time, so that they leave room for plain ones.
const TURNS: usize = 2;

/// A question that can be asked again and again.
#[async_trait]
pub(crate) trait Question: Send + Sync {
    /// What makes it equal to another one.
    fn key(&self) -> Key;

    /// The answer as it is now.
    async fn ask(&self) -> Result<Bytes, Problem>;

    /// Whether two answers say the same of the events.
    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        one == other
    }

    /// An answer as its readers are sent it.
    fn data(&self, answer: &Bytes) -> Bytes {
        answer.clone()
    }

    /// When it is asked again.
    fn pace(&self) -> Pace {
        Pace { rest: SHORTEST_REST, patience: None }
    }
}

/// When a question is asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The shortest time between two answers.
    pub(crate) rest: Duration,
    /// How long an answer holds without a commit; `None` where it follows from the events only.
    pub(crate) patience: Option<Duration>,
}

/// What makes two questions equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) project: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// In the order of their names; those of one name as they were given.
    pub(crate) parameters: Vec<String>,
    pub(crate) body: Bytes,
}

/// All questions that somebody listens to.
pub(crate) struct Hub {
    places: Arc<Semaphore>,
    turns: Semaphore,
    room: RecallRoom,
    topics: Mutex<HashMap<Key, Weak<Topic>>>,
}

impl Default for Hub {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(limits::LIVE_SUBSCRIPTIONS));
        Self {
            places,
            turns: Semaphore::new(TURNS),
            room: RecallRoom::of(limits::RECALL_BYTES),
            topics: Mutex::default(),
        }
    }
}

impl Hub {
    /// Room for one subscription, if there is any.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let most = limits::LIVE_SUBSCRIPTIONS;
            let detail = format!("{most} subscriptions are open and there is no room for more");
            Problem::new(ErrorCode::Overloaded, detail)
        })
    }

    /// Waits until one more live question may be answered.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// The topic of a question, which begins with its first subscription.
    pub(super) fn topic(&self, app: &Arc<App>, question: Box<dyn Question>) -> Arc<Topic> {
        let mut topics = self.topics();
        topics.retain(|_, topic| topic.strong_count() > 0);
        let key = question.key();
        let open = topics.get(&key).and_then(Weak::upgrade).filter(|topic| topic.is_open());
        open.unwrap_or_else(|| {
            let topic = Arc::new(Topic::begin(app, question));
            topics.insert(key, Arc::downgrade(&topic));
            topic
        })
    }

    /// How long a question rests when its answer took so long.
    fn rest(&self, took: Duration) -> Duration {
        let topics = self.topics().values().filter(|topic| topic.strong_count() > 0).count();
        rest(took, topics as u32)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Key, Weak<Topic>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rest(took: Duration, topics: u32) -> Duration {
    let times = REST_PER_ANSWER.max(REST_PER_TOPIC.saturating_mul(topics));
    SHORTEST_REST.max(took.saturating_mul(times))
}

/// What a topic has to tell: nothing before the first answer, nothing more after a problem.
pub(super) type News = Option<Result<Revision, Problem>>;

/// An answer that differs from the one before.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// Counts from 1 within the topic.
    pub(super) number: u64,
    /// The answer has been this one at least since here.
    pub(super) since: Positions,
    /// It includes everything below.
    pub(crate) covered: Positions,
    /// The answer as readers are sent it.
    pub(crate) data: Bytes,
}

/// A question that is asked for as long as the topic lives.
pub(super) struct Topic {
    news: watch::Receiver<News>,
    _asking: JoinSet<()>,
}

impl Topic {
    fn begin(app: &Arc<App>, question: Box<dyn Question>) -> Self {
        let (sender, news) = watch::channel(None);
        let mut asking = JoinSet::new();
        asking.spawn(keep_asking(Arc::clone(app), question, sender));
        Self { news, _asking: asking }
    }

    /// What it tells, always the newest.
    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }

    fn is_open(&self) -> bool {
        self.news.has_changed().is_ok()
    }
}

/// Asks at once, and again after each commit, or when the answer holds no longer, as soon as the
/// question has rested.
async fn keep_asking(app: Arc<App>, question: Box<dyn Question>, news: watch::Sender<News>) {
    let mut progress = app.services.store.watch();
    let mut newest: Option<(Revision, Bytes)> = None;
    let pace = question.pace();
    let recall = Recall::new(&app.live.room);
    loop {
        let Some(turn) = app.live.turn().await else { return };
        // The snapshot is taken later and may include more.
        let covered = progress.borrow().committed.clone();
        let begun = Instant::now();
        let (answer, cost) = measured(recall.during(question.ask())).await;
        let took = begun.elapsed().saturating_sub(cost.waited);
        drop(turn);
        app.metrics.live_answers.add(1);
        app.metrics.live_rows.add(cost.work.rows);
        let text = match answer {
            Ok(text) => text,
            Err(problem) => {
                news.send_replace(Some(Err(problem)));
                return;
            }
        };
        let is_first = newest.is_none();
        let revision = match newest.take() {
            Some((newest, old)) if question.is_same(&old, &text) => Revision { covered, ..newest },
            older => Revision {
                number: older.map_or(0, |(older, _)| older.number) + 1,
                since: progress.borrow().committed.clone(),
                covered,
                data: question.data(&text),
            },
        };
        let covered = revision.covered.clone();
        news.send_replace(Some(Ok(revision.clone())));
        newest = Some((revision, text));
        // If something is kept of the first answer, the next one takes less time.
        let is_prepared = is_first && recall.keeps_any();
        let rest = if is_prepared { SHORTEST_REST } else { app.live.rest(took) };
        sleep(rest.max(pace.rest)).await;
        let changed = progress.wait_for(|progress| progress.committed != covered);
        let waited = match pace.patience {
            None => changed.await.map(|_| ()),
            Some(patience) => {
                timeout(patience, changed).await.map_or(Ok(()), |waited| waited.map(|_| ()))
            }
        };
        if waited.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_together_take_less_than_half() {
        let took = Duration::from_millis(50);
        assert_eq!(rest(Duration::ZERO, 1), SHORTEST_REST);
        assert_eq!(rest(took, 1), took * 4);
        for topics in 1..=256 {
            let share = took.as_secs_f64() / (took + rest(took, topics)).as_secs_f64();
            assert!(share * f64::from(topics) < 0.5, "{topics}");
        }
    }
}
