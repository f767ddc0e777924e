//! Merges the users of several runs and parts, a batch at a time.
//!
//! Hashes are spread evenly, so a batch is a range of them: each source gives its users up to a hash,
//! their rows are copied column by column, and then users and rows are brought into order.

use std::sync::Arc;

use gristmill_model::Field;

use super::batch::{Batch, Copied, Names, sort_hours};
use super::cache::ColumnCache;
use super::digest::DigestUsers;
use super::sessions::Sessions;
use super::source::{Follows, Head, UserSource, next_hash, rows_up_to, users_up_to, whole_up_to};
use super::taken::{Stretch, TakenUser};
use crate::{
    Dictionaries, Dictionary, Events, HourRows, Precision, Scan, StoreError, Ties, UserBatch,
    UserCursor,
};

/// About how many rows a batch has: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };

/// Where few rows are in range, a batch is found among up to so many times as many.
const MOST_PER_ROW: u64 = 64;

/// What the rows of a digest are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DigestRows {
    /// One event each.
    Events,
    /// Events that are alike, with their number.
    Counts,
}

/// The users of several sources.
pub(super) struct MergedUsers {
    cache: Arc<ColumnCache>,
    fields: Vec<Field>,
    numeric: Vec<Field>,
    precision: Precision,
    order: Ties,
    names: Names,
    /// What the rows of the digest are, if one of the sources is one.
    digest: Option<DigestRows>,
    heads: Vec<Head>,
    dictionaries: Vec<Dictionary>,
    batch: Batch,
    /// Of the rows that were looked at for the last batch, how many were in range.
    in_range: (u64, u64),
    sessions: Sessions,
}

impl MergedUsers {
    pub(super) fn new(cache: Arc<ColumnCache>, scan: &Scan) -> Self {
        Self {
            cache,
            fields: scan.fields.clone(),
            numeric: scan.numbers.clone(),
            precision: scan.precision,
            order: scan.ties,
            digest: None,
            names: if scan.names_users() { Names::Told } else { Names::LeftOut },
            heads: Vec::new(),
            dictionaries: scan.fields.iter().map(|_| Dictionary::default()).collect(),
            batch: Batch::of(scan.fields.len(), scan.numbers.len()),
            in_range: (1, 1),
            sessions: Sessions::default(),
        }
    }

    pub(super) fn add(&mut self, source: impl UserSource + 'static) {
        self.heads.push(Box::new(source));
    }

    /// Adds the users of a digest, before any other source.
    pub(super) fn add_digest(&mut self, users: DigestUsers) {
        self.digest = Some(match self.precision {
            Precision::Times => DigestRows::Events,
            Precision::Hours | Precision::Untold => DigestRows::Counts,
        });
        self.dictionaries = users.dictionaries();
        self.add(users);
    }

    /// Has it tell the names of users, whatever is asked.
    pub(super) fn tell_names(&mut self) {
        self.names = Names::Told;
    }

    /// What the codes of the walk mean when it is over.
    pub(super) fn into_dictionaries(self) -> Vec<Dictionary> {
        self.dictionaries
    }

    /// Sees to it that all sources have users at hand, and drops those that have no more.
    fn fill(&mut self) -> Result<(), StoreError> {
        let mut index = 0;
        while let Some(head) = self.heads.get_mut(index) {
            if head.left().is_empty() && !head.fill(&mut self.dictionaries)? {
                drop(self.heads.swap_remove(index));
                continue;
            }
            index += 1;
        }
        Ok(())
    }

    /// Up to which hash the next batch goes, but no higher than to `last`; `None` if rows of its
    /// first user may not be at hand.
    fn limit(&self, last: u64) -> Option<u64> {
        let first = self.heads.iter().filter_map(next_hash).min()?;
        let whole = self.heads.iter().map(whole_up_to).min()??.min(last);
        if whole < first {
            return None;
        }
        let rows: u64 = self.heads.iter().map(|head| rows_up_to(head, whole)).sum();
        let (in_range, of) = self.in_range;
        let rows = (rows * in_range / of).max(rows / MOST_PER_ROW);
        if rows < 2 * BATCH_ROWS as u64 {
            return Some(whole);
        }
        let highest = |head: &Head| head.left().next_back().map(|user| head.hash(user));
        let last =
            self.heads.iter().filter_map(highest).max().map_or(whole, |last| last.min(whole));
        let share = u128::from(last - first) * BATCH_ROWS as u128 / u128::from(rows);
        Some(first + share as u64)
    }

    /// Gathers the users up to a hash.
    fn gather(&mut self, limit: u64) -> Result<(), StoreError> {
        let Self { heads, batch, precision, names, .. } = self;
        let mut looked_at = 0;
        for (index, head) in heads.iter_mut().enumerate() {
            looked_at += rows_up_to(head, limit);
            let users = users_up_to(head, limit);
            batch.taken.begin(index);
            head.take(users.len(), &mut batch.taken);
        }
        let in_range = batch.taken.users.iter().map(|user| user.len() as u64).sum();
        self.in_range = (in_range, looked_at.max(1));
        if *precision == Precision::Times {
            for Stretch { source, rows, .. } in &batch.taken.stretches {
                heads[*source].append_times(rows.clone(), &mut batch.times);
            }
        }
        batch.bring_together(heads, *precision, *names);
        self.copy_columns();
        self.batch.gather();
        self.number_sessions();
        self.batch.append_names(&self.fields, &self.numeric, &mut self.dictionaries);
        self.sort()
    }

    /// Copies what the rows that were taken have, stretch by stretch.
    fn copy_columns(&mut self) {
        let Self { heads, dictionaries, batch, fields, numeric, .. } = self;
        let Batch { taken, columns, numbers, counts, .. } = batch;
        let targets = columns.iter_mut().zip(dictionaries.iter_mut()).zip(fields).enumerate();
        for (index, ((column, dictionary), field)) in targets {
            if *field != Field::UserId {
                for Stretch { source, rows, .. } in &taken.stretches {
                    heads[*source].append(index, rows.clone(), dictionary, column);
                }
            }
        }
        for (index, (column, field)) in numbers.iter_mut().zip(numeric).enumerate() {
            if *field != Field::UserId {
                for Stretch { source, rows, .. } in &taken.stretches {
                    heads[*source].append_numbers(index, rows.clone(), column);
                }
            }
        }
        if self.digest == Some(DigestRows::Counts) {
            for Stretch { source, rows, .. } in &taken.stretches {
                heads[*source].append_counts(rows.clone(), counts);
            }
        }
    }

    /// Gives each session of a user one code in each column of sessions.
    fn number_sessions(&mut self) {
        let Self { heads, dictionaries, batch, sessions, fields, .. } = self;
        for (index, field) in fields.iter().enumerate() {
            if *field != Field::SessionWithinUser {
                continue;
            }
            let mut column = std::mem::take(&mut batch.columns[index]);
            let known: Vec<_> = heads.iter().map(|head| head.sessions(index)).collect();
            let mut most = known.iter().flatten().copied().max().unwrap_or(0);
            for user in 0..batch.users.len() {
                let pieces = batch.pieces_of(user);
                if let [piece] = pieces
                    && known[piece.source as usize].is_some()
                {
                    continue;
                }
                sessions.clear();
                let mut start = batch.users.rows(user).start;
                for piece in pieces {
                    let codes = &mut column[start..start + piece.len()];
                    let head = &heads[piece.source as usize];
                    sessions
                        .translate(codes, |code| head.session(index, piece.user as usize, code));
                    start += piece.len();
                }
                most = most.max(sessions.len());
            }
            batch.columns[index] = column;
            dictionaries[index].number(most);
        }
    }

    /// Sorts the rows of users whose pieces overlap.
    fn sort(&mut self) -> Result<(), StoreError> {
        let Self { heads, batch, cache, order, .. } = self;
        for user in std::mem::take(&mut batch.unsorted) {
            let copied = |piece: &TakenUser| {
                let source = piece.source as usize;
                Copied { source, place: heads[source].place(), rows: piece.rows() }
            };
            let copied: Vec<_> = batch.pieces_of(user).iter().map(copied).collect();
            batch.sort(batch.users.rows(user).start, &copied, (*order, cache))?;
        }
        Ok(())
    }

    /// The hash of the next user, and the sources that have that user.
    fn sources_of_next(&self) -> (Option<u64>, Vec<usize>) {
        let first = self.heads.iter().filter_map(next_hash).min();
        let name = |index: &usize| {
            let head = &self.heads[*index];
            head.left().next().map(|user| head.name(user))
        };
        let has_first = |index: &usize| next_hash(&self.heads[*index]) == first;
        let mut sources: Vec<_> = (0..self.heads.len()).filter(has_first).collect();
        // Different users may share a hash; their order is that of their names.
        let least = sources.iter().map(name).min();
        sources.retain(|index| Some(name(index)) == least);
        (first, sources)
    }

    /// Gathers one user whose rows go on in another row group.
    fn gather_long(&mut self) -> Result<(), StoreError> {
        let (hash, mut sources) = self.sources_of_next();
        let Some(&first) = sources.first() else { return Ok(()) };
        let head = &self.heads[first];
        let name = head.name(head.left().start).to_owned();
        if self.precision == Precision::Times {
            // In this order pieces that do not overlap need no sorting.
            sources.sort_by_cached_key(|index| first_time(&self.heads[*index]));
        }
        self.sessions.clear();
        let mut copied = Vec::new();
        for index in sources {
            loop {
                let head = &self.heads[index];
                let goes_on = head.left().len() == 1 && head.follows() == Follows::SameUser;
                copied.extend(self.append_piece(index));
                let head = &mut self.heads[index];
                if !goes_on || !head.fill(&mut self.dictionaries)? {
                    break;
                }
                if next_hash(head) != hash || head.name(head.left().start) != name {
                    break;
                }
            }
        }
        self.finish_long(&name, &copied)
    }

    /// Takes the next user of a source and appends its rows, if it has any in range.
    fn append_piece(&mut self, index: usize) -> Option<Copied> {
        let Self { heads, dictionaries, batch, fields, numeric, sessions, .. } = self;
        let head = &mut heads[index];
        batch.taken.clear();
        batch.taken.begin(index);
        head.take(1, &mut batch.taken);
        let piece = batch.taken.users.pop()?;
        let (start, rows) = (batch.rows as u32, piece.rows());
        if self.precision == Precision::Times {
            head.append_times(rows.clone(), &mut batch.times);
        }
        batch.hours.extend(batch.taken.hours.iter().map(|hour| HourRows {
            hour: hour.hour,
            start: hour.start + start,
            end: hour.end + start,
        }));
        for (field, (column, dictionary)) in batch.columns.iter_mut().zip(dictionaries).enumerate()
        {
            if fields[field] != Field::UserId {
                head.append(field, rows.clone(), dictionary, column);
            }
            if fields[field] == Field::SessionWithinUser {
                let session = |code| head.session(field, piece.user as usize, code);
                sessions.translate(&mut column[start as usize..], session);
            }
        }
        for (field, numbers) in batch.numbers.iter_mut().enumerate() {
            if numeric[field] != Field::UserId {
                head.append_numbers(field, rows.clone(), numbers);
            }
        }
        if self.digest == Some(DigestRows::Counts) {
            head.append_counts(rows.clone(), &mut batch.counts);
        }
        batch.rows += rows.len();
        Some(Copied { source: index, place: head.place(), rows })
    }

    /// Brings the rows of the only user, which were copied, into order.
    fn finish_long(&mut self, name: &str, copied: &[Copied]) -> Result<(), StoreError> {
        let Self { dictionaries, batch, sessions, fields, numeric, .. } = self;
        if batch.rows == 0 {
            return Ok(());
        }
        batch.users.push(name, batch.rows);
        batch.append_names(fields, numeric, dictionaries);
        for (field, dictionary) in fields.iter().zip(dictionaries) {
            if *field == Field::SessionWithinUser {
                dictionary.number(sessions.len());
            }
        }
        match self.precision {
            Precision::Hours => {
                sort_hours(&mut batch.hours);
                batch.hour_ends.push(batch.hours.len() as u32);
            }
            Precision::Times if batch.overlaps(copied) => {
                batch.sort(0, copied, (self.order, &self.cache))?;
            }
            Precision::Times | Precision::Untold => {}
        }
        Ok(())
    }
}

/// The first time of the next user of a source.
fn first_time(head: &Head) -> Option<i64> {
    let row = head.rows(head.left().next()?).start;
    let mut times = Vec::new();
    head.append_times(row..row + 1, &mut times);
    times.first().copied()
}

impl MergedUsers {
    /// The hash of the next user; `None` at the end.
    pub(super) fn next_hash(&mut self) -> Result<Option<u64>, StoreError> {
        self.fill()?;
        Ok(self.heads.iter().filter_map(next_hash).min())
    }

    /// The next users up to a hash, which is not below that of the next one; `None` at the end.
    pub(super) fn next_up_to(&mut self, last: u64) -> Result<Option<UserBatch<'_>>, StoreError> {
        self.batch.clear();
        self.fill()?;
        if self.heads.is_empty() {
            return Ok(None);
        }
        match self.limit(last) {
            Some(limit) => self.gather(limit)?,
            None => self.gather_long()?,
        }
        let Batch { users, times, hours, hour_ends, counts, columns, numbers, rows, .. } =
            &self.batch;
        let columns = columns.iter().map(Vec::as_slice).collect();
        let numbers = numbers.iter().map(Vec::as_slice).collect();
        let dictionaries = Dictionaries::of(&self.dictionaries);
        let events = Events { rows: *rows, times, hours, counts, columns, numbers, dictionaries };
        Ok(Some(UserBatch::new(users, events).with_hour_ends(hour_ends)))
    }
}

impl UserCursor for MergedUsers {
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError> {
        self.next_up_to(u64::MAX)
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
