//! Walks through what a snapshot shows: user by user, or through the events in no order.

use std::ops::{Index, Range};

use gristmill_model::{Field, ProjectId, TimeRange};
use smallvec::SmallVec;

use crate::{Dictionary, StoreError};

/// What a walk should give.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Events of this project only.
    pub project: ProjectId<'static>,
    /// Events of this user only, if given.
    pub user: Option<String>,
    /// Events of this range only.
    pub range: TimeRange,
    /// The columns wanted beside the time, in this order.
    pub fields: Vec<Field>,
    /// The columns that are wanted as numbers, in this order.
    pub numbers: Vec<Field>,
    /// Events that have none of these numbers may be left out.
    pub only_numbers: bool,
}

/// Walks through the users of a shard, each user once, in an order that is the same for every
/// walk of the same snapshot.
pub trait UserCursor {
    /// The next users; `None` at the end. There may be none that has an event in range, so that
    /// the caller can see whether the walk is still wanted.
    fn next_users(&mut self) -> Result<Option<UserBatch<'_>>, StoreError>;

    /// The dictionaries of the wanted fields as they are now; after the walk, every code that it
    /// gave can be looked up here.
    fn dictionaries(&self) -> &[Dictionary];
}

/// The first and the last time of some events, in microseconds, if there are any.
pub type Span = Option<(i64, i64)>;

/// Walks through events in no order, each once.
pub trait EventCursor {
    /// The next events, maybe none; `None` at the end.
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError>;

    /// The span of the next events, which a later call of either kind does not give; `None` at the
    /// end.
    fn next_span(&mut self) -> Result<Option<Span>, StoreError> {
        Ok(self.next_events()?.map(|events| events.span()))
    }

    /// As [`UserCursor::dictionaries`].
    fn dictionaries(&self) -> &[Dictionary];
}

/// Events, as column slices of equal length.
///
/// A column holds codes into a dictionary that belongs to the cursor and only grows: a code means
/// the same text for as long as the cursor lives. The codes of [`Field::SessionWithinUser`] tell the
/// sessions of one user apart and need not have texts; they mean something within one user's rows
/// of one batch.
#[derive(Clone)]
pub struct Events<'a> {
    /// The times, in microseconds.
    pub times: &'a [i64],
    /// One slice of codes per wanted field.
    pub columns: SmallVec<[&'a [u32]; 8]>,
    /// One slice per field that is wanted as numbers: the [`number`](crate::number) that the text
    /// is, NaN where there is no text, or it is no number or one without bounds.
    pub numbers: SmallVec<[&'a [f64]; 2]>,
    /// One dictionary per wanted field.
    pub dictionaries: Dictionaries<'a>,
}

/// The dictionaries of columns.
#[derive(Clone, Copy)]
pub struct Dictionaries<'a> {
    all: &'a [Dictionary],
    instead: &'a [(usize, Dictionary)],
}

impl<'a> Dictionaries<'a> {
    /// One for each column.
    pub fn of(all: &'a [Dictionary]) -> Self {
        Self { all, instead: &[] }
    }

    /// The same, but others for some columns.
    #[must_use]
    pub fn with(self, instead: &'a [(usize, Dictionary)]) -> Self {
        Self { instead, ..self }
    }

    /// That of a column, which must be there.
    pub fn column(self, column: usize) -> &'a Dictionary {
        let other = self.instead.iter().find(|(instead, _)| *instead == column);
        other.map_or(&self.all[column], |(_, other)| other)
    }
}

impl Index<usize> for Dictionaries<'_> {
    type Output = Dictionary;

    fn index(&self, column: usize) -> &Dictionary {
        self.column(column)
    }
}

impl<'a> Events<'a> {
    /// The first and the last time.
    pub fn span(&self) -> Span {
        let join = |span: Span, time: &i64| {
            let (first, last) = span.unwrap_or((*time, *time));
            Some((first.min(*time), last.max(*time)))
        };
        self.times.iter().fold(None, join)
    }

    /// Some of these events.
    pub fn slice(&self, rows: Range<usize>) -> Events<'a> {
        Events {
            times: &self.times[rows.clone()],
            columns: self.columns.iter().map(|column| &column[rows.clone()]).collect(),
            numbers: self.numbers.iter().map(|numbers| &numbers[rows.clone()]).collect(),
            dictionaries: self.dictionaries,
        }
    }
}

/// One user's events in order of (time, log position).
pub struct UserRun<'a> {
    /// Who.
    pub user: &'a str,
    /// What they did, at least one event.
    pub events: Events<'a>,
}

/// Several users, each with all its events in range; those of a user lie side by side, in order of
/// (time, log position).
pub struct UserBatch<'a> {
    /// The events of all of them.
    pub events: Events<'a>,
    users: &'a BatchUsers,
}

/// Who the users of a batch are, and which rows are theirs.
#[derive(Debug, Default)]
pub struct BatchUsers {
    names: String,
    /// For each user where its name and its rows end.
    ends: Vec<(usize, usize)>,
}

impl BatchUsers {
    /// Adds a user whose rows end before `end`; they begin where those of the one before end.
    pub fn push(&mut self, user: &str, end: usize) {
        self.names.push_str(user);
        self.ends.push((self.names.len(), end));
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Who a user is.
    pub fn name(&self, user: usize) -> &str {
        let start = user.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &self.names[start..self.ends[user].0]
    }

    /// A user's rows.
    pub fn rows(&self, user: usize) -> Range<usize> {
        let start = user.checked_sub(1).map_or(0, |before| self.ends[before].1);
        start..self.ends[user].1
    }

    /// Forgets all users.
    pub fn clear(&mut self) {
        self.names.clear();
        self.ends.clear();
    }
}

impl<'a> UserBatch<'a> {
    /// These users with these events.
    pub fn new(users: &'a BatchUsers, events: Events<'a>) -> Self {
        Self { events, users }
    }

    /// The same users with other columns of their events.
    #[must_use]
    pub fn with(self, events: Events<'a>) -> Self {
        Self { events, ..self }
    }

    /// The rows of each user.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> + Clone + 'a {
        let users = self.users;
        (0..users.len()).map(|user| users.rows(user))
    }

    /// Each user with its events.
    pub fn runs(&self) -> impl Iterator<Item = UserRun<'a>> + '_ {
        let users = self.users;
        (0..users.len()).map(|user| UserRun {
            user: users.name(user),
            events: self.events.slice(users.rows(user)),
        })
    }
}

/// The events of a walk through users.
pub(crate) struct UserByUser<'a>(Box<dyn UserCursor + 'a>);

impl<'a> UserByUser<'a> {
    pub(crate) fn of(users: Box<dyn UserCursor + 'a>) -> Self {
        Self(users)
    }
}

impl EventCursor for UserByUser<'_> {
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError> {
        Ok(self.0.next_users()?.map(|batch| batch.events))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        self.0.dictionaries()
    }
}
