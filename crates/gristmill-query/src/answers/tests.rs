//! No answer is ever older than its question: readers of several processes and writers take turns
//! at every await, while the cache forgets, loses, and is brought back to older states.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_model::{Event, Outcome, PageCountQuery, Partition, ProjectId};
use gristmill_store::{
    Commit, Document, DocumentKey, MemoryStore, PageCount, Progress, Quarantined, Snapshot, Store,
    StoreError, StoreStats,
};
use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::cost::Basis;
use crate::testing::{batch, event};
use crate::{Cost, kept, page_count};

const USERS: [&str; 2] = ["a", "b"];
const PAGE: &str = "/x";

/// Lets others have their turn.
async fn turn() {
    let mut has_waited = false;
    poll_fn(|context| {
        context.waker().wake_by_ref();
        match std::mem::replace(&mut has_waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// A store that others use between any two steps.
struct Contended(MemoryStore);

impl Contended {
    async fn count(&self, user: &str) -> PageCount {
        self.0.page_count(&project(), user, PAGE).await.unwrap().unwrap()
    }
}

#[async_trait]
impl Store for Contended {
    async fn present(&self) -> Result<Option<Present>, StoreError> {
        turn().await;
        let present = self.0.present().await;
        turn().await;
        present
    }

    async fn page_count(
        &self,
        project: &ProjectId<'_>,
        user: &str,
        page_url: &str,
    ) -> Result<Option<PageCount>, StoreError> {
        turn().await;
        let count = self.0.page_count(project, user, page_url).await;
        turn().await;
        count
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.0.commit(commit).await
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }

    fn watch(&self) -> watch::Receiver<Progress> {
        self.0.watch()
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.0.snapshot().await
    }

    async fn outcomes(
        &self,
        partition: Partition,
        offsets: Range<u64>,
    ) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.0.outcomes(partition, offsets).await
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>, StoreError> {
        self.0.quarantined(limit).await
    }

    async fn put_document(
        &self,
        key: DocumentKey<'_>,
        expected: Option<u64>,
        body: String,
    ) -> Result<u64, StoreError> {
        self.0.put_document(key, expected, body).await
    }

    async fn remove_document(&self, key: DocumentKey<'_>, expected: u64) -> Result<(), StoreError> {
        self.0.remove_document(key, expected).await
    }

    async fn document(&self, key: DocumentKey<'_>) -> Result<Option<Document>, StoreError> {
        self.0.document(key).await
    }

    async fn documents(
        &self,
        project: &ProjectId<'_>,
        kind: &str,
    ) -> Result<Vec<Document>, StoreError> {
        self.0.documents(project, kind).await
    }
}

/// A cache that does everything its contract allows.
#[derive(Default)]
struct Unruly {
    held: Mutex<HashMap<String, Entry>>,
    dump: Mutex<HashMap<String, Entry>>,
    loses: AtomicBool,
}

#[async_trait]
impl Cache for Unruly {
    async fn get(&self, key: &str) -> Option<Entry> {
        turn().await;
        let entry = self.held.lock().unwrap().get(key).cloned();
        turn().await;
        entry
    }

    async fn put(&self, key: &str, entry: Entry) {
        turn().await;
        if !self.loses.load(SeqCst) {
            // Without a comparison: whoever asks must not need one.
            self.held.lock().unwrap().insert(key.to_owned(), entry);
        }
        turn().await;
    }

    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A process asks for a count: as a count, or as a text.
    Ask {
        process: usize,
        user: usize,
        is_text: bool,
    },
    /// One of the readers goes on to its next await.
    Go(usize),
    /// One of the readers stops waiting.
    Leave(usize),
    /// An event comes, a new one or a repeat.
    Commit {
        user: usize,
        is_new: bool,
    },
    Flush,
    Dump,
    Restore,
    Lose(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ask = (0..2_usize, 0..2_usize, any::<bool>());
    let ask = ask.prop_map(|(process, user, is_text)| Step::Ask { process, user, is_text });
    let commit = (0..2_usize, proptest::bool::weighted(0.8));
    let step = prop_oneof![
        40 => (0..8_usize).prop_map(Step::Go),
        4 => ask,
        2 => commit.prop_map(|(user, is_new)| Step::Commit { user, is_new }),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => prop_oneof![
            Just(Step::Flush),
            Just(Step::Dump),
            Just(Step::Restore),
            any::<bool>().prop_map(Step::Lose)
        ],
    ];
    proptest::collection::vec(step, 1..400)
}

struct Reader<'a> {
    user: usize,
    /// The count when it began to ask.
    least: u64,
    asking: Pin<Box<dyn Future<Output = u64> + 'a>>,
}

fn project() -> ProjectId<'static> {
    ProjectId::new("default")
}

async fn ask_count(store: &Contended, answers: &Answers, user: &str) -> u64 {
    let (user, page_url) = (user.to_owned(), PAGE.to_owned());
    let query = PageCountQuery { project: project(), user, page_url };
    page_count::look_up(store, Some(answers), &query).await.unwrap().unwrap()
}

async fn ask_text(store: &Contended, answers: &Answers, user: &str) -> u64 {
    let work = || async {
        turn().await;
        let PageCount { events, version } = store.count(user).await;
        turn().await;
        let mut cost = Cost::default();
        cost.basis.add(Some(&version));
        Ok::<_, ()>((Bytes::from(events.to_string()), cost))
    };
    let kept = kept::text(store, Some(answers), user.as_bytes(), work).await.unwrap();
    std::str::from_utf8(&kept.text).unwrap().parse().unwrap()
}

/// Takes the steps and gives how many answers were kept ones.
fn run(steps: &[Step]) -> Result<u64, TestCaseError> {
    let store = Contended(MemoryStore::new(1));
    let cache = Arc::new(Unruly::default());
    let processes = [0, 1].map(|_| Answers::new(Arc::clone(&cache) as Arc<dyn Cache>));
    let (mut counts, mut next) = ([0_u64; 2], 0);
    let mut readers: Vec<Reader<'_>> = Vec::new();
    let go = |reader: &mut Reader<'_>, counts: &[u64; 2]| {
        let polled = reader.asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answer) = polled else { return Ok(false) };
        let range = reader.least..=counts[reader.user];
        prop_assert!(range.contains(&answer), "{answer} is not in {range:?}");
        Ok(true)
    };
    for step in steps {
        match *step {
            Step::Ask { process, user, is_text } if readers.len() < 8 => {
                let (store, answers) = (&store, &processes[process]);
                let asking: Pin<Box<dyn Future<Output = u64>>> = match is_text {
                    true => Box::pin(ask_text(store, answers, USERS[user])),
                    false => Box::pin(ask_count(store, answers, USERS[user])),
                };
                readers.push(Reader { user, least: counts[user], asking });
            }
            Step::Go(number) if !readers.is_empty() => {
                let number = number % readers.len();
                if go(&mut readers[number], &counts)? {
                    drop(readers.remove(number));
                }
            }
            Step::Leave(number) if number < readers.len() => drop(readers.remove(number)),
            Step::Commit { user, is_new } => {
                counts[user] += u64::from(is_new);
                let id = if is_new { format!("{next}") } else { "repeat".to_owned() };
                let page_url = if is_new { PAGE } else { "" };
                let event = Event { page_url: page_url.into(), ..event(USERS[user], id, 1) };
                let commit = store.0.commit(batch(next, &[event]));
                futures_now(commit).unwrap();
                next += 1;
            }
            Step::Flush => cache.held.lock().unwrap().clear(),
            Step::Dump => cache.dump.lock().unwrap().clone_from(&cache.held.lock().unwrap()),
            Step::Restore => cache.held.lock().unwrap().clone_from(&cache.dump.lock().unwrap()),
            Step::Lose(loses) => cache.loses.store(loses, SeqCst),
            Step::Ask { .. } | Step::Go(_) | Step::Leave(_) => {}
        }
    }
    for _ in 0..10_000 {
        let Some(mut reader) = readers.pop() else { break };
        if !go(&mut reader, &counts)? {
            readers.insert(0, reader);
        }
    }
    prop_assert!(readers.is_empty(), "some wait for ever");
    let is_clear = |process: &Answers| process.flights().is_empty();
    prop_assert!(processes.iter().all(is_clear), "flights are left");
    Ok(processes.iter().map(|process| process.stats().hits).sum())
}

fn futures_now<T>(work: impl Future<Output = T>) -> T {
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn no_answer_is_older_than_its_question() {
    let kept = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 1_000, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        kept.fetch_add(run(&steps)? as usize, SeqCst);
    });
    assert!(kept.into_inner() > 1_000, "hardly an answer was kept, so this shows nothing");
}

#[tokio::test]
async fn equal_questions_at_once_are_worked_out_once() {
    let store = Contended(MemoryStore::new(1));
    store.commit(batch(0, &[event("a", "1".to_owned(), 1)])).await.unwrap();
    let answers = Answers::new(Arc::new(Unruly::default()));
    let present = store.0.present().await.unwrap().unwrap();
    let worked = AtomicUsize::new(0);
    let ask = |result: Option<&'static str>| {
        let (present, worked, answers) = (&present, &worked, &answers);
        async move {
            let work = || async move {
                worked.fetch_add(1, SeqCst);
                tokio::task::yield_now().await;
                let version = present.version().clone();
                result.map(|value| Entry { version, value: value.into() }).ok_or(())
            };
            let question = Question { present, key: "k", identity: b"k", holds: |_: &Entry| true };
            answers.answer(question, work).await.map(|(entry, _)| entry.value)
        }
    };
    let all = tokio::join!(ask(None), ask(None), ask(None));
    assert_eq!(all, (Err(()), Err(()), Err(())));
    assert_eq!(worked.swap(0, SeqCst), 3, "what may not be shared is worked out by everybody");
    let (one, two, three) = tokio::join!(ask(Some("7")), ask(Some("8")), ask(Some("9")));
    assert!(one.is_ok() && one == two && two == three, "{one:?} {two:?} {three:?}");
    assert_eq!(worked.swap(0, SeqCst), 1);
    assert_eq!(ask(Some("0")).await, one);
    assert_eq!(worked.into_inner(), 0);
    assert_eq!((answers.stats().hits, answers.stats().misses), (1, 6));
    assert!(answers.flights().is_empty());
}

#[tokio::test]
async fn what_follows_from_more_than_the_store_is_not_kept() {
    let store = Contended(MemoryStore::new(1));
    let answers = Answers::new(Arc::new(Unruly::default()));
    let asked = AtomicUsize::new(0);
    for expected in ["0", "1"] {
        let work = || async {
            let number = asked.fetch_add(1, SeqCst);
            let cost = Cost { basis: Basis::More, ..Cost::default() };
            Ok::<_, ()>((Bytes::from(number.to_string()), cost))
        };
        let kept = kept::text(&store, Some(&answers), b"question", work).await.unwrap();
        assert_eq!((&*kept.text, kept.source), (expected.as_bytes(), Some(Source::WorkedOut)));
    }
}
