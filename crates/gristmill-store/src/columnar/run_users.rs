//! The users of a run, whose texts get their codes as they are walked through.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Origin};

use super::run::Run;
use super::sessions::{Mark, mark};
use super::source::{Follows, Place, UserSource, Walk};
use super::taken::Taken;
use crate::hours::append_hours;
use crate::property::finite_number;
use crate::{ABSENT, Dictionary, Precision, StoreError, property};

/// The users of a run. All are at hand at once.
pub(super) struct RunUsers {
    run: Arc<Run>,
    left: Range<usize>,
    is_begun: bool,
    walk: Arc<Walk>,
}

impl RunUsers {
    pub(super) fn of(run: Arc<Run>, walk: Arc<Walk>) -> Self {
        let (first, last) = walk.hashes;
        let mut left = run.users_between(walk.scan.project.as_str(), first, last);
        if let Some(wanted) = walk.scan.user.as_deref() {
            let exact = left.clone().find(|&index| run.user(index).user == wanted);
            left = exact.map_or(0..0, |index| index..index + 1);
        }
        Self { run, left, is_begun: false, walk }
    }
}

impl UserSource for RunUsers {
    fn fill(&mut self, _dictionaries: &mut [Dictionary]) -> Result<bool, StoreError> {
        let is_begun = std::mem::replace(&mut self.is_begun, true);
        Ok(!is_begun && !self.left.is_empty())
    }

    fn left(&self) -> Range<usize> {
        if self.is_begun { self.left.clone() } else { 0..0 }
    }

    fn follows(&self) -> Follows {
        Follows::Nothing
    }

    fn hash(&self, user: usize) -> u64 {
        self.run.hash(user)
    }

    fn name(&self, user: usize) -> &str {
        self.run.user(user).user
    }

    fn rows(&self, user: usize) -> Range<usize> {
        let user = self.run.user(user);
        user.first_row..user.end_row
    }

    fn take(&mut self, users: usize, into: &mut Taken) {
        let first = self.left.start;
        self.left.start += users;
        for user in first..first + users {
            let rows = self.rows(user);
            let cut = self.walk.in_range(&self.run.rows.times[rows.clone()]);
            let rows = rows.start + cut.start..rows.start + cut.end;
            if rows.is_empty() {
                continue;
            }
            if self.walk.scan.precision == Precision::Hours {
                append_hours(&self.run.rows.times[rows.clone()], 0, &mut into.hours);
            }
            into.add(self.run.hash(user), user, rows);
        }
    }

    fn append_times(&self, rows: Range<usize>, into: &mut Vec<i64>) {
        into.extend_from_slice(&self.run.rows.times[rows]);
    }

    fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        match &self.walk.scan.fields[field] {
            // Each row's is told by its place.
            Field::SessionWithinUser => into.extend(
                rows.map(|row| self.run.rows.sessions.option(row).map_or(ABSENT, |_| row as u32)),
            ),
            field => append_codes(&self.run, rows, field, dictionary, into),
        }
    }

    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        append_numbers(&self.run, rows, &self.walk.scan.numbers[field], into);
    }

    fn sessions(&self, _field: usize) -> Option<usize> {
        None
    }

    fn session(&self, _field: usize, _user: usize, code: usize) -> Option<Mark> {
        self.run.rows.sessions.option(code).map(mark)
    }

    fn place(&self) -> Place {
        Place::Run(Arc::clone(&self.run))
    }
}

/// Appends the codes that rows of a run have in a field that is not the user's name.
pub(super) fn append_codes(
    run: &Run,
    rows: Range<usize>,
    field: &Field,
    dictionary: &mut Dictionary,
    into: &mut Vec<u32>,
) {
    // Rows of one user that follow each other are often alike.
    let mut last: Option<(Option<Cow<'_, str>>, u32)> = None;
    for text in rows.filter_map(|row| text(run, row, field)) {
        let code = match &last {
            Some((known, code)) if *known == text => *code,
            _ => dictionary.code_of(text.as_deref()),
        };
        into.push(code);
        last = Some((text, code));
    }
}

/// Appends the numbers that rows of a run have in a field that is not the user's name.
pub(super) fn append_numbers(run: &Run, rows: Range<usize>, field: &Field, into: &mut Vec<f64>) {
    let texts = rows.filter_map(|row| text(run, row, field));
    into.extend(texts.map(|text| finite_number(text.as_deref())));
}

/// What a row has in a field; nothing is known of the user's name.
fn text<'a>(run: &'a Run, row: usize, field: &Field) -> Option<Option<Cow<'a, str>>> {
    let rows = &run.rows;
    let texts = match field {
        Field::EventType => &rows.event_types,
        Field::SessionId | Field::SessionWithinUser => &rows.sessions,
        Field::Source => &rows.sources,
        Field::PageUrl => &rows.page_urls,
        Field::EventId => &rows.event_ids,
        Field::Properties => &rows.properties,
        Field::UserId => return None,
        Field::Origin => {
            let origin = Origin::from_number(rows.origins[row]);
            return Some(origin.map(|origin| Cow::Borrowed(origin.as_str())));
        }
        Field::Property(name) => return Some(property(rows.properties.text(row), name)),
    };
    Some(texts.option(row).map(Cow::Borrowed))
}
