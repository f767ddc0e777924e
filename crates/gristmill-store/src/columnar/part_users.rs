//! The users of a part, a row group at a time, from decoded columns.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use gristmill_model::Field;

use super::cache::{ColumnCache, Found};
use super::chunk::{self, Coded, Users};
use super::part::{OpenPart, UserKey};
use super::source::{Gathered, LentRows, Piece, Place, UserSource, Walk};
use super::work::WorkDone;
use crate::{ABSENT, Dictionary, StoreError};

/// The users of a part.
pub(super) struct PartUsers {
    part: Arc<OpenPart>,
    cache: Arc<ColumnCache>,
    work: Arc<WorkDone>,
    walk: Arc<Walk>,
    /// The row groups that have not been begun.
    groups: Peekable<Range<usize>>,
    chunk: Option<Chunk>,
    /// The codes of the chunk's rows, one column for each wanted field.
    columns: Vec<Vec<u32>>,
}

/// Users of one row group and what their rows have.
struct Chunk {
    group: usize,
    users: Arc<Users>,
    /// The users that are left.
    left: Range<usize>,
    times: Arc<Vec<i64>>,
    /// The row of the first time.
    times_from: usize,
    /// The row of the first code.
    codes_from: usize,
    /// For each column of codes that tell one user's sessions apart, what they mean.
    sessions: Vec<(usize, Arc<Coded>)>,
    /// Whether rows may be out of range.
    needs_cut: bool,
}

impl PartUsers {
    pub(super) fn open(
        part: Arc<OpenPart>,
        cache: Arc<ColumnCache>,
        work: Arc<WorkDone>,
        walk: Arc<Walk>,
        dictionaries: &mut [Dictionary],
    ) -> Result<Self, StoreError> {
        let key = |hash| UserKey { project: walk.scan.project.as_str().to_owned(), hash };
        let (first, last) = walk.hashes;
        let groups = if first <= last { part.groups_of(&key(first), &key(last)) } else { 0..0 };
        let columns = vec![Vec::new(); walk.scan.fields.len()];
        let groups = groups.peekable();
        let mut users = Self { part, cache, work, walk, groups, chunk: None, columns };
        users.next_chunk(dictionaries)?;
        Ok(users)
    }

    /// Goes to the next row group that has a wanted user.
    fn next_chunk(&mut self, dictionaries: &mut [Dictionary]) -> Result<(), StoreError> {
        self.chunk = None;
        while let Some(group) = self.groups.next() {
            let users = self.counted(self.cache.users(&self.part, group)?);
            let left = self.wanted(&users);
            if !left.is_empty() {
                self.chunk = Some(self.load(group, users, left, dictionaries)?);
                break;
            }
        }
        Ok(())
    }

    fn wanted(&self, users: &Users) -> Range<usize> {
        let (first, last) = self.walk.hashes;
        let mut wanted = users.between(self.walk.scan.project.as_str(), first, last);
        if let Some(user) = self.walk.scan.user.as_deref() {
            wanted = match wanted.clone().find(|&index| users.name(index) == user) {
                Some(index) => index..index + 1,
                None => 0..0,
            };
        }
        wanted
    }

    fn load(
        &mut self,
        group: usize,
        users: Arc<Users>,
        left: Range<usize>,
        dictionaries: &mut [Dictionary],
    ) -> Result<Chunk, StoreError> {
        let rows = users.rows_of(&left);
        self.work.add_rows(rows.len());
        let (times, times_from) = match self.walk.scan.user {
            Some(_) => (Arc::new(chunk::times(&self.part, self.only(group, &rows))?), rows.start),
            None => (self.counted(self.cache.times(&self.part, group)?), 0),
        };
        let in_chunk = &times[rows.start - times_from..rows.end - times_from];
        let range = &self.walk.scan.range;
        let is_inside = |time: &i64| range.contains(gristmill_model::Timestamp(*time));
        let needs_cut =
            *range != gristmill_model::TimeRange::ALL && !in_chunk.iter().all(is_inside);
        let mut chunk = Chunk {
            group,
            times,
            times_from,
            codes_from: rows.start,
            sessions: Vec::new(),
            needs_cut,
            users,
            left,
        };
        for (index, dictionary) in dictionaries.iter_mut().enumerate() {
            self.load_codes(&mut chunk, index, &rows, dictionary)?;
        }
        Ok(chunk)
    }

    fn load_codes(
        &mut self,
        chunk: &mut Chunk,
        index: usize,
        rows: &Range<usize>,
        dictionary: &mut Dictionary,
    ) -> Result<(), StoreError> {
        let field = &self.walk.scan.fields[index];
        let mut codes = std::mem::take(&mut self.columns[index]);
        codes.clear();
        if *field == Field::UserId {
            for user in chunk.left.clone() {
                let code = dictionary.code(chunk.users.name(user));
                codes.resize(codes.len() + chunk.users.rows(user).len(), code);
            }
            self.columns[index] = codes;
            return Ok(());
        }
        let (coded, from) = self.coded(chunk.group, field, rows)?;
        let rows = rows.start - from..rows.end - from;
        if *field == Field::SessionWithinUser {
            let meanings: Vec<u32> = (0..coded.distinct() as u32).chain([ABSENT]).collect();
            coded.translate(rows, &meanings, &mut codes);
            chunk.sessions.push((index, coded));
        } else if rows.len() < coded.distinct() {
            codes.extend(rows.map(|row| dictionary.code_of(coded.text_at(row))));
        } else {
            let meaning = |code| match coded.number_of(code) {
                Some(number) => dictionary.code_by_number(number, || coded.text_of(code)),
                None => dictionary.code(coded.text_of(code)),
            };
            let mut meanings: Vec<u32> = (0..coded.distinct()).map(meaning).collect();
            meanings.push(ABSENT);
            coded.translate(rows, &meanings, &mut codes);
        }
        self.columns[index] = codes;
        Ok(())
    }

    /// What rows have in a field, and the row that the column begins with. For one user the
    /// column is not read whole, unless it is known.
    fn coded(
        &self,
        group: usize,
        field: &Field,
        rows: &Range<usize>,
    ) -> Result<(Arc<Coded>, usize), StoreError> {
        if self.walk.scan.user.is_none() {
            return Ok((self.counted(self.cache.coded(&self.part, group, field)?), 0));
        }
        if let Some(known) = self.cache.known(&self.part, group, field) {
            self.work.add_column(true);
            return Ok((known, 0));
        }
        self.work.add_column(false);
        let coded = Coded::read(&self.part, self.only(group, rows), field)?;
        Ok((Arc::new(coded), rows.start))
    }

    fn only(&self, group: usize, rows: &Range<usize>) -> super::part::Selected {
        self.part.group(group).only(rows.clone())
    }

    fn counted<T>(&self, found: Found<T>) -> Arc<T> {
        self.work.add_column(found.was_cached);
        found.column
    }

    /// Whether the next user's rows may go on in the next row group.
    fn may_go_on(&self, chunk: &Chunk) -> bool {
        let user = chunk.left.start;
        if !chunk.users.is_last(user) {
            return false;
        }
        let next = self.part.groups.get(chunk.group + 1).and_then(|group| group.pages.first());
        next.is_some_and(|first| {
            first.hash == chunk.users.hash(user) && first.project == self.walk.scan.project.as_str()
        })
    }
}

impl Chunk {
    /// The rows of the next user that are in range.
    fn rows(&self, walk: &Walk) -> Range<usize> {
        let rows = self.users.rows(self.left.start);
        if !self.needs_cut {
            return rows;
        }
        let cut = walk.in_range(self.times(&rows));
        rows.start + cut.start..rows.start + cut.end
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        &self.times[rows.start - self.times_from..rows.end - self.times_from]
    }

    fn codes<'a>(&self, column: &'a [u32], rows: &Range<usize>) -> &'a [u32] {
        &column[rows.start - self.codes_from..rows.end - self.codes_from]
    }
}

impl UserSource for PartUsers {
    fn head(&self) -> Option<(u64, &str)> {
        let chunk = self.chunk.as_ref()?;
        let user = chunk.left.start;
        Some((chunk.users.hash(user), chunk.users.name(user)))
    }

    fn first_time(&self) -> i64 {
        let first = |chunk: &Chunk| chunk.times(&chunk.users.rows(chunk.left.start))[0];
        self.chunk.as_ref().map_or(i64::MAX, first)
    }

    fn lendable(&self) -> Option<Range<usize>> {
        let chunk = self.chunk.as_ref()?;
        (!self.may_go_on(chunk)).then(|| chunk.rows(&self.walk))
    }

    fn lend(&self, rows: Range<usize>, dictionaries: &mut [Dictionary]) -> Option<LentRows<'_>> {
        let chunk = self.chunk.as_ref()?;
        for (index, coded) in &chunk.sessions {
            dictionaries[*index].number(coded.distinct());
        }
        let columns = self.columns.iter().map(|column| chunk.codes(column, &rows)).collect();
        Some(LentRows { times: chunk.times(&rows), columns })
    }

    fn skip(&mut self, dictionaries: &mut [Dictionary]) -> Result<(), StoreError> {
        match &mut self.chunk {
            Some(chunk) if chunk.left.len() > 1 => {
                chunk.left.start += 1;
                Ok(())
            }
            _ => self.next_chunk(dictionaries),
        }
    }

    fn take(
        &mut self,
        gathered: &mut Gathered,
        dictionaries: &mut [Dictionary],
    ) -> Result<(), StoreError> {
        loop {
            let Some(chunk) = &self.chunk else {
                return Ok(());
            };
            let rows = chunk.rows(&self.walk);
            if !rows.is_empty() {
                gathered.times.extend_from_slice(chunk.times(&rows));
                for (index, column) in self.columns.iter().enumerate() {
                    let codes = chunk.codes(column, &rows);
                    let into = &mut gathered.columns[index];
                    match chunk.sessions.iter().find(|(known, _)| *known == index) {
                        Some((_, coded)) => {
                            gathered.sessions.append(codes, |code| coded.mark_of(code), into);
                        }
                        None => into.extend_from_slice(codes),
                    }
                }
                let place = Place::RowGroup(Arc::clone(&self.part), chunk.group);
                gathered.pieces.push(Piece { rows, place });
            }
            let user = self.may_go_on(chunk).then(|| chunk.users.name(chunk.left.start).to_owned());
            self.skip(dictionaries)?;
            if user.is_none() || self.head().map(|(_, next)| next) != user.as_deref() {
                return Ok(());
            }
        }
    }
}
