//! The users of a part, a row group at a time, from decoded columns.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::{Times, Users};
use super::part::UserKey;
use super::row_group::{GroupColumns, GroupReader};
use super::sessions::Sessions;
use super::source::{GroupPositions, Place, SourceUser, UserSource};
use crate::{Dictionary, StoreError};

/// The users of a part.
pub(super) struct PartUsers {
    reader: GroupReader,
    /// The row groups that have not been begun.
    groups: Range<usize>,
    chunk: Chunk,
}

/// Users of one row group and what their rows have.
#[derive(Default)]
struct Chunk {
    group: usize,
    users: Arc<Users>,
    /// The users that are left.
    left: Range<usize>,
    times: Arc<Times>,
    /// The row of the first time.
    times_from: usize,
    columns: GroupColumns,
    /// Whether rows may be out of range.
    needs_cut: bool,
    /// Whether the last user's rows may go on in the next row group.
    goes_on: bool,
    positions: GroupPositions,
}

impl PartUsers {
    pub(super) fn of(reader: GroupReader) -> Self {
        let project = reader.walk.scan.project.as_str();
        let key = |hash| UserKey { project: project.to_owned(), hash };
        let (first, last) = reader.walk.hashes;
        let groups =
            if first <= last { reader.part.groups_of(&key(first), &key(last)) } else { 0..0 };
        Self { reader, groups, chunk: Chunk::default() }
    }

    fn wanted(&self, users: &Users) -> Range<usize> {
        let walk = &self.reader.walk;
        let (first, last) = walk.hashes;
        let mut wanted = users.between(walk.scan.project.as_str(), first, last);
        if let Some(user) = walk.scan.user.as_deref() {
            wanted = match wanted.clone().find(|&index| users.name(index) == user) {
                Some(index) => index..index + 1,
                None => 0..0,
            };
        }
        wanted
    }

    fn load(
        &self,
        group: usize,
        users: Arc<Users>,
        left: Range<usize>,
        dictionaries: &mut [Dictionary],
    ) -> Result<Chunk, StoreError> {
        let reader = &self.reader;
        let rows = users.rows_of(&left);
        reader.work.add_rows(rows.len());
        let (times, times_from) = reader.times(group, &rows)?;
        Ok(Chunk {
            group,
            positions: GroupPositions::default(),
            columns: reader.columns(group, &rows, dictionaries)?,
            needs_cut: !times.are_in(&reader.walk.scan.range),
            goes_on: self.goes_on(group, &users, left.end - 1),
            times,
            times_from,
            users,
            left,
        })
    }

    /// Whether a user's rows may go on in the next row group.
    fn goes_on(&self, group: usize, users: &Users, user: usize) -> bool {
        if user + 1 < users.len() {
            return false;
        }
        let part = &self.reader.part;
        let next = part.groups.get(group + 1).and_then(|group| group.pages.first());
        next.is_some_and(|first| {
            let project = self.reader.walk.scan.project.as_str();
            first.hash == users.hash(user) && first.project == project
        })
    }
}

impl UserSource for PartUsers {
    fn fill(&mut self, dictionaries: &mut [Dictionary]) -> Result<Option<u64>, StoreError> {
        self.chunk = Chunk::default();
        while let Some(group) = self.groups.next() {
            let users = self.reader.users(group)?;
            let left = self.wanted(&users);
            if !left.is_empty() {
                let hash = users.hash(left.start);
                self.chunk = self.load(group, users, left, dictionaries)?;
                return Ok(Some(hash));
            }
        }
        Ok(None)
    }

    fn advance(&mut self) -> Option<u64> {
        let chunk = &mut self.chunk;
        chunk.left.start += 1;
        (!chunk.left.is_empty()).then(|| chunk.users.hash(chunk.left.start))
    }

    fn user(&self) -> SourceUser<'_> {
        let Chunk { users, left, needs_cut, goes_on, .. } = &self.chunk;
        let mut rows = users.rows(left.start);
        if *needs_cut {
            let cut = self.reader.walk.in_range(self.times(&rows));
            rows = rows.start + cut.start..rows.start + cut.end;
        }
        let goes_on = *goes_on && left.len() == 1;
        SourceUser { name: users.name(left.start), rows, goes_on }
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        let Chunk { times, times_from, .. } = &self.chunk;
        &times.values[rows.start - times_from..rows.end - times_from]
    }

    fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        self.chunk.columns.append(field, rows, dictionary, into);
    }

    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        self.chunk.columns.append_numbers(field, rows, into);
    }

    fn own_sessions(&self, field: usize, rows: Range<usize>, into: &mut Vec<u32>) -> Option<usize> {
        let columns = &self.chunk.columns;
        columns.append(field, rows, &mut Dictionary::default(), into);
        Some(columns.coded(field).distinct())
    }

    fn append_sessions(
        &self,
        field: usize,
        rows: Range<usize>,
        sessions: &mut Sessions,
        into: &mut Vec<u32>,
    ) {
        let first = into.len();
        self.own_sessions(field, rows, into);
        let coded = self.chunk.columns.coded(field);
        sessions.translate(&mut into[first..], |code| coded.mark_of(code));
    }

    fn place(&self) -> Place {
        let Chunk { group, positions, .. } = &self.chunk;
        Place::RowGroup(Arc::clone(&self.reader.part), *group, Arc::clone(positions))
    }
}
