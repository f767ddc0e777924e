//! The users of a run, whose texts get their codes as they are walked through.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Origin};

use super::run::Run;
use super::sessions::{Sessions, mark};
use super::source::{Place, SourceUser, UserRows, UserSource, Walk};
use crate::hours::append_hours;
use crate::property::finite_number;
use crate::{Dictionary, HourRows, StoreError, property};

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

    /// The next user.
    fn user(&self) -> Option<SourceUser> {
        if self.left.is_empty() {
            return None;
        }
        let user = self.run.user(self.left.start);
        let rows = self.walk.in_range(&self.run.rows.times[user.first_row..user.end_row]);
        let rows = user.first_row + rows.start..user.first_row + rows.end;
        let rows = UserRows { rows, hours: 0..0 };
        Some(SourceUser { hash: user.hash, rows, goes_on: false })
    }
}

impl UserSource for RunUsers {
    fn fill(&mut self, _dictionaries: &mut [Dictionary]) -> Result<Option<SourceUser>, StoreError> {
        let is_begun = std::mem::replace(&mut self.is_begun, true);
        Ok(self.user().filter(|_| !is_begun))
    }

    fn advance(&mut self) -> Option<SourceUser> {
        self.left.start += 1;
        self.user()
    }

    fn name(&self) -> &str {
        self.run.user(self.left.start).user
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        &self.run.rows.times[rows.clone()]
    }

    fn append_hours(&self, rows: &UserRows, start: usize, into: &mut Vec<HourRows>) {
        append_hours(&self.run.rows.times[rows.rows.clone()], start, into);
    }

    fn append(
        &self,
        field: usize,
        rows: Range<usize>,
        dictionary: &mut Dictionary,
        into: &mut Vec<u32>,
    ) {
        append_codes(&self.run, rows, &self.walk.scan.fields[field], dictionary, into);
    }

    fn append_numbers(&self, field: usize, rows: Range<usize>, into: &mut Vec<f64>) {
        append_numbers(&self.run, rows, &self.walk.scan.numbers[field], into);
    }

    fn own_sessions(&self, _: usize, _: Range<usize>, _: &mut Vec<u32>) -> Option<usize> {
        None
    }

    fn append_sessions(
        &self,
        _field: usize,
        rows: Range<usize>,
        sessions: &mut Sessions,
        into: &mut Vec<u32>,
    ) {
        let id = |row| self.run.rows.sessions.option(row);
        into.extend(rows.map(|row| sessions.code(id(row).map(mark))));
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
