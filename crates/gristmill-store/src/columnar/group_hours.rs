//! The hours of a row group's rows: what is kept of them for questions that need no times.

use std::ops::Range;

use gristmill_model::{TimeRange, Timestamp};

use super::chunk::{Times, Users};
use super::source::count_before;
use crate::HourRows;
use crate::hours::{append_hours, begin_of, end_of};

/// The hours of some rows, user by user, those of a user in order.
#[derive(Debug)]
pub(super) struct GroupHours {
    /// The row after the last one of each hour; the next one begins there.
    ends: Vec<u32>,
    hours: Vec<i32>,
    /// For each user the place of its first hour, and in the end how many hours there are.
    first_of_user: Vec<u32>,
    /// The lowest and the highest time.
    pub(super) first: i64,
    pub(super) last: i64,
}

impl GroupHours {
    pub(super) fn of(times: &Times, users: &Users) -> Self {
        let mut hours = Vec::new();
        let mut first_of_user = Vec::with_capacity(users.len() + 1);
        for user in 0..users.len() {
            first_of_user.push(hours.len() as u32);
            let rows = users.rows(user);
            append_hours(&times.values[rows.clone()], rows.start, &mut hours);
        }
        first_of_user.push(hours.len() as u32);
        Self {
            ends: hours.iter().map(|hour| hour.end).collect(),
            hours: hours.iter().map(|hour| hour.hour).collect(),
            first_of_user,
            first: times.first,
            last: times.last,
        }
    }

    /// Whether all of them are in a range.
    pub(super) fn are_in(&self, range: &TimeRange) -> bool {
        range.contains(Timestamp(self.first)) && range.contains(Timestamp(self.last))
    }

    /// Whether any of them may be in a range.
    pub(super) fn may_be_in(&self, range: &TimeRange) -> bool {
        range.overlaps(Timestamp(self.first), Timestamp(self.last))
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// The rows of a user that are in a range, which cuts no hour.
    pub(super) fn rows_within(&self, user: usize, range: &TimeRange) -> Range<usize> {
        let of_user = self.of_user(user);
        let own = &self.hours[of_user.clone()];
        let is_before = |hour: &i32| range.start.is_some_and(|start| end_of(*hour) <= start.0);
        let begins_in = |hour: &i32| range.end.is_none_or(|end| begin_of(*hour) < end.0);
        let first = own.partition_point(is_before);
        let end = own.partition_point(begins_in).max(first);
        self.start(of_user.start + first)..self.start(of_user.start + end)
    }

    /// Appends the hours of rows of a user, the first of which is to be row 0.
    pub(super) fn append(&self, user: usize, rows: &Range<usize>, into: &mut Vec<HourRows>) {
        let (first, end) = (rows.start as u32, rows.end as u32);
        let places = self.of_user(user);
        let before = self.ends[places.clone()].partition_point(|end| *end <= first);
        let mut start = first;
        for place in places.skip(before) {
            if start >= end {
                break;
            }
            let own_end = self.ends[place].min(end);
            let (hour, own) = (self.hours[place], start - first..own_end - first);
            into.push(HourRows { hour, start: own.start, end: own.end });
            start = own_end;
        }
    }

    /// The hours of a user.
    fn of_user(&self, user: usize) -> Range<usize> {
        self.first_of_user[user] as usize..self.first_of_user[user + 1] as usize
    }

    /// The place of the hour that has a row.
    pub(super) fn place_of(&self, row: usize) -> usize {
        self.ends.partition_point(|end| *end as usize <= row)
    }

    /// Whether they are so few that a range which cuts one of them cuts most of what there is.
    pub(super) fn are_few(&self) -> bool {
        self.last.saturating_sub(self.first) < 2 * Timestamp::HOUR
    }

    /// Appends what some of the rows have of the hours of a range, from `place` on, the first of
    /// these rows as row 0; times are needed if the range cuts hours. Gives the place of the hour that has
    /// the row after them.
    pub(super) fn append_within(
        &self,
        mut place: usize,
        rows: &Range<usize>,
        (range, times): (&TimeRange, &[i64]),
        into: &mut Vec<HourRows>,
    ) -> usize {
        while place < self.hours.len() && self.start(place) < rows.end {
            let own = self.in_range(place, range, times);
            let within = |row: usize| (row.clamp(rows.start, rows.end) - rows.start) as u32;
            let (start, end) = (within(own.start), within(own.end));
            if start < end {
                into.push(HourRows { hour: self.hours[place], start, end });
            }
            if self.ends[place] as usize > rows.end {
                break;
            }
            place += 1;
        }
        place
    }

    /// The rows of an hour that are in a range, which are in order of time.
    fn in_range(&self, place: usize, range: &TimeRange, times: &[i64]) -> Range<usize> {
        let (begin, end) = (begin_of(self.hours[place]), end_of(self.hours[place]));
        let own = self.start(place)..self.ends[place] as usize;
        let first_from = |moment: i64| match moment {
            moment if moment <= begin => own.start,
            moment if moment >= end => own.end,
            moment => own.start + count_before(&times[own.clone()], moment),
        };
        let first = range.start.map_or(own.start, |start| first_from(start.0));
        let last = range.end.map_or(own.end, |end| first_from(end.0));
        first..last.max(first)
    }

    /// The first row of an hour.
    fn start(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    pub(super) fn memory(&self) -> usize {
        (self.ends.capacity() + self.hours.capacity() + self.first_of_user.capacity()) * 4
    }
}
