//! Users of a run or of a part, in order, with the rows that a walk wants.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Origin, Position, TimeRange};
use smallvec::SmallVec;

use super::cache::ColumnCache;
use super::part::OpenPart;
use super::run::{Run, shard_of, user_hash};
use super::sessions::{Sessions, mark};
use super::texts::Texts;
use crate::{Dictionary, Scan, StoreError, property};

/// Users in order of (hash, name), each once.
pub(super) trait UserSource: Send {
    /// The next user and its hash.
    fn head(&self) -> Option<(u64, &str)>;

    /// A time that is not above those of the next user's rows.
    fn first_time(&self) -> i64;

    /// The rows of the next user that are in range, if they lie side by side in memory.
    fn lendable(&self) -> Option<Range<usize>>;

    /// Gives these rows out where they are, and says how many codes of sessions there are.
    fn lend(&self, rows: Range<usize>, dictionaries: &mut [Dictionary]) -> Option<LentRows<'_>>;

    /// Goes on to the user after the next.
    fn skip(&mut self, dictionaries: &mut [Dictionary]) -> Result<(), StoreError>;

    /// Appends the rows of the next user that are in range, and goes on to the one after.
    fn take(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError>;
}

/// One user's rows where they are.
pub(super) struct LentRows<'a> {
    pub(super) times: &'a [i64],
    pub(super) columns: SmallVec<[&'a [u32]; 8]>,
}

/// What a walk through some users wants.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) scan: Scan,
    /// The lowest and the highest hash of the users.
    pub(super) hashes: (u64, u64),
}

impl Walk {
    /// A walk through the users of one of so many shards.
    pub(super) fn of(scan: &Scan, shard: u32, shards: u32) -> Self {
        let scan = scan.clone();
        let hashes = match scan.user.as_deref().map(user_hash) {
            Some(hash) if shard_of(hash, shards) == shard => (hash, hash),
            // The user is not of this shard, so nobody is wanted.
            Some(_) => (u64::MAX, 0),
            None => {
                let first = |shard: u32| (u64::from(shard) << 32).div_ceil(u64::from(shards));
                let last = ((first(shard + 1) - 1) << 32) | u64::from(u32::MAX);
                (first(shard) << 32, last)
            }
        };
        Self { scan, hashes }
    }

    /// Of the times of one user, which are the rows in range.
    pub(super) fn in_range(&self, times: &[i64]) -> Range<usize> {
        let TimeRange { start, end } = self.scan.range;
        let first = start.map_or(0, |start| times.partition_point(|time| *time < start.0));
        let last = end.map_or(times.len(), |end| times.partition_point(|time| *time < end.0));
        first..last.max(first)
    }
}

/// The rows of one user, gathered from the sources.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) times: Vec<i64>,
    /// One column of codes per wanted field.
    pub(super) columns: Vec<Vec<u32>>,
    pub(super) pieces: Vec<Piece>,
    pub(super) sessions: Sessions,
}

/// Rows that follow each other in a source.
pub(super) struct Piece {
    pub(super) rows: Range<usize>,
    pub(super) place: Place,
}

/// Where rows come from.
pub(super) enum Place {
    Run(Arc<Run>),
    RowGroup(Arc<OpenPart>, usize),
}

impl Gathered {
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.pieces.clear();
        self.sessions.clear();
    }

    /// Each piece is in order; several together need not be. The log positions are read only
    /// where times alone do not decide.
    pub(super) fn sort(&mut self, cache: &ColumnCache) -> Result<(), StoreError> {
        let mut end = 0;
        let mut is_sorted = true;
        for piece in &self.pieces {
            is_sorted &= end == 0 || self.times[end - 1] < self.times[end];
            end += piece.rows.len();
        }
        if is_sorted {
            return Ok(());
        }
        let mut positions = Vec::with_capacity(self.times.len());
        for piece in &self.pieces {
            match &piece.place {
                Place::Run(run) => {
                    positions.extend_from_slice(&run.rows.positions[piece.rows.clone()]);
                }
                Place::RowGroup(part, group) => {
                    let found = cache.positions(part, *group)?;
                    positions.extend_from_slice(&found.column[piece.rows.clone()]);
                }
            }
        }
        self.sort_by_position(&positions);
        Ok(())
    }

    fn sort_by_position(&mut self, positions: &[Position]) {
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|&row| (self.times[row], positions[row]));
        self.times = order.iter().map(|&row| self.times[row]).collect();
        for column in &mut self.columns {
            *column = order.iter().map(|&row| column[row]).collect();
        }
    }
}

/// The users of a run.
pub(super) struct RunUsers {
    run: Arc<Run>,
    next: usize,
    end: usize,
    walk: Arc<Walk>,
}

impl RunUsers {
    pub(super) fn of(run: Arc<Run>, walk: Arc<Walk>) -> Self {
        let (first, last) = walk.hashes;
        let project = walk.scan.project.as_str();
        let mut next = run.first_user_from(project, first);
        let mut end = match last.checked_add(1) {
            Some(after) => run.first_user_from(project, after),
            None => run.first_user_after(project),
        };
        if let Some(wanted) = walk.scan.user.as_deref() {
            let exact = (next..end).find(|&index| run.user(index).user == wanted);
            (next, end) = exact.map_or((end, end), |index| (index, index + 1));
        }
        Self { run, next, end, walk }
    }

    fn rows_in_range(&self) -> Range<usize> {
        let user = self.run.user(self.next);
        let rows = self.walk.in_range(&self.run.rows.times[user.first_row..user.end_row]);
        user.first_row + rows.start..user.first_row + rows.end
    }
}

impl UserSource for RunUsers {
    fn head(&self) -> Option<(u64, &str)> {
        (self.next < self.end).then(|| {
            let user = self.run.user(self.next);
            (user.hash, user.user)
        })
    }

    fn first_time(&self) -> i64 {
        self.run.rows.times[self.run.user(self.next).first_row]
    }

    /// The texts of a run have no codes yet.
    fn lendable(&self) -> Option<Range<usize>> {
        None
    }

    fn lend(&self, _: Range<usize>, _: &mut [Dictionary]) -> Option<LentRows<'_>> {
        None
    }

    fn skip(&mut self, _dictionaries: &mut [Dictionary]) -> Result<(), StoreError> {
        self.next += 1;
        Ok(())
    }

    fn take(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError> {
        let rows = self.rows_in_range();
        if !rows.is_empty() {
            gathered.times.extend_from_slice(&self.run.rows.times[rows.clone()]);
            let Gathered { columns, sessions, .. } = &mut *gathered;
            let targets = columns.iter_mut().zip(dictionaries);
            for (field, (column, dictionary)) in self.walk.scan.fields.iter().zip(targets) {
                if *field == Field::SessionWithinUser {
                    let id = |row| self.run.rows.sessions.option(row);
                    column.extend(rows.clone().map(|row| sessions.code(id(row).map(mark))));
                    continue;
                }
                let user = self.run.user(self.next).user;
                append_codes(&self.run, user, rows.clone(), field, dictionary, column);
            }
            let place = Place::Run(Arc::clone(&self.run));
            gathered.pieces.push(Piece { rows, place });
        }
        self.next += 1;
        Ok(())
    }
}

fn append_codes(
    run: &Run,
    user: &str,
    rows: Range<usize>,
    field: &Field,
    dictionary: &mut Dictionary,
    column: &mut Vec<u32>,
) {
    let of_run = &run.rows;
    let mut push = |texts: &Texts| {
        // Rows of one user that follow each other are often alike.
        let mut last = None;
        column.extend(rows.clone().map(|row| {
            let text = texts.option(row);
            match last {
                Some((known, code)) if known == text => code,
                _ => {
                    let code = dictionary.code_of(text);
                    last = Some((text, code));
                    code
                }
            }
        }));
    };
    match field {
        Field::EventType => push(&of_run.event_types),
        Field::SessionId | Field::SessionWithinUser => push(&of_run.sessions),
        Field::Source => push(&of_run.sources),
        Field::PageUrl => push(&of_run.page_urls),
        Field::EventId => push(&of_run.event_ids),
        Field::Properties => push(&of_run.properties),
        Field::UserId => {
            let code = dictionary.code(user);
            column.extend(rows.map(|_| code));
        }
        Field::Origin => column.extend(rows.map(|row| {
            dictionary.code_of(Origin::from_number(of_run.origins[row]).map(Origin::as_str))
        })),
        Field::Property(name) => {
            let value = |row| property(of_run.properties.text(row), name);
            column.extend(rows.map(|row| dictionary.code_of(value(row).as_deref())));
        }
    }
}

#[cfg(test)]
mod tests {
    use gristmill_model::ProjectId;
    use proptest::prelude::*;

    use super::*;

    fn walk(shard: u32, shards: u32) -> (u64, u64) {
        let project = ProjectId::new("p");
        let scan = Scan { project, user: None, range: TimeRange::ALL, fields: Vec::new() };
        Walk::of(&scan, shard, shards).hashes
    }

    proptest! {
        #[test]
        fn walks_meet_every_hash_once_and_within_its_shard(
            stored in 1..64_u32,
            walks in 1..17_u32,
            hash in any::<u64>(),
        ) {
            let shards = stored * walks;
            let shard = shard_of(hash, shards);
            prop_assert_eq!(shard / walks, shard_of(hash, stored));
            let (first, last) = walk(shard, shards);
            prop_assert!(first <= hash && hash <= last);
            prop_assert_eq!(first == 0, shard == 0);
            prop_assert_eq!(last == u64::MAX, shard + 1 == shards);
            if shard > 0 {
                prop_assert_eq!(walk(shard - 1, shards).1 + 1, first);
            }
        }
    }
}
