use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

use gristmill_model::{Positions, ProjectId};
use gristmill_store::{BatchUsers, Dictionary, UserCursor};
use tokio::sync::Semaphore;

use super::*;
use crate::testing::all;

/// A snapshot whose shards all have the same number of users with one event each.
struct Crowd {
    committed: Positions,
    shards: u32,
    users: usize,
    /// Some walks must be under way at once, or none comes far.
    together: Barrier,
    walks: AtomicUsize,
    most_walks: AtomicUsize,
    begun: Semaphore,
    ended: mpsc::SyncSender<()>,
}

struct CrowdCursor<'a> {
    crowd: &'a Crowd,
    left: usize,
    one: BatchUsers,
}

impl Snapshot for Crowd {
    fn committed(&self) -> &Positions {
        &self.committed
    }

    fn shards(&self) -> u32 {
        self.shards
    }

    fn scan(&self, _: u32, _: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        let walks = self.walks.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_walks.fetch_max(walks, Ordering::SeqCst);
        self.together.wait();
        self.begun.add_permits(1);
        let mut one = BatchUsers::default();
        one.push("u", 1);
        Ok(Box::new(CrowdCursor { crowd: self, left: self.users, one }))
    }

    fn shard_of(&self, _: &ProjectId<'_>, _: &str) -> u32 {
        0
    }
}

impl UserCursor for CrowdCursor<'_> {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let events = Events {
            rows: 1,
            times: &[0],
            hours: &[],
            counts: &[],
            columns: Vec::new().into(),
            numbers: Vec::new().into(),
            dictionaries: Dictionaries::of(&[]),
        };
        Ok(Some(UserBatch::new(&self.one, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &[]
    }
}

impl Drop for CrowdCursor<'_> {
    fn drop(&mut self) {
        self.crowd.walks.fetch_sub(1, Ordering::SeqCst);
        let _ = self.crowd.ended.try_send(());
    }
}

fn view(shards: u32, users: usize) -> (View, Arc<Crowd>, mpsc::Receiver<()>) {
    view_with(2, shards, users)
}

/// A view of a crowd in which so many walks must be under way at once.
fn view_with(together: usize, shards: u32, users: usize) -> (View, Arc<Crowd>, mpsc::Receiver<()>) {
    let (ended, endings) = mpsc::sync_channel(100);
    let crowd = Arc::new(Crowd {
        committed: Positions::start(),
        shards,
        users,
        together: Barrier::new(together),
        walks: AtomicUsize::new(0),
        most_walks: AtomicUsize::new(0),
        begun: Semaphore::new(0),
        ended,
    });
    let snapshot: Arc<dyn Snapshot> = Arc::clone(&crowd) as _;
    (
        View { snapshot, threads: Arc::new(Threads::new(2)), cohorts: QuestionCohorts::default() },
        crowd,
        endings,
    )
}

/// Counts users, and refuses to count more than some.
struct Count {
    users: usize,
    most: usize,
}

impl Fold for Count {
    type Partial = usize;

    fn finish(self, _: Dictionaries<'_>) -> usize {
        self.users
    }

    fn merge(into: &mut usize, other: usize) {
        *into += other;
    }
}

impl UserFold for Count {
    fn user(&mut self, _: &UserRun<'_>) -> Result<(), QueryError> {
        self.users += 1;
        (self.users <= self.most).then_some(()).ok_or(QueryError::Invalid("many".to_owned()))
    }
}

#[tokio::test]
async fn shards_are_walked_in_parallel_on_the_threads_there_are() {
    let (view, crowd, endings) = view(8, 1_000);
    let plan = Plan::new(&all()).unwrap();
    let count = view.fold(&plan, || Count { users: 0, most: 1_000 }).await.unwrap();
    assert_eq!(count, 8_000);
    assert_eq!(crowd.most_walks.load(Ordering::SeqCst), 2);
    assert_eq!(endings.try_iter().count(), 8);
    assert_eq!(view.threads.free(), 2);
}

#[tokio::test]
async fn walks_end_when_nobody_waits() {
    let (view, crowd, endings) = view(2, usize::MAX);
    let plan = Plan::new(&all()).unwrap();
    tokio::select! {
        _ = view.fold(&plan, || Count { users: 0, most: usize::MAX }) => {
            panic!("the walks have no end of their own");
        }
        begun = crowd.begun.acquire_many(2) => drop(begun.unwrap()),
    }
    endings.recv().unwrap();
    endings.recv().unwrap();
}

/// Counts events of a crowd, which has no end.
struct CountEvents;

impl Fold for CountEvents {
    type Partial = Span;

    fn finish(self, _: Dictionaries<'_>) -> Span {
        None
    }

    fn merge(_: &mut Span, _: Span) {}
}

impl EventFold for CountEvents {
    fn events(&mut self, _: &Events<'_>) -> Result<(), QueryError> {
        Ok(())
    }
}

#[tokio::test]
async fn walks_through_events_end_when_nobody_waits() {
    for through in [Walk::through_events, Walk::span] {
        let (view, crowd, endings) = view(2, usize::MAX);
        let plan = Plan::new(&all()).unwrap();
        tokio::select! {
            _ = view.through_shards(&plan, || CountEvents, through) => {
                panic!("the walks have no end of their own");
            }
            begun = crowd.begun.acquire_many(2) => drop(begun.unwrap()),
        }
        endings.recv().unwrap();
        endings.recv().unwrap();
    }
}

/// Counts users, and refuses a sum of more than 5,000.
struct FewTogether(Count);

impl Fold for FewTogether {
    type Partial = usize;

    fn finish(self, dictionaries: Dictionaries<'_>) -> usize {
        self.0.finish(dictionaries)
    }

    fn merge(into: &mut usize, other: usize) {
        Count::merge(into, other);
    }

    fn check(sum: &usize) -> Result<(), QueryError> {
        (*sum <= 5_000).then_some(()).ok_or(QueryError::Invalid("many together".to_owned()))
    }
}

impl UserFold for FewTogether {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        self.0.user(run)
    }
}

#[tokio::test]
async fn what_walks_find_together_is_bounded_before_all_of_them_have_ended() {
    let plan = Plan::new(&all()).unwrap();
    let start = || FewTogether(Count { users: 0, most: 1_000 });
    let (few, _crowd, _endings) = view_with(1, 4, 1_000);
    assert_eq!(few.fold(&plan, start).await.unwrap(), 4_000);
    let (many, _crowd, endings) = view_with(1, 50, 1_000);
    let error = many.fold(&plan, start).await.unwrap_err();
    assert_eq!(error.to_string(), "many together");
    assert!(endings.try_iter().count() < 20, "the others were not begun");
}

#[tokio::test]
async fn an_error_in_one_walk_ends_the_others() {
    let (view, _crowd, endings) = view(2, usize::MAX);
    let plan = Plan::new(&all()).unwrap();
    let most = AtomicUsize::new(10);
    // The first walk gives up after ten users, the second never.
    let start = || Count { users: 0, most: most.swap(usize::MAX, Ordering::SeqCst) };
    let error = view.fold(&plan, start).await.unwrap_err();
    assert_eq!(error.to_string(), "many");
    endings.recv().unwrap();
    endings.recv().unwrap();
}
