//! Questions that are asked again and again: what was found in each piece of the users is kept, and
//! only pieces that have changed are walked through again. See docs/adr/0020.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill_store::{Dictionaries, Scan, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{BatchFold, StopOnDrop, View, Walk};
use crate::QueryError;
use crate::select::{Matcher, Plan};

#[cfg(test)]
mod tests;

tokio::task_local! {
    static RECALL: Arc<Recall>;
}

/// The most walks that are kept for one question.
const WALKS: usize = 8;
/// What room is counted in, in bytes.
const ROOM_UNIT: usize = 1 << 10;
/// A walk may find one of so many parts of the room: what it found is kept joined as well, and others
/// need room too.
const SHARE_OF_ROOM: usize = 4;
/// A question for whose results there is no room keeps nothing for so many answers.
const NO_ROOM_FOR: u32 = 64;
/// The results of so many pieces are joined and kept, so that few are joined when one changes.
const PIECES_JOINED: usize = 64;
/// If more than one of so many pieces has changed, all are walked through.
const SHARE_CHANGED: usize = 4;

/// A question whose results can be kept for each piece of the users.
pub(crate) trait PieceFold: BatchFold<Partial: Clone> {
    /// What may differ from one answer to the same question to the next and results depend on, beside
    /// the walk and the events.
    type Setting: PartialEq + Send + 'static;

    /// What decides which events count. It remembers what it has decided about the texts of a walk,
    /// so the folds of the walk's pieces hand it on.
    fn matcher(&mut self) -> &mut Matcher;

    /// About how many bytes a result takes.
    fn bytes(partial: &Self::Partial) -> usize;
}

/// The memory that several questions may take together for what they keep.
#[derive(Clone, Debug)]
pub struct RecallRoom {
    bytes: usize,
    left: Arc<Semaphore>,
}

impl RecallRoom {
    /// So many bytes.
    pub fn of(bytes: usize) -> Self {
        Self { bytes, left: Arc::new(Semaphore::new(bytes / ROOM_UNIT)) }
    }
}

/// What one question that is asked again and again keeps from one answer to the next. Answers are the
/// same without it.
pub struct Recall {
    room: RecallRoom,
    walks: Mutex<Vec<Kept>>,
    /// How many answers keep nothing yet, because there was no room.
    without_room: AtomicU32,
}

/// A walk that is kept.
struct Kept {
    walked: Box<dyn Any + Send>,
    /// Whether the answer at hand has used it.
    is_used: bool,
}

impl Recall {
    /// Nothing yet.
    pub fn new(room: &RecallRoom) -> Arc<Self> {
        let (walks, without_room) = Default::default();
        Arc::new(Self { room: room.clone(), walks, without_room })
    }

    /// Runs a future that asks the question, which must be the same each time. Questions of tasks
    /// that it spawns keep nothing.
    pub async fn during<T>(self: &Arc<Self>, future: impl Future<Output = T>) -> T {
        let answer = RECALL.scope(Arc::clone(self), future).await;
        let _ = self.without_room.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let mut walks = self.walks();
        // Walks through other ranges or into other buckets will not be asked for again.
        walks.retain(|kept| kept.is_used);
        walks.iter_mut().for_each(|kept| kept.is_used = false);
        answer
    }

    /// Whether anything is kept, so that the next answer may take less time.
    pub fn keeps_any(&self) -> bool {
        !self.walks().is_empty()
    }

    /// That of the question that is being asked, if it has one and there may be room.
    fn current() -> Option<Arc<Self>> {
        RECALL.try_with(Arc::clone).ok().filter(|recall| recall.without_room.load(Relaxed) == 0)
    }

    /// Takes out what is kept of a walk through so many pieces.
    fn take<F: PieceFold>(
        &self,
        (scan, pieces): (&Scan, usize),
        setting: &F::Setting,
    ) -> Option<Walked<F>> {
        let mut walks = self.walks();
        let is_it = |walked: &Walked<F>| {
            walked.scan == *scan && walked.setting == *setting && walked.newest.len() == pieces
        };
        let place = walks.iter().position(|kept| kept.walked.downcast_ref().is_some_and(is_it))?;
        walks.remove(place).walked.downcast().ok().map(|walked| *walked)
    }

    /// Keeps a walk, if there is room.
    fn keep<F: PieceFold>(&self, mut walked: Walked<F>) {
        walked.room = None;
        let units = u32::try_from(walked.bytes().div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let take_room = || Arc::clone(&self.room.left).try_acquire_many_owned(units).ok();
        walked.room = take_room().or_else(|| {
            // What this one is in the place of may still have it.
            self.walks().retain(|kept| kept.is_used);
            take_room()
        });
        if walked.room.is_none() {
            return self.give_up();
        }
        let mut walks = self.walks();
        walks.push(Kept { walked: Box::new(walked), is_used: true });
        if walks.len() > WALKS {
            walks.remove(0);
        }
    }

    /// Keeps nothing for a while, which leaves the room to others.
    fn give_up(&self) {
        self.without_room.store(NO_ROOM_FOR, Relaxed);
        self.walks().clear();
    }

    fn walks(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a walk has found, piece by piece.
struct Walked<F: PieceFold> {
    scan: Scan,
    setting: F::Setting,
    /// Of each piece the newest commit.
    newest: Vec<u64>,
    found: Vec<F::Partial>,
    /// The same, joined.
    joined: Vec<F::Partial>,
    room: Option<OwnedSemaphorePermit>,
}

impl<F: PieceFold> Walked<F> {
    fn new(scan: Scan, setting: F::Setting, pieces: usize) -> Self {
        let nothing = |count| std::iter::repeat_with(F::Partial::default).take(count).collect();
        let (found, joined) = (nothing(pieces), nothing(pieces.div_ceil(PIECES_JOINED)));
        Self { scan, setting, newest: Vec::new(), found, joined, room: None }
    }

    /// Puts what was found in the place of what there was.
    fn replace(&mut self, changed: &[Range<u32>], found: Vec<(u32, F::Partial)>) {
        let changed = || changed.iter().cloned().flatten().map(|piece| piece as usize);
        changed().for_each(|piece| self.found[piece] = F::Partial::default());
        for (piece, partial) in found {
            self.found[piece as usize] = partial;
        }
        let mut stale: Vec<_> = changed().map(|piece| piece / PIECES_JOINED).collect();
        stale.dedup();
        for place in stale {
            let first = place * PIECES_JOINED;
            let last = self.found.len().min(first + PIECES_JOINED);
            self.joined[place] = join::<F>(&self.found[first..last]);
        }
    }

    fn bytes(&self) -> usize {
        let all = self.found.iter().chain(&self.joined);
        all.map(F::bytes).sum::<usize>() + self.newest.len() * size_of::<u64>()
    }
}

fn join<F: PieceFold>(partials: &[F::Partial]) -> F::Partial {
    let mut joined = F::Partial::default();
    partials.iter().for_each(|partial| F::merge(&mut joined, partial.clone()));
    joined
}

/// What walks have found.
struct Found<F: PieceFold> {
    /// By pieces, as long as it is not too much.
    pieces: Vec<(u32, F::Partial)>,
    /// Otherwise all of it joined.
    whole: Option<F::Partial>,
    bytes: usize,
    most_bytes: usize,
}

impl<F: PieceFold> Found<F> {
    fn nothing(most_bytes: usize) -> Self {
        Self { pieces: Vec::new(), whole: None, bytes: 0, most_bytes }
    }

    fn add(&mut self, piece: u32, partial: F::Partial) -> Result<(), QueryError> {
        self.bytes += F::bytes(&partial);
        self.pieces.push((piece, partial));
        if self.bytes > self.most_bytes {
            let whole = self.whole.get_or_insert_default();
            self.pieces.drain(..).for_each(|(_, partial)| F::merge(whole, partial));
            F::check(whole)?;
        }
        Ok(())
    }
}

impl View {
    /// Finds the cohorts that the plan asks for, and walks; through what has changed only, if the
    /// question is recalled.
    pub(crate) async fn refold<F: PieceFold>(
        &self,
        plan: &Plan,
        setting: F::Setting,
        start: impl Fn() -> F,
    ) -> Result<F::Partial, QueryError> {
        self.find_cohorts(plan).await?;
        // The users of a cohort may change with its definition, and with events that are not walked to.
        let is_kept = plan.scan.user.is_none() && plan.cohorts().next().is_none();
        let recall = Recall::current().filter(|_| is_kept);
        match recall.and_then(|recall| Some((recall, self.newest_commits()?))) {
            // It is large, and most questions do without.
            Some(recalled) => Box::pin(self.walk_again(plan, setting, start, recalled)).await,
            None => self.walk(plan, start).await,
        }
    }

    /// Walks through the pieces that have changed since the last time.
    async fn walk_again<F: PieceFold>(
        &self,
        plan: &Plan,
        setting: F::Setting,
        start: impl Fn() -> F,
        (recall, newest): (Arc<Recall>, Vec<u64>),
    ) -> Result<F::Partial, QueryError> {
        let known = recall.take::<F>((&plan.scan, newest.len()), &setting);
        let known_newest = known.as_ref().map_or(&[][..], |known| &known.newest);
        let changed = self.changed(known_newest, &newest);
        let most_bytes = recall.room.bytes / SHARE_OF_ROOM;
        let found = self.through_pieces(&changed, most_bytes, plan, &start).await?;
        let scan = plan.scan.clone();
        let joining = move || {
            let mut walked = known.unwrap_or_else(|| Walked::<F>::new(scan, setting, newest.len()));
            walked.replace(&changed, found.pieces);
            walked.newest = newest;
            let mut joined = join::<F>(&walked.joined);
            match found.whole {
                None => recall.keep(walked),
                Some(whole) => {
                    F::merge(&mut joined, whole);
                    recall.give_up();
                }
            }
            F::check(&joined)?;
            Ok(joined)
        };
        self.compute(joining).await?
    }

    /// The newest commit of each piece, if the store tells it.
    fn newest_commits(&self) -> Option<Vec<u64>> {
        let pieces = self.snapshot.pieces()?;
        Some((0..pieces.piece_count()).map(|piece| pieces.last_change(piece)).collect())
    }

    /// The pieces with newer commits, as ranges within shards; whole shards if they are many.
    fn changed(&self, known: &[u64], newest: &[u64]) -> Vec<Range<u32>> {
        let (count, shards) = (newest.len() as u32, self.snapshot.shards());
        let of_shard = count / shards;
        let has_changed = |piece: &u32| known.get(*piece as usize) != newest.get(*piece as usize);
        let changed: Vec<u32> = (0..count).filter(has_changed).collect();
        if changed.len() * SHARE_CHANGED > newest.len() {
            return (0..shards).map(|shard| shard * of_shard..(shard + 1) * of_shard).collect();
        }
        let go_on = |a: &u32, b: &u32| a + 1 == *b && a / of_shard == b / of_shard;
        let ranges = changed.chunk_by(go_on);
        ranges.filter_map(|range| Some(*range.first()?..range.last()? + 1)).collect()
    }

    /// Walks through some pieces.
    async fn through_pieces<F: PieceFold>(
        &self,
        pieces: &[Range<u32>],
        most_bytes: usize,
        plan: &Plan,
        start: &impl Fn() -> F,
    ) -> Result<Found<F>, QueryError> {
        let stop = StopOnDrop(Arc::default());
        // The first fold hands its matcher on to the others.
        let fold = |number: usize| {
            let mut fold = start();
            if number > 0 {
                *fold.matcher() = Matcher::default();
            }
            fold
        };
        let walk = |pieces: &Range<u32>| PieceWalk {
            walk: self.walk_through(0, plan, &stop),
            pieces: pieces.clone(),
            folds: (0..pieces.len()).rev().map(fold).collect(),
        };
        let walks = pieces.iter().rev().map(walk).collect();
        let found = Arc::new(Mutex::new(Found::<F>::nothing(most_bytes)));
        let into = Arc::clone(&found);
        self.on_threads(walks, move |walk: PieceWalk<F>| walk.run(&into)).await?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut found, Found::nothing(most_bytes)))
    }
}

/// A walk through pieces of one shard, with a fold for each, the first one last.
struct PieceWalk<F> {
    walk: Walk,
    pieces: Range<u32>,
    folds: Vec<F>,
}

impl<F: PieceFold> PieceWalk<F> {
    fn run(self, into: &Mutex<Found<F>>) -> Result<(), QueryError> {
        let Self { walk, pieces, mut folds } = self;
        let add = |piece, partial| {
            into.lock().unwrap_or_else(PoisonError::into_inner).add(piece, partial)
        };
        walk.check()?;
        let view = walk.snapshot.pieces().ok_or_else(broken)?;
        let mut cursor = view.scan_pieces(pieces, &walk.scan)?;
        let mut current: Option<(u32, F)> = None;
        while let Some((piece, batch)) = cursor.next_users()? {
            walk.check()?;
            let mut fold = match current.take() {
                Some((of, fold)) if of == piece => fold,
                before => {
                    let mut next = folds.pop().ok_or_else(broken)?;
                    if let Some((of, mut done)) = before {
                        std::mem::swap(done.matcher(), next.matcher());
                        add(of, done.finish(batch.events.dictionaries))?;
                    }
                    next
                }
            };
            fold.users(&batch)?;
            current = Some((piece, fold));
        }
        match current {
            Some((of, last)) => add(of, last.finish(Dictionaries::of(cursor.dictionaries()))),
            None => Ok(()),
        }
    }
}

fn broken() -> QueryError {
    StoreError::Damaged("a walk through pieces of the users did not keep to them".to_owned()).into()
}
