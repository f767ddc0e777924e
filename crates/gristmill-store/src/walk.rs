//! Walks through what a snapshot shows: user by user, or through the events in no order.

use std::ops::{Index, Range};

use gristmill_model::{Field, ProjectId, TimeRange};
use smallvec::SmallVec;

use crate::hours::append_hours;
use crate::{Dictionary, HourRows, Precision, StoreError};

/// What a walk should give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Events of this project only.
    pub project: ProjectId<'static>,
    /// Events of this user only, if given.
    pub user: Option<String>,
    /// Events of this range only.
    pub range: TimeRange,
    /// How exactly it must be told when they happened.
    pub precision: Precision,
    /// The columns wanted beside the time, in this order.
    pub fields: Vec<Field>,
    /// The columns that are wanted as numbers, in this order.
    pub numbers: Vec<Field>,
    /// Which events may be left out.
    pub wanted: Wanted,
    /// How the events of a user with the same time are ordered.
    pub ties: Ties,
}

/// Which events a walk must give. It may give others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// All.
    All,
    /// Those that have one of the wanted numbers.
    WithNumber,
    /// Those that have one of these texts, in ascending order, in a wanted field, given by its place.
    WithText(usize, Vec<String>),
    /// The first and the last of those in range.
    Ends,
}

/// How the events of a user with the same time are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ties {
    /// By their positions in the log.
    ByPosition,
    /// In any order.
    InAnyOrder,
}

impl Scan {
    /// A walk through all events of a project, with their times and no other column.
    pub fn of(project: ProjectId<'static>) -> Self {
        Self {
            project,
            user: None,
            range: TimeRange::ALL,
            precision: Precision::Times,
            fields: Vec::new(),
            numbers: Vec::new(),
            wanted: Wanted::All,
            ties: Ties::ByPosition,
        }
    }

    /// Whether the users of a batch must have their names.
    pub(crate) fn names_users(&self) -> bool {
        let mut fields = self.fields.iter().chain(&self.numbers);
        self.precision == Precision::Times || fields.any(|field| *field == Field::UserId)
    }
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

/// Walks through the users of some pieces of a view, as a [`UserCursor`] does.
pub trait PieceCursor {
    /// The next users, who are of one piece, and which it is; `None` at the end.
    fn next_users(&mut self) -> Result<Option<(u32, UserBatch<'_>)>, StoreError>;

    /// As [`UserCursor::dictionaries`].
    fn dictionaries(&self) -> &[Dictionary];
}

/// The first and the last time of some events, in microseconds, if there are any. With
/// [`Precision::Hours`] they may be the first and the last moment of an hour instead.
pub type Span = Option<(i64, i64)>;

/// Walks through events in no order, each once.
pub trait EventCursor {
    /// The next events, maybe none; `None` at the end.
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError>;

    /// Passes over the next events if it is known without looking at them that all lie in a span, and
    /// says whether it did so.
    fn pass_over(&mut self, _known: (i64, i64)) -> Result<bool, StoreError> {
        Ok(false)
    }

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
/// With [`Precision::Hours`] there may be more rows than events: those that no hour has are not of
/// the walk. And without times a row may be several events that are alike in all that is told of them.
///
/// A column holds codes into a dictionary that belongs to the cursor and only grows: a code means
/// the same text for as long as the cursor lives. The codes of [`Field::SessionWithinUser`] tell the
/// sessions of one user apart and need not have texts; they mean something within one user's rows
/// of one batch.
#[derive(Clone)]
pub struct Events<'a> {
    /// How many rows there are.
    pub rows: usize,
    /// With [`Precision::Times`] the times, in microseconds, otherwise none.
    pub times: &'a [i64],
    /// With [`Precision::Hours`] the hours, otherwise none.
    pub hours: &'a [HourRows],
    /// How many events each row is; none if each is one.
    pub counts: &'a [u32],
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

    /// Those of the store.
    pub(crate) fn all(self) -> &'a [Dictionary] {
        self.all
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
        let times = self.times.iter().map(|time| (*time, *time));
        let hours = self.hours.iter().map(|hour| (hour.begins(), hour.ends() - 1));
        let join = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        times.chain(hours).reduce(join)
    }

    /// Some of these events, which have times.
    pub fn slice(&self, rows: Range<usize>) -> Events<'a> {
        Events {
            rows: rows.len(),
            times: &self.times[rows.clone()],
            hours: &[],
            counts: &[],
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

/// Several users, each with all its events in range. The rows of a user lie side by side, in order of
/// (time, log position); without times they lie side by side in no order, and users need not have
/// names. With [`Precision::Hours`] each row has an hour, and the hours of a user are in order of time,
/// some maybe more than once.
pub struct UserBatch<'a> {
    /// The events of all of them.
    pub events: Events<'a>,
    users: &'a BatchUsers,
    /// For each user where its hours end, if that is known.
    hour_ends: &'a [u32],
}

/// Who the users of a batch are, and which rows are theirs.
#[derive(Debug, Default)]
pub struct BatchUsers {
    names: String,
    /// For each user where its name and its rows end.
    ends: Vec<(u32, u32)>,
}

impl BatchUsers {
    /// Those with these names side by side, given for each user where its name and its rows end.
    pub(crate) fn of_parts(names: String, ends: Vec<(u32, u32)>) -> Self {
        Self { names, ends }
    }

    /// What [`of_parts`](Self::of_parts) takes.
    pub(crate) fn parts(&self) -> (&str, &[(u32, u32)]) {
        (&self.names, &self.ends)
    }

    /// Adds a user whose rows end before `end`; they begin where those of the one before end.
    pub fn push(&mut self, user: &str, end: usize) {
        self.names.push_str(user);
        self.ends.push((self.names.len() as u32, end as u32));
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
        &self.names[start as usize..self.ends[user].0 as usize]
    }

    /// A user's rows.
    pub fn rows(&self, user: usize) -> Range<usize> {
        let start = user.checked_sub(1).map_or(0, |before| self.ends[before].1);
        start as usize..self.ends[user].1 as usize
    }

    /// Gives back the memory that is not used.
    pub(crate) fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// The memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.names.capacity() + size_of::<(u32, u32)>() * self.ends.capacity()
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
        Self { events, users, hour_ends: &[] }
    }

    /// The same, where it is known for each user where its hours end.
    #[must_use]
    pub(crate) fn with_hour_ends(self, hour_ends: &'a [u32]) -> Self {
        Self { hour_ends, ..self }
    }

    /// The same users with other columns of their events.
    #[must_use]
    pub fn with(self, events: Events<'a>) -> Self {
        Self { events, ..self }
    }

    /// Who a user is; means nothing if users have no names.
    pub(crate) fn name(&self, user: usize) -> &'a str {
        self.users.name(user)
    }

    /// The rows of each user.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> + Clone + 'a {
        let users = self.users;
        (0..users.len()).map(|user| users.rows(user))
    }

    /// For each user which of the times are its own, or with [`Precision::Hours`] which of the hours;
    /// means nothing with [`Precision::Untold`].
    pub fn moments(&self) -> impl Iterator<Item = Range<usize>> + Clone + 'a {
        let (hours, ends) = (self.events.hours, self.hour_ends);
        let mut next = 0;
        self.rows().enumerate().map(move |(user, rows)| {
            if hours.is_empty() {
                return rows;
            }
            if let Some(end) = ends.get(user) {
                let start = std::mem::replace(&mut next, *end as usize);
                return start..next;
            }
            let is_own = |hour: &&HourRows| (hour.start as usize) < rows.end;
            let start = next;
            next += hours[start..].iter().take_while(is_own).count();
            start..next
        })
    }

    /// Each user with its events, which must have times.
    pub fn runs(&self) -> impl Iterator<Item = UserRun<'a>> + '_ {
        let users = self.users;
        (0..users.len()).map(|user| UserRun {
            user: users.name(user),
            events: self.events.slice(users.rows(user)),
        })
    }
}

/// What a walk tells of the moments of its events, where all their times are at hand.
#[derive(Default)]
pub(crate) struct Told {
    hours: Vec<HourRows>,
}

impl Told {
    /// The times and the hours to give, of which one are none.
    pub(crate) fn tell<'a>(
        &'a mut self,
        precision: Precision,
        times: &'a [i64],
        users: impl Iterator<Item = Range<usize>>,
    ) -> (&'a [i64], &'a [HourRows]) {
        self.hours.clear();
        match precision {
            Precision::Times => (times, &[]),
            Precision::Untold => (&[], &[]),
            Precision::Hours => {
                users.for_each(|rows| {
                    append_hours(&times[rows.clone()], rows.start, &mut self.hours);
                });
                (&[], &self.hours)
            }
        }
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
