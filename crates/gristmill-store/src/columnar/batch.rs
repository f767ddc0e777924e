//! Users of a batch, and their rows as they are gathered from several sources.

use std::ops::Range;

use gristmill_model::Field;

use super::cache::ColumnCache;
use super::source::{Head, Place};
use super::taken::{Taken, TakenUser};
use crate::property::finite_number;
use crate::{BatchUsers, Dictionary, HourRows, Precision, StoreError, Ties};

/// Whether anybody asks who the users are.
#[derive(Clone, Copy)]
pub(super) enum Names {
    Told,
    LeftOut,
}

/// Users and their rows.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) users: BatchUsers,
    pub(super) times: Vec<i64>,
    pub(super) hours: Vec<HourRows>,
    /// If there are hours, for each user where they end.
    pub(super) hour_ends: Vec<u32>,
    pub(super) columns: Vec<Vec<u32>>,
    pub(super) numbers: Vec<Vec<f64>>,
    pub(super) counts: Vec<u32>,
    pub(super) rows: usize,
    pub(super) taken: Taken,
    /// The users that were taken, in the order of the batch.
    pieces: Vec<TakenUser>,
    /// For each user of the batch where its pieces end.
    piece_ends: Vec<usize>,
    /// The users of the batch whose pieces overlap in time.
    pub(super) unsorted: Vec<usize>,
    /// For each row of the batch where it is among those that were copied.
    from: Vec<u32>,
    /// Room for sorting and gathering.
    order: Vec<(u64, u32)>,
    spare: Spare,
}

/// Room for what is gathered, one for each width.
#[derive(Default)]
struct Spare {
    times: Vec<i64>,
    codes: Vec<u32>,
    numbers: Vec<f64>,
}

/// Rows of a source that have been copied, and where they are.
pub(super) struct Copied {
    pub(super) source: usize,
    pub(super) place: Place,
    pub(super) rows: Range<usize>,
}

impl Batch {
    /// An empty one with so many columns of codes and of numbers.
    pub(super) fn of(columns: usize, numbers: usize) -> Self {
        Self {
            columns: vec![Vec::new(); columns],
            numbers: vec![Vec::new(); numbers],
            ..Self::default()
        }
    }

    pub(super) fn clear(&mut self) {
        self.users.clear();
        self.times.clear();
        self.hours.clear();
        self.hour_ends.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.numbers.iter_mut().for_each(Vec::clear);
        self.counts.clear();
        self.rows = 0;
        self.taken.clear();
        self.pieces.clear();
        self.piece_ends.clear();
        self.unsorted.clear();
        self.from.clear();
    }

    /// The pieces of a user.
    pub(super) fn pieces_of(&self, user: usize) -> &[TakenUser] {
        let first = user.checked_sub(1).map_or(0, |before| self.piece_ends[before]);
        &self.pieces[first..self.piece_ends[user]]
    }

    /// Brings the users that were taken into order, those that are the same as one with several
    /// pieces. Times must have been copied.
    pub(super) fn bring_together(&mut self, heads: &[Head], precision: Precision, names: Names) {
        let Self { taken, order, pieces, .. } = self;
        order.clear();
        order.extend(taken.users.iter().zip(0..).map(|(user, index)| (user.hash, index)));
        // The users of each source are in order, and a stable sort makes use of that.
        order.sort_by_key(|(hash, _)| *hash);
        pieces.extend(order.iter().map(|(_, index)| taken.users[*index as usize]));
        let name = |piece: &TakenUser| heads[piece.source as usize].name(piece.user as usize);
        let mut start = 0;
        while let Some(first) = self.pieces.get(start) {
            let alike = self.pieces[start..].iter().take_while(|piece| piece.hash == first.hash);
            let mut end = start + alike.count();
            if self.pieces[start + 1..end].iter().any(|piece| name(piece) != name(first)) {
                // Different users may share a hash; their order is that of their names.
                self.pieces[start..end].sort_by_key(name);
                let first = name(&self.pieces[start]);
                let own = self.pieces[start..end].iter().take_while(|piece| name(piece) == first);
                end = start + own.count();
            }
            let name = match names {
                Names::Told => name(&self.pieces[start]),
                Names::LeftOut => "",
            };
            self.add_user(start..end, precision, name);
            start = end;
        }
    }

    /// Adds the next user, whose pieces these are.
    fn add_user(&mut self, pieces: Range<usize>, precision: Precision, name: &str) {
        let own = &mut self.pieces[pieces.clone()];
        if own.len() > 1 && precision == Precision::Times {
            let times = &self.times;
            let ends = |piece: &TakenUser| {
                let own = piece.copied();
                (times[own.start], times[own.end - 1])
            };
            if !own.is_sorted_by_key(ends) {
                own.sort_by_key(ends);
            }
            if own.windows(2).any(|pieces| ends(&pieces[1]).0 <= ends(&pieces[0]).1) {
                self.unsorted.push(self.users.len());
            }
        }
        for piece in &*own {
            self.from.extend(piece.copied().map(|row| row as u32));
        }
        if precision == Precision::Hours {
            let first_hour = self.hours.len();
            let mut start = self.rows as u32;
            for piece in &*own {
                let hours = self.taken.hours[piece.hours()].iter();
                self.hours.extend(hours.map(|hour| HourRows {
                    hour: hour.hour,
                    start: hour.start + start,
                    end: hour.end + start,
                }));
                start += piece.len() as u32;
            }
            if own.len() > 1 {
                sort_hours(&mut self.hours[first_hour..]);
            }
            self.hour_ends.push(self.hours.len() as u32);
        }
        self.rows = self.from.len();
        self.users.push(name, self.rows);
        self.piece_ends.push(pieces.end);
    }

    /// Brings what was copied into the order of the rows.
    pub(super) fn gather(&mut self) {
        let Self { times, columns, numbers, counts, from, spare, taken, .. } = self;
        let is_in_order =
            from.len() == taken.rows() && (0..).zip(&*from).all(|(to, from)| to == *from);
        if is_in_order {
            return;
        }
        gather(from, times, &mut spare.times);
        gather(from, counts, &mut spare.codes);
        columns.iter_mut().for_each(|column| gather(from, column, &mut spare.codes));
        numbers.iter_mut().for_each(|column| gather(from, column, &mut spare.numbers));
    }

    /// Appends what the rows have in columns of the users' names.
    pub(super) fn append_names(
        &mut self,
        fields: &[Field],
        numeric: &[Field],
        dictionaries: &mut [Dictionary],
    ) {
        let users = &self.users;
        let targets = self.columns.iter_mut().zip(dictionaries).zip(fields);
        for ((column, dictionary), _) in targets.filter(|(_, field)| **field == Field::UserId) {
            for user in 0..users.len() {
                column.resize(users.rows(user).end, dictionary.code(users.name(user)));
            }
        }
        let targets = self.numbers.iter_mut().zip(numeric);
        for (numbers, _) in targets.filter(|(_, field)| **field == Field::UserId) {
            for user in 0..users.len() {
                let number = finite_number(Some(users.name(user)));
                numbers.resize(users.rows(user).end, number);
            }
        }
    }

    /// Whether rows that were copied, in order within each source, are not in order together.
    pub(super) fn overlaps(&self, copied: &[Copied]) -> bool {
        let mut end = 0;
        copied.windows(2).any(|pair| {
            end += pair[0].rows.len();
            pair[0].source != pair[1].source && self.times[end - 1] >= self.times[end]
        })
    }

    /// Sorts the rows of one user, from `first` on. The log positions decide between rows of
    /// different sources only, and are not read for others.
    pub(super) fn sort(
        &mut self,
        first: usize,
        copied: &[Copied],
        (ties, cache): (Ties, &ColumnCache),
    ) -> Result<(), StoreError> {
        let sources = copied.iter().flat_map(|one| one.rows.clone().map(|_| one.source as u32));
        let sorted = |(row, source): (u32, u32)| Sorted {
            time: self.times[first + row as usize],
            source,
            row,
        };
        let mut order: Vec<Sorted> = (0..).zip(sources).map(sorted).collect();
        order.sort_by_key(|sorted| sorted.time);
        let are_tied = |a: &Sorted, b: &Sorted| a.time == b.time && a.source != b.source;
        if ties == Ties::ByPosition && order.windows(2).any(|pair| are_tied(&pair[0], &pair[1])) {
            let mut positions = Vec::with_capacity(order.len());
            for Copied { place, rows, .. } in copied {
                place.append_positions(rows.clone(), cache, &mut positions)?;
            }
            order.sort_by_key(|sorted| (sorted.time, positions[sorted.row as usize]));
        }
        reorder(&mut self.times[first..], &order);
        self.columns.iter_mut().for_each(|column| reorder(&mut column[first..], &order));
        self.numbers.iter_mut().for_each(|numbers| reorder(&mut numbers[first..], &order));
        Ok(())
    }
}

/// A row that is being sorted, counted from the first one, and the source that it was copied from.
struct Sorted {
    time: i64,
    source: u32,
    row: u32,
}

/// Brings the rows at the front of a column into an order.
fn reorder<T: Copy>(column: &mut [T], order: &[Sorted]) {
    let sorted: Vec<T> = order.iter().map(|sorted| column[sorted.row as usize]).collect();
    column[..sorted.len()].copy_from_slice(&sorted);
}

/// Has a column, unless it is empty, hold what it had in some rows.
fn gather<T: Copy>(from: &[u32], column: &mut Vec<T>, spare: &mut Vec<T>) {
    if !column.is_empty() {
        spare.clear();
        spare.extend(from.iter().map(|row| column[*row as usize]));
        std::mem::swap(column, spare);
    }
}

/// Brings the hours of one user into their order.
pub(super) fn sort_hours(hours: &mut [HourRows]) {
    if !hours.is_sorted_by_key(|hour| hour.hour) {
        hours.sort_by_key(|hour| hour.hour);
    }
}
