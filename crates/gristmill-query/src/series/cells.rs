//! The cells of one series: finds for each row the cell of its group and bucket.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::limits;
use gristmill_store::{Dictionaries, Events, HourRows};

use super::group::{Slots, pair};
use super::state::{Accumulate, Count, Place};
use super::walk::{Cut, check_groups};
use crate::QueryError;
use crate::calendar::Buckets;
use crate::grid::Grid;
use crate::marked::Marked;

/// The one group that there is without grouping has a cell for each of up to so many buckets at once.
const MOST_AT_ONCE: usize = 1 << 13;

/// Events, and which of them count.
pub(super) struct Rows<'a, 'e> {
    pub(super) events: &'a Events<'e>,
    pub(super) kept: Marked<'a>,
}

/// Where the cell of each group and bucket lies.
pub(super) struct Cells {
    pub(super) slots: Slots,
    pub(super) layout: Layout,
}

/// How cells are laid out.
pub(super) enum Layout {
    /// One cell for each slot, and whether it was met.
    Whole {
        met: Vec<bool>,
        groups: usize,
    },
    Buckets(Arc<Buckets>, Grid),
}

/// A bucket and the moments that it has.
#[derive(Default)]
struct Bucket {
    number: usize,
    times: Range<i64>,
}

impl Cells {
    pub(super) fn new(group: &[usize], cut: &Cut) -> Self {
        let (kept, layout) = match cut {
            Cut::Whole(_) => (None, Layout::Whole { met: Vec::new(), groups: 0 }),
            Cut::Buckets(buckets, kept) => {
                let grid = match group {
                    [] if buckets.len() <= MOST_AT_ONCE => Grid::of_one_group(buckets.len()),
                    _ => Grid::new(buckets.len()),
                };
                (kept.clone(), Layout::Buckets(Arc::clone(buckets), grid))
            }
        };
        let slots = Slots::new(group.to_vec(), kept);
        Self { slots, layout }
    }

    /// Counts the rows of each cell, with room for how many of them count.
    pub(super) fn count(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = OfUser>,
        keys: &impl Keys,
        (counts, into): (&mut Vec<u32>, &mut impl Count),
    ) {
        if rows.events.hours.is_empty() {
            self.count_by_times(rows, users, keys, into);
        } else {
            self.count_by_hours(rows, users, keys, (counts, into));
        }
    }

    /// Rows that follow each other are mostly of one cell, and are counted together.
    fn count_by_times<K: Keys>(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = OfUser>,
        keys: &K,
        into: &mut impl Count,
    ) {
        let times = rows.events.times;
        let mut bucket = Bucket::default();
        for (_, user) in users {
            into.next_user();
            let mut first = user.start;
            while first < user.end {
                let key = keys.key(first);
                self.layout.go_on(times[first], &mut bucket);
                let is_alike =
                    |row: &usize| bucket.times.contains(&times[*row]) && keys.key(*row) == key;
                // An event that does not count may lie outside all buckets.
                let next = (first + 1..user.end).find(|row| !is_alike(row)).unwrap_or(user.end);
                self.add(rows, key, bucket.number, rows.kept.count(first..next), into);
                first = next;
            }
        }
    }

    /// How many rows an hour has, in which bucket it is, and which key a row has can hardly be
    /// foretold, so little branches on them.
    fn count_by_hours<K: Keys>(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = OfUser>,
        keys: &K,
        (counts, into): (&mut Vec<u32>, &mut impl Count),
    ) {
        if let Layout::Buckets(buckets, grid) = &self.layout
            && !K::DIFFER
            && buckets.len() <= MOST_AT_ONCE
        {
            into.grow(0, grid.cells());
            if rows.events.hours.len() == rows.events.rows {
                let count = |hour: &HourRows| rows.kept.events(hour.start as usize) as usize;
                count_one_group(rows.events.hours, users, buckets, count, into);
                return;
            }
            rows.kept.count_up(rows.events.rows, counts);
            let count = |hour: &HourRows| match counts.as_slice() {
                [] => hour.rows().len(),
                counts => (counts[hour.end as usize] - counts[hour.start as usize]) as usize,
            };
            count_one_group(rows.events.hours, users, buckets, count, into);
            return;
        }
        for (_, own) in users {
            into.next_user();
            for hour in &rows.events.hours[own] {
                let bucket = self.layout.find_hour(hour.hour);
                if !K::DIFFER {
                    self.add(rows, keys.key(0), bucket, rows.kept.count(hour.rows()), into);
                    continue;
                }
                for row in hour.rows() {
                    let count = rows.kept.events(row) as usize;
                    self.add(rows, keys.key(row), bucket, count, into);
                }
            }
        }
    }

    /// Counts rows of one cell.
    #[inline]
    fn add(
        &mut self,
        rows: &Rows<'_, '_>,
        key: u64,
        bucket: usize,
        count: usize,
        into: &mut impl Count,
    ) {
        if count > 0 {
            let place = self.place(key, bucket, rows.events.dictionaries);
            into.grow(place.slot, self.layout.cells());
            into.add(place, count);
        }
    }

    /// Takes the rows that have an item into their cells.
    pub(super) fn walk<Item: Copy, Into: Accumulate<Item>>(
        &mut self,
        rows: &Rows<'_, '_>,
        users: impl Iterator<Item = OfUser>,
        keys: &impl Keys,
        item: impl Fn(usize) -> Option<Item>,
        into: &mut Into,
    ) {
        let mut bucket = Bucket::default();
        for user in users {
            into.next_user();
            let mut stretches = Stretches::of(rows.events, user);
            while let Some(stretch) = stretches.next(&self.layout, &mut bucket) {
                let (mut current, mut place) = (None, Place::default());
                for (row, count) in stretch.map(|row| (row, rows.kept.events(row))) {
                    if count == 0 {
                        continue;
                    }
                    let Some(item) = item(row) else { continue };
                    let key = keys.key(row);
                    if current != Some(key) {
                        current = Some(key);
                        place = self.place(key, bucket.number, rows.events.dictionaries);
                        into.grow(place.slot, self.layout.cells());
                    }
                    (0..count).for_each(|_| into.add(place, item));
                }
            }
            into.end_user();
        }
    }

    /// Where events with a key belong.
    fn place(&mut self, key: u64, bucket: usize, dictionaries: Dictionaries<'_>) -> Place {
        let slot = self.slots.slot(key, dictionaries);
        Place { slot, cell: self.layout.cell(slot, bucket) }
    }

    pub(super) fn check_groups(&self) -> Result<(), QueryError> {
        match &self.layout {
            Layout::Whole { groups, .. } => check_groups(*groups, limits::SERIES_RANKED_GROUPS),
            Layout::Buckets(_, grid) if self.slots.tell_all() => {
                check_groups(grid.rows(), limits::SERIES_GROUPS)
            }
            Layout::Buckets(..) => Ok(()),
        }
    }

    /// How many cells there are in buckets.
    pub(super) fn in_buckets(&self) -> usize {
        match &self.layout {
            Layout::Whole { .. } => 0,
            Layout::Buckets(_, grid) => grid.cells(),
        }
    }
}

/// Counts the events of hours. The cell of a bucket is its number.
fn count_one_group(
    hours: &[HourRows],
    users: impl Iterator<Item = OfUser>,
    buckets: &Buckets,
    count: impl Fn(&HourRows) -> usize,
    into: &mut impl Count,
) {
    for (_, own) in users {
        into.next_user();
        for hour in &hours[own] {
            let cell = buckets.find_hour(hour.hour.into());
            let count = count(hour);
            if count > 0 {
                into.add(Place { slot: 0, cell }, count);
            }
        }
    }
}

/// The rows of a user by buckets: rows that follow each other in one bucket together.
struct Stretches<'a> {
    times: &'a [i64],
    hours: &'a [HourRows],
    /// The first row.
    start: usize,
}

impl<'a> Stretches<'a> {
    fn of(events: &Events<'a>, (rows, moments): OfUser) -> Self {
        match events.times {
            [] => Self { times: &[], hours: &events.hours[moments], start: rows.start },
            times => Self { times: &times[moments], hours: &[], start: rows.start },
        }
    }

    /// The next rows of one bucket, which is found unless it is the one at hand.
    fn next(&mut self, layout: &Layout, bucket: &mut Bucket) -> Option<Range<usize>> {
        if let Some((first, later)) = self.hours.split_first() {
            layout.go_on(first.begins(), bucket);
            let mut rows = first.rows();
            let goes_on = |hour: &&HourRows| {
                let goes_on =
                    hour.start as usize == rows.end && bucket.times.contains(&hour.begins());
                if goes_on {
                    rows.end = hour.end as usize;
                }
                goes_on
            };
            let more = later.iter().take_while(goes_on).count();
            self.hours = &later[more..];
            return Some(rows);
        }
        let (first, later) = self.times.split_first()?;
        layout.go_on(*first, bucket);
        // An event that does not count may lie outside all buckets.
        let is_outside = |time: &i64| !bucket.times.contains(time);
        let count = 1 + later.iter().position(is_outside).unwrap_or(later.len());
        let rows = self.start..self.start + count;
        (self.times, self.start) = (&self.times[count..], rows.end);
        Some(rows)
    }
}

impl Layout {
    /// The number of the bucket of a moment.
    fn find(&self, time: i64) -> usize {
        match self {
            Layout::Whole { .. } => 0,
            Layout::Buckets(buckets, _) => buckets.find(time),
        }
    }

    /// The number of the bucket of an hour.
    fn find_hour(&self, hour: i32) -> usize {
        match self {
            Layout::Whole { .. } => 0,
            Layout::Buckets(buckets, _) => buckets.find_hour(hour.into()),
        }
    }

    /// Goes on to the bucket of a moment, unless it is the one at hand.
    fn go_on(&self, time: i64, bucket: &mut Bucket) {
        if bucket.times.contains(&time) {
            return;
        }
        let number = self.find(time);
        let times = match self {
            Layout::Whole { .. } => i64::MIN..i64::MAX,
            Layout::Buckets(buckets, _) => buckets.start(number).0..buckets.end(number),
        };
        *bucket = Bucket { number, times };
    }

    /// The cell of a bucket in the group of a slot.
    fn cell(&mut self, slot: usize, bucket: usize) -> usize {
        match self {
            Layout::Whole { met, groups } => {
                if met.len() <= slot {
                    met.resize(slot + 1, false);
                }
                *groups += usize::from(!met[slot]);
                met[slot] = true;
                slot
            }
            Layout::Buckets(_, grid) => grid.cell(slot, bucket),
        }
    }

    fn cells(&self) -> usize {
        match self {
            Layout::Whole { met, .. } => met.len(),
            Layout::Buckets(_, grid) => grid.cells(),
        }
    }
}

/// What the grouping columns hold for each row, as [`Slots`] takes it.
pub(super) trait Keys {
    /// Whether rows may have different keys.
    const DIFFER: bool = true;

    fn key(&self, row: usize) -> u64;
}

/// Without grouping.
pub(super) struct NoKeys;

/// By one column.
pub(super) struct OneKey<'a>(pub(super) &'a [u32]);

/// By two columns.
pub(super) struct TwoKeys<'a>(pub(super) &'a [u32], pub(super) &'a [u32]);

impl Keys for NoKeys {
    const DIFFER: bool = false;

    fn key(&self, _row: usize) -> u64 {
        0
    }
}

impl Keys for OneKey<'_> {
    fn key(&self, row: usize) -> u64 {
        u64::from(self.0[row])
    }
}

impl Keys for TwoKeys<'_> {
    fn key(&self, row: usize) -> u64 {
        pair(self.0[row], self.1[row])
    }
}

/// The rows of a user, and which of the times or of the hours are the user's.
pub(super) type OfUser = (Range<usize>, Range<usize>);
