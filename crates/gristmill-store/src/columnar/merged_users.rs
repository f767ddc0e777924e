//! Merges the users of several runs and parts, a batch at a time.
//!
//! First it is found out which rows the users of a batch have in which source, then these rows are
//! copied, column by column. So a batch ends when a source has no user at hand any more.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::Field;
use smallvec::SmallVec;

use super::cache::ColumnCache;
use super::sessions::Sessions;
use super::source::{Place, SourceUser, UserSource};
use crate::property::finite_number;
use crate::{
    BatchUsers, Dictionaries, Dictionary, Events, Scan, StoreError, UserBatch, UserCursor,
};

/// About how many rows a batch has: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };
/// How many users are looked at for a batch, with rows in range or not.
const BATCH_USERS: usize = BATCH_ROWS;

/// The users of several sources.
pub(super) struct MergedUsers {
    cache: Arc<ColumnCache>,
    fields: Vec<Field>,
    numeric: Vec<Field>,
    heads: Vec<Head>,
    dictionaries: Vec<Dictionary>,
    batch: Batch,
    /// The sources that have the user at hand.
    ties: Vec<usize>,
    sessions: Sessions,
}

/// A source and the hash of its next user.
struct Head {
    source: Box<dyn UserSource>,
    hash: u64,
    /// Whether it has users at hand.
    is_filled: bool,
}

/// Users and their rows.
#[derive(Default)]
struct Batch {
    users: BatchUsers,
    times: Vec<i64>,
    columns: Vec<Vec<u32>>,
    numbers: Vec<Vec<f64>>,
    /// Where the rows are, user by user.
    pieces: Vec<Piece>,
    /// For each user where its pieces end.
    piece_ends: Vec<usize>,
    /// The users whose pieces overlap in time.
    unsorted: Vec<usize>,
    /// How many rows the pieces have.
    rows: usize,
}

/// Rows that follow each other in a source.
struct Piece {
    source: usize,
    rows: Range<usize>,
}

/// Rows of a source that have been copied, and where they are.
struct Copied {
    source: usize,
    place: Place,
    rows: Range<usize>,
}

impl MergedUsers {
    pub(super) fn new(cache: Arc<ColumnCache>, scan: &Scan) -> Self {
        Self {
            cache,
            fields: scan.fields.clone(),
            numeric: scan.numbers.clone(),
            heads: Vec::new(),
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            batch: Batch {
                columns: vec![Vec::new(); scan.fields.len()],
                numbers: vec![Vec::new(); scan.numbers.len()],
                ..Batch::default()
            },
            ties: Vec::new(),
            sessions: Sessions::default(),
        }
    }

    pub(super) fn add(&mut self, source: impl UserSource + 'static) {
        self.heads.push(Head { source: Box::new(source), hash: 0, is_filled: false });
    }

    /// Sees to it that all sources have users at hand, and drops those that have no more.
    fn fill(&mut self) -> Result<(), StoreError> {
        let mut index = 0;
        while let Some(head) = self.heads.get_mut(index) {
            if !head.is_filled {
                let Some(hash) = head.source.fill(&mut self.dictionaries)? else {
                    drop(self.heads.swap_remove(index));
                    continue;
                };
                (head.hash, head.is_filled) = (hash, true);
            }
            index += 1;
        }
        Ok(())
    }

    /// Finds the next users and where their rows are, and says how many users were looked at. It
    /// stops before a user whose rows go on in another row group.
    fn find_users(&mut self) -> usize {
        for looked_at in 0..BATCH_USERS {
            let users = first_users(&self.heads);
            self.ties.clear();
            self.ties.extend(users.iter().map(|(source, _)| *source));
            if users.iter().any(|(_, user)| user.goes_on) {
                return looked_at;
            }
            self.batch.add_user(&users, &self.heads);
            drop(users);
            for &index in &self.ties {
                let head = &mut self.heads[index];
                match head.source.advance() {
                    Some(hash) => head.hash = hash,
                    None => head.is_filled = false,
                }
            }
            let all_filled = self.ties.iter().all(|index| self.heads[*index].is_filled);
            if !all_filled || self.batch.rows >= BATCH_ROWS {
                return looked_at + 1;
            }
        }
        BATCH_USERS
    }

    /// Gathers one user whose rows go on in another row group.
    fn gather_long(&mut self) -> Result<(), StoreError> {
        let Self { heads, dictionaries, batch, ties, sessions, fields, numeric, .. } = self;
        let Some(&first) = ties.first() else { return Ok(()) };
        let (user, hash) = (heads[first].source.user().name.to_owned(), heads[first].hash);
        // In this order pieces that do not overlap need no sorting.
        ties.sort_by_key(|&index| {
            let source = &heads[index].source;
            source.times(&source.user().rows).first().copied()
        });
        sessions.clear();
        let mut places = Vec::new();
        for &index in &*ties {
            let head = &mut heads[index];
            let mut is_same = true;
            while is_same {
                let SourceUser { rows, goes_on, .. } = head.source.user();
                if !rows.is_empty() {
                    let fields = (fields.as_slice(), numeric.as_slice());
                    batch.append(&*head.source, rows.clone(), fields, dictionaries, sessions);
                    places.push(Copied { source: index, place: head.source.place(), rows });
                }
                let mut next = head.source.advance();
                if goes_on {
                    next = head.source.fill(dictionaries)?;
                }
                head.is_filled = next.is_some();
                head.hash = next.unwrap_or_default();
                is_same = goes_on && next == Some(hash) && head.source.user().name == user;
            }
        }
        batch.rows = batch.times.len();
        if batch.rows == 0 {
            return Ok(());
        }
        batch.users.push(&user, batch.rows);
        batch.append_names(fields, numeric, dictionaries);
        for (field, dictionary) in fields.iter().zip(dictionaries) {
            if *field == Field::SessionWithinUser {
                dictionary.number(sessions.len());
            }
        }
        if batch.overlaps(&places) {
            batch.sort(0, &places, &self.cache)?;
        }
        Ok(())
    }

    /// Copies the rows that were found.
    fn copy(&mut self) -> Result<(), StoreError> {
        let Self { heads, dictionaries, batch, sessions, fields, numeric, cache, .. } = self;
        let Batch { times, columns, numbers, pieces, .. } = batch;
        for (source, rows) in joined(pieces) {
            times.extend_from_slice(heads[source].source.times(&rows));
        }
        for (index, numbers) in numbers.iter_mut().enumerate() {
            if numeric[index] != Field::UserId {
                for (source, rows) in joined(pieces) {
                    heads[source].source.append_numbers(index, rows, numbers);
                }
            }
        }
        let targets = columns.iter_mut().zip(dictionaries.iter_mut());
        for (index, (field, (column, dictionary))) in fields.iter().zip(targets).enumerate() {
            match field {
                Field::UserId => {}
                Field::SessionWithinUser => {
                    let mut most = 0;
                    let mut first = 0;
                    for &end in &batch.piece_ends {
                        let pieces = &pieces[first..end];
                        most = most.max(append_sessions(heads, pieces, index, sessions, column));
                        first = end;
                    }
                    dictionary.number(most);
                }
                _ => {
                    for (source, rows) in joined(pieces) {
                        heads[source].source.append(index, rows, dictionary, column);
                    }
                }
            }
        }
        batch.append_names(fields, numeric, dictionaries);
        for user in std::mem::take(&mut batch.unsorted) {
            let first = user.checked_sub(1).map_or(0, |before| batch.piece_ends[before]);
            let pieces = &batch.pieces[first..batch.piece_ends[user]];
            let copied = |&Piece { source, ref rows }: &Piece| {
                let place = heads[source].source.place();
                Copied { source, place, rows: rows.clone() }
            };
            let copied: Vec<_> = pieces.iter().map(copied).collect();
            batch.sort(batch.users.rows(user).start, &copied, cache)?;
        }
        Ok(())
    }
}

impl Batch {
    fn clear(&mut self) {
        self.users.clear();
        self.times.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.numbers.iter_mut().for_each(Vec::clear);
        self.pieces.clear();
        self.piece_ends.clear();
        self.unsorted.clear();
        self.rows = 0;
    }

    /// Adds a user of some sources, if it has any rows.
    fn add_user(&mut self, users: &[(usize, SourceUser<'_>)], heads: &[Head]) {
        let first = self.pieces.len();
        for (source, user) in users.iter().filter(|(_, user)| !user.rows.is_empty()) {
            self.rows += user.rows.len();
            self.pieces.push(Piece { source: *source, rows: user.rows.clone() });
        }
        let pieces = &mut self.pieces[first..];
        if pieces.len() > 1 {
            let ends = |piece: &Piece| {
                let times = heads[piece.source].source.times(&piece.rows);
                (times.first().copied(), times.last().copied())
            };
            if !pieces.is_sorted_by_key(ends) {
                pieces.sort_unstable_by_key(ends);
            }
            if pieces.windows(2).any(|pieces| ends(&pieces[1]).0 <= ends(&pieces[0]).1) {
                self.unsorted.push(self.users.len());
            }
        }
        if let Some((_, user)) = users.first().filter(|_| self.pieces.len() > first) {
            self.users.push(user.name, self.rows);
            self.piece_ends.push(self.pieces.len());
        }
    }

    /// Appends rows of the only user.
    fn append(
        &mut self,
        source: &dyn UserSource,
        rows: Range<usize>,
        (fields, numeric): (&[Field], &[Field]),
        dictionaries: &mut [Dictionary],
        sessions: &mut Sessions,
    ) {
        self.times.extend_from_slice(source.times(&rows));
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
    fn append_names(
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
    fn overlaps(&self, copied: &[Copied]) -> bool {
        let mut end = 0;
        copied.windows(2).any(|pair| {
            end += pair[0].rows.len();
            pair[0].source != pair[1].source && self.times[end - 1] >= self.times[end]
        })
    }

    /// Sorts the rows of one user, from `first` on. The log positions decide between rows of
    /// different sources only, and are not read for others.
    fn sort(
        &mut self,
        first: usize,
        copied: &[Copied],
        cache: &ColumnCache,
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
        if order.windows(2).any(|pair| are_tied(&pair[0], &pair[1])) {
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

/// The first user in each source that has it.
fn first_users(heads: &[Head]) -> SmallVec<[(usize, SourceUser<'_>); 4]> {
    let first = heads.iter().map(|head| head.hash).min();
    let heads = heads.iter().enumerate().filter(|(_, head)| Some(head.hash) == first);
    let mut users: SmallVec<[_; 4]> =
        heads.map(|(source, head)| (source, head.source.user())).collect();
    if users.len() > 1 {
        // Different users may share a hash; their order is that of their names.
        let least = users.iter().map(|(_, user)| user.name).min();
        users.retain(|(_, user)| Some(user.name) == least);
    }
    users
}

/// The pieces, those that follow each other in a source as one.
fn joined(pieces: &[Piece]) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
    let follow = |a: &Piece, b: &Piece| a.source == b.source && a.rows.end == b.rows.start;
    pieces.chunk_by(follow).filter_map(|pieces| {
        let (first, last) = (pieces.first()?, pieces.last()?);
        Some((first.source, first.rows.start..last.rows.end))
    })
}

/// Appends codes for the sessions of one user, and says below what they are.
fn append_sessions(
    heads: &[Head],
    pieces: &[Piece],
    field: usize,
    sessions: &mut Sessions,
    column: &mut Vec<u32>,
) -> usize {
    let source = |piece: &Piece| &heads[piece.source].source;
    if let [piece] = pieces
        && let Some(codes) = source(piece).own_sessions(field, piece.rows.clone(), column)
    {
        return codes;
    }
    sessions.clear();
    for piece in pieces {
        source(piece).append_sessions(field, piece.rows.clone(), sessions, column);
    }
    sessions.len()
}

impl UserCursor for MergedUsers {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        self.batch.clear();
        self.fill()?;
        if self.heads.is_empty() {
            return Ok(None);
        }
        match self.find_users() {
            0 => self.gather_long()?,
            _ => self.copy()?,
        }
        let Batch { users, times, columns, numbers, .. } = &self.batch;
        let columns = columns.iter().map(Vec::as_slice).collect();
        let numbers = numbers.iter().map(Vec::as_slice).collect();
        let events =
            Events { times, columns, numbers, dictionaries: Dictionaries::of(&self.dictionaries) };
        Ok(Some(UserBatch::new(users, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
