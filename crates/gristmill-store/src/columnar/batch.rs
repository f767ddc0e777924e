//! Users of a batch, and their rows as they are gathered from several sources.

use std::ops::Range;

use gristmill_model::Field;

use super::cache::ColumnCache;
use super::sessions::Sessions;
use super::source::{Head, Place, UserRows, UserSource};
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
    pub(super) columns: Vec<Vec<u32>>,
    pub(super) numbers: Vec<Vec<f64>>,
    pub(super) counts: Vec<u32>,
    /// Where the rows are, user by user.
    pub(super) pieces: Vec<Piece>,
    /// Where the pieces end of each user, or of several users of one piece.
    pub(super) piece_ends: Vec<usize>,
    /// The users whose pieces overlap in time, and which of the ends is theirs.
    pub(super) unsorted: Vec<(usize, usize)>,
    /// How many rows the pieces have.
    pub(super) rows: usize,
}

/// Rows of a user that follow each other in a source.
pub(super) struct Piece {
    pub(super) source: usize,
    pub(super) rows: UserRows,
}

/// Rows of a source that have been copied, and where they are.
pub(super) struct Copied {
    pub(super) source: usize,
    pub(super) place: Place,
    pub(super) rows: Range<usize>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.users.clear();
        self.times.clear();
        self.hours.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.numbers.iter_mut().for_each(Vec::clear);
        self.counts.clear();
        self.pieces.clear();
        self.piece_ends.clear();
        self.unsorted.clear();
        self.rows = 0;
    }

    /// Adds the next user of some sources, if it has any rows.
    pub(super) fn add_user(
        &mut self,
        sources: &[usize],
        heads: &[Head],
        precision: Precision,
        names: Names,
    ) {
        let first = self.pieces.len();
        for &source in sources {
            if let Some(user) = &heads[source].user
                && !user.rows.rows.is_empty()
            {
                self.rows += user.rows.rows.len();
                self.pieces.push(Piece { source, rows: user.rows.clone() });
            }
        }
        let pieces = &mut self.pieces[first..];
        if pieces.is_empty() {
            return;
        }
        if pieces.len() > 1 && precision == Precision::Times {
            let ends = |piece: &Piece| {
                let times = heads[piece.source].source.times(&piece.rows.rows);
                (times.first().copied(), times.last().copied())
            };
            if !pieces.is_sorted_by_key(ends) {
                pieces.sort_unstable_by_key(ends);
            }
            if pieces.windows(2).any(|pieces| ends(&pieces[1]).0 <= ends(&pieces[0]).1) {
                self.unsorted.push((self.users.len(), self.piece_ends.len()));
            }
        }
        let name = match names {
            Names::Told => heads[pieces[0].source].source.name(),
            Names::LeftOut => "",
        };
        self.users.push(name, self.rows);
        self.piece_ends.push(self.pieces.len());
    }

    /// Adds the rows of users of a source that were passed over.
    pub(super) fn add_passed(&mut self, source: usize, rows: UserRows) {
        self.rows += rows.rows.len();
        self.pieces.push(Piece { source, rows });
        self.piece_ends.push(self.pieces.len());
    }

    pub(super) fn copy_times(&mut self, heads: &[Head]) {
        for (source, rows) in joined(&self.pieces) {
            self.times.extend_from_slice(heads[source].source.times(&rows));
        }
    }

    pub(super) fn copy_counts(&mut self, heads: &[Head]) {
        for (source, rows) in joined(&self.pieces) {
            heads[source].source.append_counts(rows, &mut self.counts);
        }
    }

    pub(super) fn copy_hours(&mut self, heads: &[Head]) {
        let (mut first, mut start) = (0, 0);
        for &end in &self.piece_ends {
            let first_hour = self.hours.len();
            for Piece { source, rows } in &self.pieces[first..end] {
                heads[*source].source.append_hours(rows, start, &mut self.hours);
                start += rows.rows.len();
            }
            if end - first > 1 {
                sort_hours(&mut self.hours[first_hour..]);
            }
            first = end;
        }
    }

    /// Appends what rows of the only user have in the fields of the walk.
    pub(super) fn append(
        &mut self,
        source: &dyn UserSource,
        rows: Range<usize>,
        (fields, numeric): (&[Field], &[Field]),
        dictionaries: &mut [Dictionary],
        sessions: &mut Sessions,
    ) {
        for (index, numbers) in self.numbers.iter_mut().enumerate() {
            if numeric[index] != Field::UserId {
                source.append_numbers(index, rows.clone(), numbers);
            }
        }
        let targets = self.columns.iter_mut().zip(dictionaries);
        for (index, (field, (column, dictionary))) in fields.iter().zip(targets).enumerate() {
            match field {
                Field::UserId => {}
                Field::SessionWithinUser => {
                    source.append_sessions(index, rows.clone(), sessions, column);
                }
                _ => source.append(index, rows.clone(), dictionary, column),
            }
        }
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

/// The pieces, those that follow each other in a source as one.
pub(super) fn joined(pieces: &[Piece]) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
    let follow =
        |a: &Piece, b: &Piece| a.source == b.source && a.rows.rows.end == b.rows.rows.start;
    pieces.chunk_by(follow).filter_map(|pieces| {
        let (first, last) = (pieces.first()?, pieces.last()?);
        Some((first.source, first.rows.rows.start..last.rows.rows.end))
    })
}

/// Brings the hours of one user into their order.
pub(super) fn sort_hours(hours: &mut [HourRows]) {
    if !hours.is_sorted_by_key(|hour| hour.hour) {
        hours.sort_by_key(|hour| hour.hour);
    }
}
