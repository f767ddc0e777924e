//! Merges the users of several runs and parts, a batch at a time.
//!
//! First it is found out which rows the users of a batch have in which source, then these rows are
//! copied, column by column. So a batch ends when a source has no user at hand any more.

use std::sync::Arc;

use gristmill_model::Field;

use super::batch::{Batch, Copied, Names, Piece, joined, sort_hours};
use super::cache::ColumnCache;
use super::digest::DigestUsers;
use super::sessions::Sessions;
use super::source::{Head, SourceUser, UserRows, UserSource};
use crate::{
    Dictionaries, Dictionary, Events, Precision, Scan, StoreError, Ties, UserBatch, UserCursor,
};

/// About how many rows a batch has: few enough to stay in the fast caches of a core.
const BATCH_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };
/// How many users are looked at for a batch, with rows in range or not.
const BATCH_USERS: usize = BATCH_ROWS;

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
    /// The sources that have the user at hand.
    ties: Vec<usize>,
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
        self.heads.push(Head { source: Box::new(source), user: None });
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
            if head.user.is_none() {
                head.user = head.source.fill(&mut self.dictionaries)?;
                if head.user.is_none() {
                    drop(self.heads.swap_remove(index));
                    continue;
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// Finds the next users and where their rows are, and says how many users were looked at. It
    /// stops before a user whose rows go on in another row group.
    fn find_users(&mut self) -> usize {
        for looked_at in 0..BATCH_USERS {
            self.find_ties();
            if self.pass_users() {
                if self.is_batch_full() {
                    return looked_at + 1;
                }
                continue;
            }
            let Self { heads, batch, ties, .. } = self;
            let goes_on = |index: &usize| heads[*index].user.as_ref().is_some_and(|u| u.goes_on);
            if ties.iter().any(goes_on) {
                return looked_at;
            }
            batch.add_user(ties, heads, self.precision, self.names);
            let mut are_filled = true;
            for &index in &*ties {
                let head = &mut heads[index];
                head.user = head.source.advance();
                are_filled &= head.user.is_some();
            }
            if !are_filled || batch.rows >= BATCH_ROWS {
                return looked_at + 1;
            }
        }
        BATCH_USERS
    }

    /// Takes users that only one source has together, if it has any that follow each other.
    fn pass_users(&mut self) -> bool {
        let Self { heads, batch, ties, .. } = self;
        let (&[only], Some(_)) = (ties.as_slice(), self.digest) else { return false };
        let others = heads.iter().enumerate().filter(|(index, _)| *index != only);
        let hashes = others.filter_map(|(_, head)| head.user.as_ref().map(|user| user.hash));
        let below = hashes.min().unwrap_or(u64::MAX);
        let room = BATCH_ROWS.saturating_sub(batch.rows);
        let (start, into) = (batch.rows, (&mut batch.users, self.names));
        let Some(passed) = heads[only].source.pass((below, room), start, into) else {
            return false;
        };
        batch.add_passed(only, passed.rows);
        heads[only].user = passed.next;
        true
    }

    /// Whether no more users fit in, or a source has none at hand.
    fn is_batch_full(&self) -> bool {
        self.batch.rows >= BATCH_ROWS || self.heads.iter().any(|head| head.user.is_none())
    }

    /// Finds the sources that have the next user.
    fn find_ties(&mut self) {
        let Self { heads, ties, .. } = self;
        let hash = |head: &Head| head.user.as_ref().map_or(u64::MAX, |user| user.hash);
        let first = heads.iter().map(hash).min();
        ties.clear();
        ties.extend((0..heads.len()).filter(|index| Some(hash(&heads[*index])) == first));
        if let [one, others @ ..] = ties.as_slice()
            && others.iter().any(|other| heads[*other].source.name() != heads[*one].source.name())
        {
            // Different users may share a hash; their order is that of their names.
            let least = ties.iter().map(|index| heads[*index].source.name()).min();
            ties.retain(|index| Some(heads[*index].source.name()) == least);
        }
    }

    /// Gathers one user whose rows go on in another row group.
    fn gather_long(&mut self) -> Result<(), StoreError> {
        let Self { heads, dictionaries, batch, ties, sessions, fields, numeric, precision, .. } =
            self;
        let (order, are_counted) = (self.order, self.digest == Some(DigestRows::Counts));
        let Some(&first) = ties.first() else { return Ok(()) };
        let name = heads[first].source.name().to_owned();
        let hash = heads[first].user.as_ref().map(|user| user.hash);
        if *precision == Precision::Times {
            // In this order pieces that do not overlap need no sorting.
            ties.sort_by_key(|&index| {
                let Head { source, user } = &heads[index];
                user.as_ref().and_then(|user| source.times(&user.rows.rows).first().copied())
            });
        }
        sessions.clear();
        let mut places = Vec::new();
        for &index in &*ties {
            let head = &mut heads[index];
            while let Some(SourceUser { rows, goes_on, .. }) = head.user.take() {
                if !rows.rows.is_empty() {
                    match precision {
                        Precision::Times => {
                            batch.times.extend_from_slice(head.source.times(&rows.rows));
                        }
                        Precision::Hours => {
                            head.source.append_hours(&rows, batch.rows, &mut batch.hours);
                        }
                        Precision::Untold => {}
                    }
                    let UserRows { rows, .. } = rows;
                    batch.rows += rows.len();
                    if are_counted {
                        head.source.append_counts(rows.clone(), &mut batch.counts);
                    }
                    let fields = (fields.as_slice(), numeric.as_slice());
                    batch.append(&*head.source, rows.clone(), fields, dictionaries, sessions);
                    places.push(Copied { source: index, place: head.source.place(), rows });
                }
                head.user = head.source.advance();
                if goes_on {
                    head.user = head.source.fill(dictionaries)?;
                }
                let next = head.user.as_ref().map(|user| user.hash);
                if !goes_on || next != hash || head.source.name() != name {
                    break;
                }
            }
        }
        if batch.rows == 0 {
            return Ok(());
        }
        batch.users.push(&name, batch.rows);
        batch.append_names(fields, numeric, dictionaries);
        for (field, dictionary) in fields.iter().zip(dictionaries) {
            if *field == Field::SessionWithinUser {
                dictionary.number(sessions.len());
            }
        }
        match precision {
            Precision::Hours => sort_hours(&mut batch.hours),
            Precision::Times if batch.overlaps(&places) => {
                batch.sort(0, &places, (order, &self.cache))?;
            }
            Precision::Times | Precision::Untold => {}
        }
        Ok(())
    }

    /// Copies the rows that were found.
    fn copy(&mut self) -> Result<(), StoreError> {
        let Self { heads, dictionaries, batch, sessions, fields, numeric, cache, .. } = self;
        match self.precision {
            Precision::Times => batch.copy_times(heads),
            Precision::Hours => batch.copy_hours(heads),
            Precision::Untold => {}
        }
        if self.digest == Some(DigestRows::Counts) {
            batch.copy_counts(heads);
        }
        let Batch { columns, numbers, pieces, .. } = batch;
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
        for (user, own) in std::mem::take(&mut batch.unsorted) {
            let first = own.checked_sub(1).map_or(0, |before| batch.piece_ends[before]);
            let pieces = &batch.pieces[first..batch.piece_ends[own]];
            let copied = |&Piece { source, ref rows }: &Piece| {
                let place = heads[source].source.place();
                Copied { source, place, rows: rows.rows.clone() }
            };
            let copied: Vec<_> = pieces.iter().map(copied).collect();
            batch.sort(batch.users.rows(user).start, &copied, (self.order, cache))?;
        }
        Ok(())
    }
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
        && let Some(codes) = source(piece).own_sessions(field, piece.rows.rows.clone(), column)
    {
        return codes;
    }
    sessions.clear();
    for piece in pieces {
        source(piece).append_sessions(field, piece.rows.rows.clone(), sessions, column);
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
        let Batch { users, times, hours, counts, columns, numbers, rows, .. } = &self.batch;
        let columns = columns.iter().map(Vec::as_slice).collect();
        let numbers = numbers.iter().map(Vec::as_slice).collect();
        let dictionaries = Dictionaries::of(&self.dictionaries);
        let events = Events { rows: *rows, times, hours, counts, columns, numbers, dictionaries };
        Ok(Some(UserBatch::new(users, events)))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        &self.dictionaries
    }
}
