//! The users of a part, a row group at a time, from decoded columns.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::TimeRange;

use super::chunk::{Times, Users};
use super::group_hours::GroupHours;
use super::part::UserKey;
use super::row_group::{GroupColumns, GroupReader};
use super::sessions::Sessions;
use super::source::{GroupPositions, Place, SourceUser, UserRows, UserSource};
use crate::hours::cuts_hours;
use crate::{Dictionary, HourRows, Precision, StoreError};

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
    /// If the walk wants hours, these instead.
    hours: Option<Arc<GroupHours>>,
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
        let range = &reader.walk.scan.range;
        let (mut times, mut times_from, mut hours) = (Arc::default(), 0, None);
        let needs_cut = match reader.walk.scan.precision {
            Precision::Times => {
                (times, times_from) = reader.times(group, &rows)?;
                !times.are_in(range)
            }
            Precision::Untold if *range == TimeRange::ALL => false,
            Precision::Hours | Precision::Untold => {
                let found = reader.hours(group, &users)?;
                let needs_cut = !found.are_in(range);
                if needs_cut && cuts_hours(range) {
                    times = reader.whole_times(group)?;
                }
                hours = Some(found);
                needs_cut
            }
        };
        Ok(Chunk {
            group,
            positions: GroupPositions::default(),
            columns: reader.columns(group, &rows, dictionaries)?,
            needs_cut,
            goes_on: self.goes_on(group, &users, left.end - 1),
            times,
            times_from,
            hours,
            users,
            left,
        })
    }

    /// The next user at hand.
    fn user(&self) -> SourceUser {
        let Chunk { users, left, times, hours, needs_cut, goes_on, .. } = &self.chunk;
        let range = &self.reader.walk.scan.range;
        let rows = match hours {
            Some(hours) if *needs_cut => hours.cut(hours.user(left.start), range, &times.values),
            Some(hours) => hours.user(left.start),
            None => {
                let mut rows = users.rows(left.start);
                if *needs_cut {
                    let cut = self.reader.walk.in_range(self.times(&rows));
                    rows = rows.start + cut.start..rows.start + cut.end;
                }
                UserRows { rows, hours: 0..0 }
            }
        };
        let goes_on = *goes_on && left.len() == 1;
        SourceUser { hash: users.hash(left.start), rows, goes_on }
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
    fn fill(&mut self, dictionaries: &mut [Dictionary]) -> Result<Option<SourceUser>, StoreError> {
        self.chunk = Chunk::default();
        while let Some(group) = self.groups.next() {
            let users = self.reader.users(group)?;
            let left = self.wanted(&users);
            if !left.is_empty() {
                self.chunk = self.load(group, users, left, dictionaries)?;
                return Ok(Some(self.user()));
            }
        }
        Ok(None)
    }

    fn advance(&mut self) -> Option<SourceUser> {
        let chunk = &mut self.chunk;
        chunk.left.start += 1;
        (!chunk.left.is_empty()).then(|| self.user())
    }

    fn name(&self) -> &str {
        self.chunk.users.name(self.chunk.left.start)
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        let Chunk { times, times_from, .. } = &self.chunk;
        &times.values[rows.start - times_from..rows.end - times_from]
    }

    fn append_hours(&self, rows: &UserRows, start: usize, into: &mut Vec<HourRows>) {
        if let Some(hours) = &self.chunk.hours {
            hours.append(rows, start, into);
        }
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
