//! A run: events of one shard in memory, sorted by (project, user hash, user, time, position).
//!
//! Commits leave runs in the hot tail; seals and merges read and write parts as streams of runs.

use std::hint::black_box;
use std::ops::Range;

use gristmill_model::{Event, Position, SessionId, TimeRange, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::identity::Identity;
use super::merge_rows::{Chunk, RowRef};
use super::texts::Texts;
use crate::Span;

/// How many texts are looked at before they are copied.
const TOUCHED: usize = 64;

/// Hashes a user id. Users are ordered by it, and it decides the shard; it is part of the format
/// of parts.
pub(super) fn user_hash(user: &str) -> u64 {
    xxh3_64(user.as_bytes())
}

/// The shard that a user's events belong to: the hashes are cut into equal ranges.
pub(super) fn shard_of(hash: u64, shards: u32) -> u32 {
    (((hash >> 32) * u64::from(shards)) >> 32) as u32
}

/// The lowest and the highest hash of a shard.
pub(super) fn hashes_of(shard: u32, shards: u32) -> (u64, u64) {
    let first = |shard: u32| (u64::from(shard) << 32).div_ceil(u64::from(shards));
    let last = ((first(shard + 1) - 1) << 32) | u64::from(u32::MAX);
    (first(shard) << 32, last)
}

/// Sorted, immutable rows.
#[derive(Debug)]
pub(super) struct Run {
    users: Vec<UserSpan>,
    /// The first and the last time.
    span: Span,
    projects: Texts,
    user_ids: Texts,
    pub(super) rows: Rows,
}

/// Where a user's rows begin; they end where the next user's begin.
#[derive(Clone, Copy, Debug)]
struct UserSpan {
    hash: u64,
    first_row: u32,
}

/// The columns that each row has a value in.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) times: Vec<i64>,
    pub(super) received: Vec<i64>,
    pub(super) positions: Vec<Position>,
    pub(super) identities: Vec<Identity>,
    pub(super) origins: Vec<u8>,
    pub(super) event_ids: Texts,
    pub(super) sessions: Texts,
    pub(super) event_types: Texts,
    pub(super) sources: Texts,
    pub(super) page_urls: Texts,
    pub(super) properties: Texts,
}

/// One user of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunUser<'a> {
    pub(super) project: &'a str,
    pub(super) hash: u64,
    pub(super) user: &'a str,
    pub(super) first_row: usize,
    pub(super) end_row: usize,
}

impl Run {
    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.times.len()
    }

    pub(super) fn user(&self, index: usize) -> RunUser<'_> {
        RunUser {
            project: self.project(index),
            hash: self.hash(index),
            user: self.user_ids.text(index),
            first_row: self.users[index].first_row as usize,
            end_row: self.end_row(index),
        }
    }

    /// The project of a user.
    pub(super) fn project(&self, user: usize) -> &str {
        self.projects.text(user)
    }

    /// The hash of a user.
    pub(super) fn hash(&self, user: usize) -> u64 {
        self.users[user].hash
    }

    /// The hashes of all users.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.users.iter().map(|user| user.hash)
    }

    /// Where a user's rows end.
    pub(super) fn end_row(&self, user: usize) -> usize {
        self.users.get(user + 1).map_or(self.row_count(), |next| next.first_row as usize)
    }

    /// Whether any of its events may be in a range.
    pub(super) fn may_be_in(&self, range: &TimeRange) -> bool {
        self.span.is_some_and(|(first, last)| range.overlaps(Timestamp(first), Timestamp(last)))
    }

    /// The memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let rows = &self.rows;
        let texts = [
            &self.projects,
            &self.user_ids,
            &rows.event_ids,
            &rows.sessions,
            &rows.event_types,
            &rows.sources,
            &rows.page_urls,
            &rows.properties,
        ];
        let fixed = size_of::<Position>() + size_of::<Identity>() + 8 + 8 + 1;
        texts.iter().map(|texts| texts.memory()).sum::<usize>()
            + rows.times.capacity() * fixed
            + self.users.capacity() * size_of::<UserSpan>()
    }

    /// The users of a project with a hash from `first` to `last`, both included.
    pub(super) fn users_between(&self, project: &str, first: u64, last: u64) -> Range<usize> {
        let start = self.users_while(|name, hash| (name, hash) < (project, first));
        let end = self.users_while(|name, hash| (name, hash) <= (project, last));
        start..end.max(start)
    }

    /// The rows of several users.
    pub(super) fn rows_of(&self, users: &Range<usize>) -> Range<usize> {
        let first_row = |user: usize| {
            self.users.get(user).map_or(self.row_count(), |user| user.first_row as usize)
        };
        first_row(users.start)..first_row(users.end)
    }

    /// How many users from the first on are such, if no user after one that is not is.
    fn users_while(&self, are_such: impl Fn(&str, u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.users.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if are_such(self.projects.text(middle), self.users[middle].hash) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Builds a run from rows that come in order.
pub(super) struct RunBuilder {
    run: Run,
}

/// How many bytes of text rows have, column by column.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TextBytes {
    event_ids: usize,
    sessions: usize,
    event_types: usize,
    sources: usize,
    page_urls: usize,
    properties: usize,
}

impl TextBytes {
    pub(super) fn add(&mut self, event: &Event<'_>) {
        self.event_ids += event.id.as_str().len();
        self.sessions += event.session.as_ref().map_or(0, |session| session.as_str().len());
        self.event_types += event.event_type.len();
        self.sources += event.source.len();
        self.page_urls += event.page_url.len();
        self.properties += event.properties.len();
    }
}

impl RunBuilder {
    /// An empty run with just the memory that these rows take.
    pub(super) fn with_capacity(row_count: usize, bytes: TextBytes) -> Self {
        let texts = |bytes: usize| Texts::with_capacity(row_count, bytes);
        let rows = Rows {
            times: Vec::with_capacity(row_count),
            received: Vec::with_capacity(row_count),
            positions: Vec::with_capacity(row_count),
            identities: Vec::with_capacity(row_count),
            origins: Vec::with_capacity(row_count),
            event_ids: texts(bytes.event_ids),
            sessions: texts(bytes.sessions),
            event_types: texts(bytes.event_types),
            sources: texts(bytes.sources),
            page_urls: texts(bytes.page_urls),
            properties: texts(bytes.properties),
        };
        let users = Texts::with_capacity(0, 0);
        let (projects, user_ids) = (users.clone(), users);
        Self { run: Run { users: Vec::new(), span: None, projects, user_ids, rows } }
    }

    pub(super) fn new() -> Self {
        Self::with_capacity(0, TextBytes::default())
    }

    pub(super) fn row_count(&self) -> usize {
        self.run.row_count()
    }

    /// Whether more rows may be added: not once their properties take much memory.
    pub(super) fn has_room(&self) -> bool {
        self.run.rows.properties.text_bytes() < 32 << 20
    }

    /// Adds a row behind all others.
    pub(super) fn push_event(
        &mut self,
        hash: u64,
        position: Position,
        identity: Identity,
        event: &Event<'_>,
    ) {
        self.start_user(event.project.as_str(), hash, event.user.as_str());
        let rows = &mut self.run.rows;
        rows.times.push(event.time.0);
        rows.received.push(event.received.0);
        rows.positions.push(position);
        rows.identities.push(identity);
        rows.origins.push(event.origin.number());
        rows.event_ids.push(event.id.as_str());
        rows.sessions.push_option(event.session.as_ref().map(SessionId::as_str));
        rows.event_types.push(&event.event_type);
        rows.sources.push(&event.source);
        rows.page_urls.push(&event.page_url);
        rows.properties.push(&event.properties);
    }

    /// Adds rows of other runs behind all others.
    pub(super) fn extend(&mut self, chunk: &Chunk) {
        let mut last = None;
        for (row, number) in chunk.rows.iter().zip(self.run.rows.times.len()..) {
            if last != Some((row.run, row.user)) {
                last = Some((row.run, row.user));
                let user = chunk.runs[row.run as usize].user(row.user as usize);
                self.start_user_at(number, user.project, user.hash, user.user);
            }
        }
        let rows = &mut self.run.rows;
        extend(&mut rows.times, chunk, |rows| &rows.times);
        extend(&mut rows.received, chunk, |rows| &rows.received);
        extend(&mut rows.positions, chunk, |rows| &rows.positions);
        extend(&mut rows.identities, chunk, |rows| &rows.identities);
        extend(&mut rows.origins, chunk, |rows| &rows.origins);
        extend_texts(&mut rows.event_ids, chunk, |rows| &rows.event_ids);
        extend_texts(&mut rows.sessions, chunk, |rows| &rows.sessions);
        extend_texts(&mut rows.event_types, chunk, |rows| &rows.event_types);
        extend_texts(&mut rows.sources, chunk, |rows| &rows.sources);
        extend_texts(&mut rows.page_urls, chunk, |rows| &rows.page_urls);
        extend_texts(&mut rows.properties, chunk, |rows| &rows.properties);
    }

    /// Opens a user's span unless the last one is this user's.
    pub(super) fn start_user(&mut self, project: &str, hash: u64, user: &str) {
        self.start_user_at(self.run.rows.times.len(), project, hash, user);
    }

    fn start_user_at(&mut self, first_row: usize, project: &str, hash: u64, user: &str) {
        let run = &mut self.run;
        if let Some(last) = run.users.len().checked_sub(1) {
            let same = run.users[last].hash == hash
                && run.user_ids.text(last) == user
                && run.projects.text(last) == project;
            if same {
                return;
            }
        }
        run.users.push(UserSpan { hash, first_row: first_row as u32 });
        run.projects.push(project);
        run.user_ids.push(user);
    }

    pub(super) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.run.rows
    }

    pub(super) fn finish(mut self) -> Run {
        let times = &self.run.rows.times;
        self.run.span = times.iter().min().copied().zip(times.iter().max().copied());
        self.run
    }
}

fn extend<T: Copy>(target: &mut Vec<T>, chunk: &Chunk, column: impl Fn(&Rows) -> &Vec<T>) {
    let columns: Vec<_> = chunk.runs.iter().map(|run| column(&run.rows)).collect();
    target.extend(chunk.rows.iter().map(|row| columns[row.run as usize][row.row as usize]));
}

fn extend_texts(target: &mut Texts, chunk: &Chunk, column: impl Fn(&Rows) -> &Texts) {
    let columns: Vec<_> = chunk.runs.iter().map(|run| column(&run.rows)).collect();
    let bytes = chunk.rows.iter().map(|row| columns[row.run as usize].bytes_of(row.row as usize));
    target.reserve(chunk.rows.len(), bytes.sum());
    for rows in chunk.rows.chunks(TOUCHED) {
        // The texts lie apart, and the processor can wait for many places in memory at a time.
        let first_byte = |row: &RowRef| columns[row.run as usize].first_byte(row.row as usize);
        black_box(rows.iter().map(first_byte).fold(0, |all, byte| all ^ byte));
        for row in rows {
            target.push_option(columns[row.run as usize].option(row.row as usize));
        }
    }
}
