//! Merges the users of several runs and parts, a batch at a time.
//!
//! First it is found out which rows the users of a batch have in which source, then these rows are
//! copied, column by column. So a batch ends when a source has no user at hand any more.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Position};

use super::cache::ColumnCache;
use super::sessions::Sessions;
use super::source::{Place, UserSource};
use crate::{BatchUsers, Dictionary, Events, Scan, StoreError, UserBatch, UserCursor};

/// About how many rows a batch has: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };
/// How many users are looked at for a batch, with rows in range or not.
const BATCH_USERS: usize = BATCH_ROWS;

/// The users of several sources.
pub(super) struct MergedUsers {
    cache: Arc<ColumnCache>,
    fields: Vec<Field>,
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

impl MergedUsers {
    pub(super) fn new(cache: Arc<ColumnCache>, scan: &Scan) -> Self {
        Self {
            cache,
            fields: scan.fields.clone(),
            heads: Vec::new(),
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            batch: Batch { columns: vec![Vec::new(); scan.fields.len()], ..Batch::default() },
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

    /// Finds the sources that have the first user.
    fn find_ties(&mut self) {
        let first = self.heads.iter().map(|head| head.hash).min();
        let has_first = |index: &usize| Some(self.heads[*index].hash) == first;
        self.ties.clear();
        self.ties.extend((0..self.heads.len()).filter(has_first));
        if self.ties.len() > 1 {
            // Different users may share a hash; their order is that of their names.
            let heads = &self.heads;
            let name = |index: &usize| heads[*index].source.name();
            if let Some(least) = self.ties.iter().map(name).min() {
                self.ties.retain(|index| name(index) == least);
            }
        }
    }

    /// Finds the next users and where their rows are, and says how many users were looked at. It
    /// stops before a user whose rows go on in another row group.
    fn find_users(&mut self) -> usize {
        for looked_at in 0..BATCH_USERS {
            self.find_ties();
            if self.ties.iter().any(|index| self.heads[*index].source.goes_on()) {
                return looked_at;
            }
            self.batch.find_rows(&self.heads, &self.ties);
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
        let Self { heads, dictionaries, batch, ties, sessions, fields, .. } = self;
        let Some(&first) = ties.first() else { return Ok(()) };
        let (user, hash) = (heads[first].source.name().to_owned(), heads[first].hash);
        // In this order pieces that do not overlap need no sorting.
        ties.sort_by_key(|&index| {
            let source = &heads[index].source;
            source.times(&source.rows()).first().copied()
        });
        sessions.clear();
        let mut places = Vec::new();
        for &index in &*ties {
            let head = &mut heads[index];
            let mut is_same = true;
            while is_same {
                let rows = head.source.rows();
                if !rows.is_empty() {
                    batch.append(&*head.source, rows.clone(), fields, dictionaries, sessions);
                    places.push((head.source.place(), rows));
                }
                let goes_on = head.source.goes_on();
                let mut next = head.source.advance();
                if goes_on {
                    next = head.source.fill(dictionaries)?;
                }
                head.is_filled = next.is_some();
                head.hash = next.unwrap_or_default();
                is_same = goes_on && next == Some(hash) && head.source.name() == user;
            }
        }
        batch.rows = batch.times.len();
        if batch.rows == 0 {
            return Ok(());
        }
        batch.users.push(&user, batch.rows);
        for (index, field) in fields.iter().enumerate() {
            match field {
                Field::UserId => {
                    let code = dictionaries[index].code(&user);
                    batch.columns[index].resize(batch.rows, code);
                }
                Field::SessionWithinUser => dictionaries[index].number(sessions.len()),
                _ => {}
            }
        }
        if batch.overlaps(&places) {
            let mut positions = Vec::with_capacity(batch.rows);
            for (place, rows) in places {
                place.append_positions(rows, &self.cache, &mut positions)?;
            }
            batch.sort(0..batch.rows, &positions);
        }
        Ok(())
    }

    /// Copies the rows that were found.
    fn copy(&mut self) -> Result<(), StoreError> {
        let Self { heads, dictionaries, batch, sessions, fields, cache, .. } = self;
        let Batch { users, times, columns, pieces, .. } = batch;
        for (source, rows) in joined(pieces) {
            times.extend_from_slice(heads[source].source.times(&rows));
        }
        let targets = columns.iter_mut().zip(dictionaries.iter_mut());
        for (index, (field, (column, dictionary))) in fields.iter().zip(targets).enumerate() {
            match field {
                Field::UserId => {
                    for user in 0..users.len() {
                        let code = dictionary.code(users.name(user));
                        column.resize(users.rows(user).end, code);
                    }
                }
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
        for user in std::mem::take(&mut batch.unsorted) {
            let first = user.checked_sub(1).map_or(0, |before| batch.piece_ends[before]);
            let mut positions = Vec::new();
            for piece in &batch.pieces[first..batch.piece_ends[user]] {
                let place = heads[piece.source].source.place();
                place.append_positions(piece.rows.clone(), cache, &mut positions)?;
            }
            batch.sort(batch.users.rows(user), &positions);
        }
        Ok(())
    }
}

impl Batch {
    fn clear(&mut self) {
        self.users.clear();
        self.times.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.pieces.clear();
        self.piece_ends.clear();
        self.unsorted.clear();
        self.rows = 0;
    }

    /// Finds the rows of the next user of some sources, and adds the user if there are any.
    fn find_rows(&mut self, heads: &[Head], ties: &[usize]) {
        let first = self.pieces.len();
        for &source in ties {
            let rows = heads[source].source.rows();
            if !rows.is_empty() {
                self.rows += rows.len();
                self.pieces.push(Piece { source, rows });
            }
        }
        let pieces = &mut self.pieces[first..];
        let Some(piece) = pieces.first() else { return };
        self.users.push(heads[piece.source].source.name(), self.rows);
        if pieces.len() > 1 {
            let ends = |piece: &Piece| {
                let times = heads[piece.source].source.times(&piece.rows);
                (times.first().copied(), times.last().copied())
            };
            if !pieces.is_sorted_by_key(ends) {
                pieces.sort_unstable_by_key(ends);
            }
            if pieces.windows(2).any(|pieces| ends(&pieces[1]).0 <= ends(&pieces[0]).1) {
                self.unsorted.push(self.users.len() - 1);
            }
        }
        self.piece_ends.push(self.pieces.len());
    }

    /// Appends rows of the only user.
    fn append(
        &mut self,
        source: &dyn UserSource,
        rows: Range<usize>,
        fields: &[Field],
        dictionaries: &mut [Dictionary],
        sessions: &mut Sessions,
    ) {
        self.times.extend_from_slice(source.times(&rows));
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

    /// Whether pieces, each in order, are not in order together.
    fn overlaps(&self, pieces: &[(Place, Range<usize>)]) -> bool {
        let mut end = 0;
        pieces.iter().any(|(_, rows)| {
            let overlaps = end > 0 && self.times[end - 1] >= self.times[end];
            end += rows.len();
            overlaps
        })
    }

    /// Sorts rows whose log positions are these.
    fn sort(&mut self, rows: Range<usize>, positions: &[Position]) {
        let first = rows.start;
        let mut order: Vec<usize> = rows.clone().collect();
        order.sort_by_key(|&row| (self.times[row], positions[row - first]));
        let times: Vec<i64> = order.iter().map(|&row| self.times[row]).collect();
        self.times[rows.clone()].copy_from_slice(&times);
        for column in &mut self.columns {
            let codes: Vec<u32> = order.iter().map(|&row| column[row]).collect();
            column[rows.clone()].copy_from_slice(&codes);
        }
    }
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
        let Batch { users, times, columns, .. } = &self.batch;
        let columns = columns.iter().map(Vec::as_slice).collect();
        let events = Events { times, columns, dictionaries: &self.dictionaries };
        Ok(Some(UserBatch::new(users, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
