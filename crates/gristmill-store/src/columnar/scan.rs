//! What a snapshot shows, shard by shard.

use std::sync::{Arc, OnceLock};

use gristmill_model::{Field, Positions, ProjectId, TimeRange, Timestamp};

use super::cache::ColumnCache;
use super::changes::Changes;
use super::digest::{
    Covers, Digest, DigestCursor, DigestEvents, DigestKey, DigestUsers, Digests, FoundDigest,
    Shape, Walked, digest_events, digest_users,
};
use super::events::{ShardEvents, Share};
use super::merged_users::MergedUsers;
use super::part::Part;
use super::part_users::PartUsers;
use super::row_group::GroupReader;
use super::run::{Run, shard_of, user_hash};
use super::run_users::RunUsers;
use super::source::Walk;
use super::view::View;
use super::work::WorkDone;
use crate::hours::{cuts_hours, whole_hours};
use crate::walk::UserByUser;
use crate::{EventCursor, Pieces, Precision, Scan, Snapshot, StoreError, UserCursor, Work};

/// About how many rows of one shard are walked at a time: enough to be worth a walk, and few
/// enough to keep all cores busy to the end.
const ROWS_PER_WALK: u64 = if cfg!(test) { 1 << 12 } else { 1 << 20 };
/// The most walks that a shard is cut into.
const WALKS_PER_SHARD: u64 = 16;
/// A part is digested if it was written to stay and has at least one of so many rows of its shard:
/// others are soon merged away, and a digest of them would be made for hardly anybody.
const SHARE_DIGESTED: u64 = 16;
/// The digests of a question may take one of so many parts of the memory for columns and digests.
const SHARE_OF_QUESTION: usize = 2;

/// The whole hours of a range are taken from a digest, and the rest of it is looked for in columns, if these
/// hours are at least one of so many parts of the time that the digest is of, for each end that is cut: it
/// takes a look at the times of all events.
const SHARE_OF_HOURS: i64 = 8;

/// Which digests a walk uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DigestUse {
    /// One is made if the question was asked before.
    MadeIfAskedAgain,
    /// One that is at hand: making it would take longer than the walk.
    IfAtHand,
}

/// What a walk reads of the parts that a digest is of.
pub(super) struct Digested {
    digest: Arc<Digest>,
    /// What of the range is taken from the digest, and how much of the digest that is.
    range: TimeRange,
    covers: Covers,
    /// The rest of the range, if it cuts hours, which a digest cannot tell apart.
    edges: Vec<Edge>,
}

/// A piece of a range, and the parts that may have events in it.
struct Edge {
    range: TimeRange,
    parts: Vec<Arc<Part>>,
}

/// A view that somebody reads.
///
/// Large shards are cut into several by ranges of the users' hashes, so that there are more of
/// them than the store was created with.
pub(super) struct ColumnarSnapshot {
    view: Arc<View>,
    cache: Arc<ColumnCache>,
    digests: Arc<Digests>,
    /// The number of the question, once a walk has begun that reads whole columns.
    question: OnceLock<u64>,
    work: Arc<WorkDone>,
    walks_per_shard: u32,
    shards: u32,
}

impl ColumnarSnapshot {
    pub(super) fn new(
        view: Arc<View>,
        (cache, digests): (Arc<ColumnCache>, Arc<Digests>),
        shards: u32,
    ) -> Self {
        let mut rows = vec![0; shards as usize];
        for part in view.parts.iter() {
            rows[part.record.shard as usize] += part.record.rows;
        }
        let most_rows = rows.into_iter().max().unwrap_or(0);
        let walks = (most_rows / ROWS_PER_WALK).clamp(1, WALKS_PER_SHARD);
        let work = Arc::default();
        let (question, walks_per_shard) = (OnceLock::new(), walks as u32);
        Self { view, cache, digests, question, work, walks_per_shard, shards }
    }
}

impl Snapshot for ColumnarSnapshot {
    fn committed(&self) -> &Positions {
        &self.view.committed
    }

    fn shards(&self) -> u32 {
        self.shards * self.walks_per_shard
    }

    fn scan(&self, shard: u32, scan: &Scan) -> Result<Box<dyn UserCursor + '_>, StoreError> {
        let parts = self.parts(shard, scan);
        let wanted = (Walked::Users, DigestUse::MadeIfAskedAgain);
        let (digest, parts) = self.digested(wanted, (shard, scan), parts)?;
        let runs: Vec<_> = self.runs(shard, scan).collect();
        if let Some(Digested { digest, covers: Covers::All, .. }) = &digest
            && parts.is_empty()
            && runs.is_empty()
        {
            self.work.add_rows(digest.rows());
            return Ok(Box::new(DigestCursor::of(Arc::clone(digest))));
        }
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        Ok(Box::new(self.merged(&walk, digest, &parts, runs)?))
    }

    fn scan_events(
        &self,
        shard: u32,
        scan: &Scan,
    ) -> Result<Box<dyn EventCursor + '_>, StoreError> {
        let asks_users = |field: &Field| matches!(field, Field::UserId | Field::SessionWithinUser);
        let mut fields = scan.fields.iter().chain(&scan.numbers);
        if scan.user.is_some() || fields.any(asks_users) {
            return Ok(Box::new(UserByUser::of(self.scan(shard, scan)?)));
        }
        let parts = self.parts(shard, scan);
        let wanted = (Walked::Events, DigestUse::MadeIfAskedAgain);
        let (digest, parts) = self.digested(wanted, (shard, scan), parts)?;
        let edges = digest.as_ref().map_or(&[] as &[_], |digested| &digested.edges);
        let runs = self.runs(shard, scan).collect();
        let events = self.events((shard, scan), (&parts, edges), runs)?;
        Ok(match digest {
            Some(Digested { digest, range, .. }) => {
                self.work.add_rows(digest.rows());
                Box::new(DigestEvents::of(digest, range, events))
            }
            None => Box::new(events),
        })
    }

    fn shard_of(&self, _project: &ProjectId<'_>, user: &str) -> u32 {
        shard_of(user_hash(user), self.shards())
    }

    fn pieces(&self) -> Option<&dyn Pieces> {
        Some(self)
    }

    fn work(&self) -> Work {
        self.work.so_far()
    }
}

impl ColumnarSnapshot {
    /// When users were changed last.
    pub(super) fn changes(&self) -> &Changes {
        &self.view.changes
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.view.totals.stored
    }

    /// The parts that a walk reads.
    pub(super) fn parts(&self, shard: u32, scan: &Scan) -> Vec<Arc<Part>> {
        let stored_in = shard / self.walks_per_shard;
        let is_wanted = |part: &&Arc<Part>| {
            let record = &part.record;
            let (first, last) = (Timestamp(record.first_time), Timestamp(record.last_time));
            record.shard == stored_in && scan.range.overlaps(first, last)
        };
        let mut parts: Vec<_> = self.view.parts.iter().filter(is_wanted).cloned().collect();
        // Most users then have their events in order, part by part.
        parts.sort_by_key(|part| part.record.first_time);
        parts
    }

    /// Opens parts for a walk.
    fn open(&self, parts: &[Arc<Part>], walk: &Arc<Walk>) -> Result<Vec<GroupReader>, StoreError> {
        match walk.scan.user {
            None => {
                self.question();
            }
            Some(_) => self.cache.begin_question_of_user(),
        }
        let read = |part: &Arc<Part>| {
            self.work.add_part();
            Ok(GroupReader {
                part: part.open()?,
                cache: Arc::clone(&self.cache),
                work: Arc::clone(&self.work),
                walk: Arc::clone(walk),
            })
        };
        parts.iter().map(read).collect()
    }

    /// Opens parts for what a walk reads of them beside a digest.
    fn open_edges(&self, edges: &[Edge], walk: &Walk) -> Result<Vec<GroupReader>, StoreError> {
        let mut readers = Vec::new();
        for Edge { range, parts } in edges {
            let scan = Scan { range: *range, ..walk.scan.clone() };
            let walk = Arc::new(Walk { scan, hashes: walk.hashes });
            readers.extend(self.open(parts, &walk)?);
        }
        Ok(readers)
    }

    /// The number of the question that this snapshot is for.
    fn question(&self) -> u64 {
        *self.question.get_or_init(|| self.digests.begin_question())
    }

    /// The users of a walk that are in a digest, and those that lie in these parts and runs.
    pub(super) fn merged(
        &self,
        walk: &Arc<Walk>,
        digested: Option<Digested>,
        parts: &[Arc<Part>],
        runs: Vec<Arc<Run>>,
    ) -> Result<MergedUsers, StoreError> {
        let mut users = MergedUsers::new(Arc::clone(&self.cache), &walk.scan);
        if let Some(Digested { digest, range, covers, edges }) = digested {
            self.work.add_rows(digest.rows_between(walk.hashes));
            users.add_digest(DigestUsers::of(digest, (range, covers), walk));
            for part in self.open_edges(&edges, walk)? {
                users.add(PartUsers::of(part));
            }
        }
        for part in self.open(parts, walk)? {
            users.add(PartUsers::of(part));
        }
        for run in runs {
            users.add(RunUsers::of(run, Arc::clone(walk)));
        }
        Ok(users)
    }

    /// The events of a walk that lie in these parts, pieces of others and runs.
    fn events(
        &self,
        (shard, scan): (u32, &Scan),
        (parts, edges): (&[Arc<Part>], &[Edge]),
        runs: Vec<Arc<Run>>,
    ) -> Result<ShardEvents, StoreError> {
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        let share = Share {
            number: (shard % self.walks_per_shard) as usize,
            walks: self.walks_per_shard as usize,
        };
        let mut readers = self.open(parts, &walk)?;
        readers.extend(self.open_edges(edges, &walk)?);
        Ok(ShardEvents::new(walk, share, &readers, runs))
    }

    /// What a walk reads of large parts beside and in a digest, if its question is one that is asked again;
    /// and the parts that are left.
    pub(super) fn digested(
        &self,
        (walked, digest_use): (Walked, DigestUse),
        (shard, scan): (u32, &Scan),
        parts: Vec<Arc<Part>>,
    ) -> Result<(Option<Digested>, Vec<Arc<Part>>), StoreError> {
        let rows: u64 = parts.iter().map(|part| part.record.rows).sum();
        let is_large =
            |part: &Arc<Part>| part.record.is_lasting && part.record.rows * SHARE_DIGESTED >= rows;
        let (large, rest): (Vec<_>, Vec<_>) = parts.iter().cloned().partition(is_large);
        let covers = covers(&large, &scan.range);
        let (range, edges) = match covers {
            Covers::All => (scan.range, Vec::new()),
            Covers::Some => without_edges(scan, &large),
        };
        let inner = Scan { range, ..scan.clone() };
        let Some(shape) = Shape::of(walked, &inner, covers) else { return Ok((None, parts)) };
        let question = self.question();
        let of_part = |part: &Arc<Part>| (part.record.file, part.record.crc);
        let key = DigestKey {
            shape,
            shard,
            shards: self.shards(),
            parts: large.iter().map(of_part).collect(),
        };
        let is_used = || match digest_use {
            DigestUse::MadeIfAskedAgain => self.digests.are_for(&key, question),
            DigestUse::IfAtHand => self.digests.is_at_hand(&key),
        };
        if large.is_empty() || !is_used() {
            return Ok((None, parts));
        }
        let make = || self.make_digest(walked, (shard, scan), (&key.shape, &large));
        let (digest, was_there) = self.digests.get(&key, question, make)?;
        let Some(digest) = digest else { return Ok((None, parts)) };
        self.work.add_column(was_there);
        Ok((Some(Digested { digest, range, covers, edges }), rest))
    }

    /// Makes a digest of parts.
    fn make_digest(
        &self,
        walked: Walked,
        (shard, scan): (u32, &Scan),
        (shape, parts): (&Shape, &[Arc<Part>]),
    ) -> Result<FoundDigest, StoreError> {
        // The digests of one question leave room for those of others.
        let most_bytes = self.cache.bytes() / SHARE_OF_QUESTION / self.shards() as usize;
        let scan = shape.scan(scan);
        match walked {
            Walked::Users => {
                digest_users(self.named_users(shard, &scan, parts)?, shape, most_bytes)
            }
            Walked::Events => {
                let events = self.events((shard, &scan), (parts, &[]), Vec::new())?;
                digest_events(events, shape, most_bytes)
            }
        }
    }

    /// The users of parts, with their names.
    fn named_users(
        &self,
        shard: u32,
        scan: &Scan,
        parts: &[Arc<Part>],
    ) -> Result<MergedUsers, StoreError> {
        let mut users = MergedUsers::new(Arc::clone(&self.cache), scan);
        users.tell_names();
        let walk = Arc::new(Walk::of(scan, shard, self.shards()));
        for part in self.open(parts, &walk)? {
            users.add(PartUsers::of(part));
        }
        Ok(users)
    }

    /// The runs that a walk reads.
    pub(super) fn runs<'a>(
        &'a self,
        shard: u32,
        scan: &'a Scan,
    ) -> impl Iterator<Item = Arc<Run>> + 'a {
        let runs = self.view.runs((shard / self.walks_per_shard) as usize);
        runs.filter(|run| run.may_be_in(&scan.range)).cloned()
    }
}

/// The range of a walk without the pieces of it that cut hours, and what parts may have in these; all of
/// it if the walk tells times, or if little else would be left.
fn without_edges(scan: &Scan, parts: &[Arc<Part>]) -> (TimeRange, Vec<Edge>) {
    let (range, whole) = (scan.range, whole_hours(&scan.range));
    let first = parts.iter().map(|part| part.record.first_time).min().unwrap_or(0);
    let last = parts.iter().map(|part| part.record.last_time).max().unwrap_or(0);
    let from = whole.start.map_or(first, |start| start.0.max(first));
    let to = whole.end.map_or(last, |end| end.0.min(last));
    let (inside, all) = (to.saturating_sub(from), last.saturating_sub(first));
    if scan.precision == Precision::Times || !cuts_hours(&range) {
        return (range, Vec::new());
    }
    let before = TimeRange { start: range.start, end: whole.start };
    let behind = TimeRange { start: whole.end, end: range.end };
    let edge = |range: TimeRange| {
        let is_some = range.start? < range.end?;
        let may_be_in = |part: &&Arc<Part>| {
            let record = &part.record;
            range.overlaps(Timestamp(record.first_time), Timestamp(record.last_time))
        };
        let parts: Vec<_> = parts.iter().filter(may_be_in).cloned().collect();
        (is_some && !parts.is_empty()).then_some(Edge { range, parts })
    };
    let edges: Vec<_> = [before, behind].into_iter().filter_map(edge).collect();
    let is_much = inside.saturating_mul(SHARE_OF_HOURS) >= all.saturating_mul(edges.len() as i64);
    if inside > 0 && is_much { (whole, edges) } else { (range, Vec::new()) }
}

/// How much of some parts is in a range.
fn covers(parts: &[Arc<Part>], range: &TimeRange) -> Covers {
    let is_in = |part: &Arc<Part>| {
        let record = &part.record;
        range.contains(Timestamp(record.first_time)) && range.contains(Timestamp(record.last_time))
    };
    if parts.iter().all(is_in) { Covers::All } else { Covers::Some }
}
