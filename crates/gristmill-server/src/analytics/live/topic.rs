//! One task for each distinct question, and how often it may ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use gristmill_model::{ErrorCode, Positions, limits};
use gristmill_query::measured;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::question::{Key, Question};
use crate::app::App;
use crate::problem::Problem;

/// The shortest time between two answers to a question.
const SHORTEST_REST: Duration = Duration::from_millis(100);
/// A question rests at least so many times as long as its last answer took.
const REST_PER_ANSWER: u32 = 4;
/// And so many times as long for each question that is asked, so that all of them together take
/// less than half of what one plain question after the other would.
const REST_PER_TOPIC: u32 = 2;
/// How many live questions are answered at a time, so that they leave room for plain ones.
const TURNS: usize = 2;
/// The members of an answer, and of its `metadata`, that say nothing of the events.
const PASSING: [&str; 2] = ["last_updated", "processing_time"];

/// All questions that somebody listens to.
pub(crate) struct Hub {
    places: Arc<Semaphore>,
    turns: Semaphore,
    topics: Mutex<HashMap<Key, Weak<Topic>>>,
}

impl Default for Hub {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(limits::LIVE_SUBSCRIPTIONS));
        Self { places, turns: Semaphore::new(TURNS), topics: Mutex::default() }
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
    pub(super) fn topic(&self, app: &Arc<App>, question: Question) -> Arc<Topic> {
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
pub(super) struct Revision {
    /// Counts from 1 within the topic.
    pub(super) number: u64,
    /// The answer has been this one at least since here.
    pub(super) since: Positions,
    /// It includes everything below.
    pub(super) covered: Positions,
    /// The answer as the data of an event, with the event's end.
    pub(super) data: Bytes,
}

/// A question that is asked for as long as the topic lives.
pub(super) struct Topic {
    news: watch::Receiver<News>,
    _asking: JoinSet<()>,
}

impl Topic {
    fn begin(app: &Arc<App>, question: Question) -> Self {
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

/// Asks at once, and again after each commit as soon as the question has rested.
async fn keep_asking(app: Arc<App>, question: Question, news: watch::Sender<News>) {
    let mut progress = app.services.store.watch();
    let mut newest: Option<(Revision, Bytes)> = None;
    loop {
        let Some(turn) = app.live.turn().await else { return };
        // The snapshot is taken later and may include more.
        let covered = progress.borrow().committed.clone();
        let begun = Instant::now();
        let (answer, cost) = measured(question.ask()).await;
        let took = begun.elapsed().saturating_sub(cost.waited);
        drop(turn);
        app.metrics.live_answers.add(1);
        let text = match answer {
            Ok(text) => text,
            Err(problem) => {
                news.send_replace(Some(Err(problem)));
                return;
            }
        };
        let revision = match newest.take() {
            Some((newest, old)) if is_same(&old, &text) => Revision { covered, ..newest },
            older => Revision {
                number: older.map_or(0, |(older, _)| older.number) + 1,
                since: progress.borrow().committed.clone(),
                covered,
                data: data(&text),
            },
        };
        let covered = revision.covered.clone();
        news.send_replace(Some(Ok(revision.clone())));
        newest = Some((revision, text));
        sleep(app.live.rest(took)).await;
        if progress.wait_for(|progress| progress.committed != covered).await.is_err() {
            return;
        }
    }
}

/// Whether two answers say the same of the events.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one == other || lasting(one).is_some_and(|lasting_one| Some(lasting_one) == lasting(other))
}

/// The members of an answer that say something of the events, `metadata` apart from the others.
fn lasting(text: &[u8]) -> Option<[BTreeMap<String, &str>; 2]> {
    let mut answer = members(text)?;
    let metadata = answer.remove("metadata").and_then(|text| members(text.as_bytes()));
    Some([answer, metadata.unwrap_or_default()])
}

fn members(text: &[u8]) -> Option<BTreeMap<String, &str>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(text).ok()?;
    let lasting = members.into_iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
    Some(lasting.map(|(name, value)| (name, value.get())).collect())
}

/// A text as the data of an event, with the event's end. A text of several lines, which
/// properties kept as they were sent can have, is put together again by the client.
fn data(text: &[u8]) -> Bytes {
    let mut data = Vec::with_capacity(text.len() + 8);
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        data.extend_from_slice(b"data: ");
        data.extend_from_slice(line);
        data.push(b'\n');
    }
    data.push(b'\n');
    data.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_by_what_they_say_of_the_events() {
        let same = |one: &str, other: &str| is_same(one.as_bytes(), other.as_bytes());
        let answer = r#"{"n":1,"last_updated":"1","metadata":{"a":1,"processing_time":"1s"}}"#;
        assert!(same(answer, answer));
        assert!(same(answer, &answer.replace("\"1\"", "\"2\"").replace("1s", "2s")));
        assert!(!same(answer, &answer.replace("\"n\":1", "\"n\":2")));
        assert!(!same(answer, &answer.replace("\"a\":1", "\"a\":2")));
        // A name that a client chose is no name of ours.
        assert!(!same(
            r#"{"labels":{"processing_time":"1s"}}"#,
            r#"{"labels":{"processing_time":"2s"}}"#
        ));
        assert!(same("[1]", "[1]"));
        assert!(!same("[1]", "[2]"));
    }

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

    #[test]
    fn lines_are_data_of_their_own() {
        assert_eq!(data(b"{}"), "data: {}\n\n");
        assert_eq!(data(b"{\r\n}"), "data: {\ndata: \ndata: }\n\n");
    }
}
