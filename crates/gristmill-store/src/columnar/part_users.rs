//! The users of a part, a row group at a time, from decoded columns.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::TimeRange;

use super::chunk::{Times, Users};
use super::group_hours::GroupHours;
use super::part::UserKey;
use super::row_group::{GroupColumns, GroupReader};
use super::sessions::Mark;
use super::source::{Follows, GroupPositions, Place, UserSource};
use super::taken::Taken;
use crate::hours::{append_hours, cuts_hours};
use crate::{Dictionary, Precision, StoreError};

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
    /// If the walk wants no times and its range cuts no hour, these instead.
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
            Precision::Hours | Precision::Untold if cuts_hours(range) => {
                times = reader.whole_times(group)?;
                !times.are_in(range)
            }
            Precision::Hours | Precision::Untold => {
                let found = reader.hours(group, &users)?;
                let needs_cut = !found.are_in(range);
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

    /// The rows of a user that are in range.
    fn rows_in_range(&self, user: usize) -> Range<usize> {
        let Chunk { users, times, times_from, hours, needs_cut, .. } = &self.chunk;
        let (rows, walk) = (users.rows(user), &self.reader.walk);
        match hours {
            _ if !needs_cut => rows,
            Some(hours) => hours.rows_within(user, &walk.scan.range),
            None => {
                let cut =
                    walk.in_range(&times.values[rows.start - times_from..rows.end - times_from]);
                rows.start + cut.start..rows.start + cut.end
            }
        }
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
    fn fill(&mut self, dictionaries: &mut [Dictionary]) -> Result<bool, StoreError> {
        self.chunk = Chunk::default();
        while let Some(group) = self.groups.next() {
            let users = self.reader.users(group)?;
            let left = self.wanted(&users);
            if !left.is_empty() {
                self.chunk = self.load(group, users, left, dictionaries)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn left(&self) -> Range<usize> {
        self.chunk.left.clone()
    }

    fn follows(&self) -> Follows {
        if self.chunk.goes_on {
            Follows::SameUser
        } else if self.groups.is_empty() {
            Follows::Nothing
        } else {
            Follows::Others
        }
    }

    fn hash(&self, user: usize) -> u64 {
        self.chunk.users.hash(user)
    }

    fn name(&self, user: usize) -> &str {
        self.chunk.users.name(user)
    }

    fn rows(&self, user: usize) -> Range<usize> {
        self.chunk.users.rows(user)
    }

    fn take(&mut self, users: usize, into: &mut Taken) {
        let first = self.chunk.left.start;
        self.chunk.left.start += users;
        let tells_hours = self.reader.walk.scan.precision == Precision::Hours;
        for user in first..first + users {
            let rows = self.rows_in_range(user);
            if rows.is_empty() {
                continue;
            }
            match &self.chunk.hours {
                _ if !tells_hours => {}
                Some(hours) => hours.append(user, &rows, &mut into.hours),
                None => append_hours(&self.chunk.times.values[rows.clone()], 0, &mut into.hours),
            }
            into.add(self.chunk.users.hash(user), user, rows);
        }
    }

    fn append_times(&self, rows: Range<usize>, into: &mut Vec<i64>) {
        let Chunk { times, times_from, .. } = &self.chunk;
        into.extend_from_slice(&times.values[rows.start - times_from..rows.end - times_from]);
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

    fn sessions(&self, field: usize) -> Option<usize> {
        Some(self.chunk.columns.coded(field).distinct())
    }

    fn session(&self, field: usize, _user: usize, code: usize) -> Option<Mark> {
        self.chunk.columns.coded(field).mark_of(code)
    }

    fn place(&self) -> Place {
        let Chunk { group, positions, .. } = &self.chunk;
        Place::RowGroup(Arc::clone(&self.reader.part), *group, Arc::clone(positions))
    }
}
