//! Makes digests from walks through the parts.

use std::ops::Range;

use hashbrown::HashMap;

use super::super::events::ShardEvents;
use super::super::merged_users::MergedUsers;
use super::super::run::user_hash;
use super::block::{Block, SessionMarks};
use super::draft::Draft;
use super::kinds::Kinds;
use super::shape::Shape;
use super::{Digest, FoundDigest, join};
use crate::columnar::sessions::mark;
use crate::hours::hour_of;
use crate::{
    ABSENT, Dictionary, EventCursor, Events, HourRows, Precision, Span, StoreError, UserBatch,
    UserCursor, Wanted,
};

/// About how many rows a block has: few enough to stay in the fast caches of a core.
const BLOCK_ROWS: usize = if cfg!(test) { 1 << 6 } else { 1 << 12 };
/// Whether a digest is much smaller than the columns is decided after so many rows.
const SOME_ROWS: usize = if cfg!(test) { 1 << 9 } else { 1 << 16 };
/// With longer texts in a field they are not worth to be copied for each walk.
const MOST_TEXT_BYTES: usize = 1 << 21;

/// A digest of users, unless it would take more than some bytes.
pub(in crate::columnar) fn digest_users(
    mut users: MergedUsers,
    shape: &Shape,
    most_bytes: usize,
) -> Result<FoundDigest, StoreError> {
    let mut maker = Maker::of(shape, most_bytes);
    while let Some(batch) = users.next_users()? {
        maker.take_users(&batch);
        if !maker.is_worth_it(batch.events.dictionaries.all()) {
            return Ok(None);
        }
    }
    Ok(maker.finish(users.into_dictionaries()))
}

/// The same of events.
pub(in crate::columnar) fn digest_events(
    mut events: ShardEvents,
    shape: &Shape,
    most_bytes: usize,
) -> Result<FoundDigest, StoreError> {
    let mut maker = Maker::of(shape, most_bytes);
    if shape.wanted == Wanted::Ends {
        let mut ends = None;
        while let Some(span) = events.next_span()? {
            ends = ends.into_iter().chain(span).reduce(join);
        }
        maker.take_ends(ends);
        return Ok(maker.finish(events.into_dictionaries()));
    }
    while let Some(some) = events.next_events()? {
        match shape.precision {
            Precision::Times => maker.take_events(&some),
            Precision::Hours | Precision::Untold => maker.count_events(&some),
        }
        if !maker.is_worth_it(some.dictionaries.all()) {
            return Ok(None);
        }
    }
    maker.lay_out();
    Ok(maker.finish(events.into_dictionaries()))
}

struct Maker<'a> {
    shape: &'a Shape,
    wanted: WantedRows<'a>,
    kinds: Kinds,
    sessions: Vec<SessionCodes>,
    draft: Draft,
    blocks: Vec<Block>,
    /// The memory of the blocks, and the most that there may be.
    bytes: usize,
    most_bytes: usize,
    /// The kinds of the rows at hand.
    kind_of: Vec<u32>,
    /// For each kind where it was met last: in which stretch, and at which row.
    latest: Vec<(u64, u32)>,
    /// The number of the stretch at hand: rows of one user and hour.
    stretch: u64,
    /// For each hour and kind the row in the block at hand.
    counted: HashMap<(i32, u32), u32>,
    rows_in: usize,
    rows_out: usize,
}

impl<'a> Maker<'a> {
    fn of(shape: &'a Shape, most_bytes: usize) -> Self {
        let of_sessions = (0..shape.columns()).filter(|column| shape.is_of_sessions(*column));
        let sessions: Vec<_> = of_sessions.map(SessionCodes::of).collect();
        let draft = Draft::new(shape.columns(), shape.numbers(), sessions.len());
        Self {
            shape,
            wanted: WantedRows { wanted: &shape.wanted, of_codes: Vec::new() },
            kinds: Kinds::default(),
            sessions,
            draft,
            blocks: Vec::new(),
            bytes: 0,
            most_bytes,
            kind_of: Vec::new(),
            latest: Vec::new(),
            stretch: 0,
            counted: HashMap::new(),
            rows_in: 0,
            rows_out: 0,
        }
    }

    fn take_users(&mut self, batch: &UserBatch<'_>) {
        self.begin(&batch.events);
        for codes in &mut self.sessions {
            codes.find(batch);
        }
        let sessions = std::mem::take(&mut self.sessions);
        let events = with_sessions(&batch.events, &sessions);
        if self.shape.precision != Precision::Times {
            self.find_kinds(&events);
        }
        for (user, (rows, moments)) in batch.rows().zip(batch.moments()).enumerate() {
            let first = self.draft.rows;
            match self.shape.precision {
                Precision::Times => self.take_rows(&events, rows),
                Precision::Untold => self.take_alike(&events, rows),
                Precision::Hours => self.take_hours(&events, &events.hours[moments]),
            }
            if self.draft.rows > first {
                self.end_user(batch.name(user));
                for (codes, own) in sessions.iter().zip(&mut self.draft.sessions) {
                    own.marks.extend_from_slice(codes.marks.of(user));
                    own.ends.push(own.marks.len() as u32);
                }
            }
            if self.draft.rows >= BLOCK_ROWS {
                self.close_block();
            }
        }
        drop(events);
        self.sessions = sessions;
    }

    fn end_user(&mut self, name: &str) {
        let Draft { users, hashes, spread, hour_ends, rows, .. } = &mut self.draft;
        users.push(name, *rows);
        hashes.push(user_hash(name));
        if self.shape.precision == Precision::Hours {
            hour_ends.push(spread.hours.len() as u32);
        }
    }

    fn take_events(&mut self, events: &Events<'_>) {
        self.begin(events);
        self.take_rows(events, 0..events.rows);
    }

    /// Takes the first and the last moment in the place of all others.
    fn take_ends(&mut self, ends: Span) {
        let Some((first, last)) = ends else { return };
        for (moment, row) in [first, last].into_iter().zip(0..) {
            match self.shape.precision {
                Precision::Times => self.draft.times.push(moment),
                Precision::Hours | Precision::Untold => {
                    let hour = hour_of(moment);
                    self.draft.spread.hours.push(HourRows { hour, start: row, end: row + 1 });
                    self.draft.spread.counts.push(1);
                }
            }
            self.draft.rows += 1;
        }
    }

    /// Counts the events of each hour and kind.
    fn count_events(&mut self, events: &Events<'_>) {
        self.begin(events);
        self.find_kinds(events);
        for hour in events.hours {
            for row in hour.rows() {
                if !self.wanted.has(events, row) {
                    continue;
                }
                let next = self.draft.rows as u32;
                let known = *self.counted.entry((hour.hour, self.kind_of[row])).or_insert(next);
                if known == next {
                    self.push(events, row);
                    self.draft.spread.hours.push(HourRows {
                        hour: hour.hour,
                        start: next,
                        end: next + 1,
                    });
                }
                self.draft.spread.counts[known as usize] += 1;
            }
        }
    }

    /// Brings events, which all went into one block, into the order of time and into more blocks.
    fn lay_out(&mut self) {
        let next = Draft::new(self.shape.columns(), self.shape.numbers(), 0);
        let all = std::mem::replace(&mut self.draft, next);
        let mut order: Vec<(i64, usize)> = all.times.iter().copied().zip(0..).collect();
        order.sort_unstable();
        for (time, row) in order {
            self.draft.push_from(&all, row);
            self.draft.times.push(time);
            if self.draft.rows >= BLOCK_ROWS {
                self.close_block();
            }
        }
        let mut order = all.spread.hours.clone();
        order.sort_unstable_by_key(|hour| (hour.hour, hour.start));
        for hours in order.chunk_by(|a, b| a.hour == b.hour) {
            let start = self.draft.rows as u32;
            for row in hours.iter().map(|hour| hour.start as usize) {
                self.draft.push_from(&all, row);
            }
            let (hour, end) = (hours[0].hour, self.draft.rows as u32);
            self.draft.spread.hours.push(HourRows { hour, start, end });
            if self.draft.rows >= BLOCK_ROWS {
                self.close_block();
            }
        }
    }

    fn begin(&mut self, events: &Events<'_>) {
        self.wanted.learn(events);
        self.rows_in += events.rows;
    }

    fn find_kinds(&mut self, events: &Events<'_>) {
        self.kind_of.resize(events.rows, 0);
        let codes = events.columns.iter().map(|codes| Bits::Codes(codes.iter()));
        let numbers = events.numbers.iter().map(|numbers| Bits::Numbers(numbers.iter()));
        self.kinds.find(codes.chain(numbers), &mut self.kind_of);
        self.latest.resize(self.kinds.len(), (0, 0));
    }

    /// Takes wanted rows with their times.
    fn take_rows(&mut self, events: &Events<'_>, rows: Range<usize>) {
        for row in rows {
            if self.wanted.has(events, row) {
                self.push(events, row);
                self.draft.times.push(events.times[row]);
            }
        }
    }

    /// Takes the rows of a user hour by hour.
    fn take_hours(&mut self, events: &Events<'_>, hours: &[HourRows]) {
        for hours in hours.chunk_by(|a, b| a.hour == b.hour) {
            let start = self.draft.rows as u32;
            self.stretch += 1;
            hours.iter().for_each(|hour| self.count_alike(events, hour.rows()));
            let end = self.draft.rows as u32;
            if start < end {
                self.draft.spread.hours.push(HourRows { hour: hours[0].hour, start, end });
            }
        }
    }

    fn take_alike(&mut self, events: &Events<'_>, rows: Range<usize>) {
        self.stretch += 1;
        self.count_alike(events, rows);
    }

    /// Counts the wanted rows of each kind in the stretch at hand.
    fn count_alike(&mut self, events: &Events<'_>, rows: Range<usize>) {
        for row in rows {
            if !self.wanted.has(events, row) {
                continue;
            }
            let kind = self.kind_of[row] as usize;
            if self.latest[kind].0 != self.stretch {
                self.latest[kind] = (self.stretch, self.draft.rows as u32);
                self.push(events, row);
            }
            self.draft.spread.counts[self.latest[kind].1 as usize] += 1;
        }
    }

    /// Adds a row, which is no event yet if rows are counted.
    fn push(&mut self, events: &Events<'_>, row: usize) {
        self.draft.push(events, row);
        if self.shape.precision != Precision::Times {
            self.draft.spread.counts.push(0);
        }
        self.rows_out += 1;
    }

    fn close_block(&mut self) {
        let sessions = self.draft.sessions.len();
        let next = Draft::new(self.shape.columns(), self.shape.numbers(), sessions);
        let full = std::mem::replace(&mut self.draft, next).pack();
        self.bytes += full.memory();
        self.blocks.push(full);
    }

    /// Whether there is much less to keep than there is to walk through.
    fn is_worth_it(&self, dictionaries: &[Dictionary]) -> bool {
        let is_long = |(column, texts): (usize, &Dictionary)| {
            texts.memory() > MOST_TEXT_BYTES && !self.shape.is_of_sessions(column)
        };
        if self.kinds.are_many() || dictionaries.iter().enumerate().any(is_long) {
            return false;
        }
        let found = self.counted.len() * size_of::<((i32, u32), u32)>();
        if self.bytes + self.draft.memory() + found > self.most_bytes {
            return false;
        }
        let most = match self.shape.precision {
            Precision::Times => self.rows_in / 2,
            Precision::Hours | Precision::Untold => self.rows_in / 4 * 3,
        };
        self.rows_in < SOME_ROWS || self.rows_out <= most
    }

    fn finish(mut self, mut dictionaries: Vec<Dictionary>) -> FoundDigest {
        if self.draft.rows > 0 {
            self.close_block();
        }
        let session_columns = self.sessions.iter().map(|codes| codes.column).collect();
        for codes in self.sessions {
            let mut told = Dictionary::default();
            told.number(codes.most);
            dictionaries[codes.column] = told;
        }
        Some(Digest { blocks: self.blocks, dictionaries, session_columns }.into())
    }
}

/// The events with what is told of sessions within their user.
fn with_sessions<'a, 'e: 'a>(events: &Events<'e>, sessions: &'a [SessionCodes]) -> Events<'a> {
    let own = |(column, codes): (usize, &&'e [u32])| -> &'a [u32] {
        let of_sessions = sessions.iter().find(|sessions| sessions.column == column);
        of_sessions.map_or(*codes, |sessions| sessions.codes.as_slice())
    };
    Events {
        rows: events.rows,
        times: events.times,
        hours: events.hours,
        counts: events.counts,
        columns: events.columns.iter().enumerate().map(own).collect(),
        numbers: events.numbers.iter().copied().collect(),
        dictionaries: events.dictionaries,
    }
}

/// The bits of a column's values.
enum Bits<C, N> {
    Codes(C),
    Numbers(N),
}

impl<'a, C: Iterator<Item = &'a u32>, N: Iterator<Item = &'a f64>> Iterator for Bits<C, N> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Bits::Codes(codes) => codes.next().map(|code| u64::from(*code)),
            Bits::Numbers(numbers) => numbers.next().map(|number| number.to_bits()),
        }
    }
}

/// Which rows are wanted.
struct WantedRows<'a> {
    wanted: &'a Wanted,
    /// For each code of the column that decides, whether its rows are.
    of_codes: Vec<bool>,
}

impl WantedRows<'_> {
    fn learn(&mut self, events: &Events<'_>) {
        if let Wanted::WithText(column, texts) = self.wanted {
            let dictionary = &events.dictionaries[*column];
            for code in self.of_codes.len()..dictionary.len() {
                let is_one = |own: &str| texts.iter().any(|text| text == own);
                self.of_codes.push(dictionary.text(code as u32).is_some_and(is_one));
            }
        }
    }

    fn has(&self, events: &Events<'_>, row: usize) -> bool {
        match self.wanted {
            Wanted::All | Wanted::Ends => true,
            Wanted::WithNumber => events.numbers.iter().any(|numbers| !numbers[row].is_nan()),
            Wanted::WithText(column, _) => {
                let code = events.columns[*column][row];
                self.of_codes.get(code as usize).copied().unwrap_or(false)
            }
        }
    }
}

/// Numbers the sessions of each user from 0 on.
struct SessionCodes {
    column: usize,
    /// By the code of an id: the user who had it last, and its code for that user.
    latest: Vec<(u64, u32)>,
    user: u64,
    /// Of the users at hand: the code of each row, and what the codes mean.
    codes: Vec<u32>,
    marks: SessionMarks,
    /// The most that a user has.
    most: usize,
}

impl SessionCodes {
    fn of(column: usize) -> Self {
        let (codes, marks) = (Vec::new(), SessionMarks::default());
        Self { column, latest: Vec::new(), user: 0, codes, marks, most: 0 }
    }

    fn find(&mut self, batch: &UserBatch<'_>) {
        let ids = batch.events.columns[self.column];
        let texts = &batch.events.dictionaries[self.column];
        self.latest.resize(texts.len(), (0, 0));
        self.codes.clear();
        self.marks = SessionMarks::default();
        for rows in batch.rows() {
            self.user += 1;
            let first = self.marks.marks.len();
            for &id in &ids[rows] {
                let Some(text) = texts.text(id) else {
                    self.codes.push(ABSENT);
                    continue;
                };
                let latest = &mut self.latest[id as usize];
                if latest.0 != self.user {
                    *latest = (self.user, (self.marks.marks.len() - first) as u32);
                    self.marks.marks.push(mark(text));
                }
                self.codes.push(latest.1);
            }
            self.most = self.most.max(self.marks.marks.len() - first);
            self.marks.ends.push(self.marks.marks.len() as u32);
        }
    }
}
