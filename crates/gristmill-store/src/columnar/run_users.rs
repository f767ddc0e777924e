//! The users of a run, whose texts get their codes as they are walked through.

use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Field, Origin};

use super::run::Run;
use super::sessions::{Sessions, mark};
use super::source::{Place, UserSource, Walk};
use super::texts::Texts;
use crate::{Dictionary, StoreError, property};

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

    fn hash(&self) -> Option<u64> {
        (!self.left.is_empty()).then(|| self.run.user(self.left.start).hash)
    }
}

impl UserSource for RunUsers {
    fn fill(&mut self, _dictionaries: &mut [Dictionary]) -> Result<Option<u64>, StoreError> {
        let is_begun = std::mem::replace(&mut self.is_begun, true);
        Ok(self.hash().filter(|_| !is_begun))
    }

    fn advance(&mut self) -> Option<u64> {
        self.left.start += 1;
        self.hash()
    }

    fn name(&self) -> &str {
        self.run.user(self.left.start).user
    }

    fn rows(&self) -> Range<usize> {
        let user = self.run.user(self.left.start);
        let rows = self.walk.in_range(&self.run.rows.times[user.first_row..user.end_row]);
        user.first_row + rows.start..user.first_row + rows.end
    }

    fn goes_on(&self) -> bool {
        false
    }

    fn times(&self, rows: &Range<usize>) -> &[i64] {
        &self.run.rows.times[rows.clone()]
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
    column: &mut Vec<u32>,
) {
    let of_run = &run.rows;
    let mut push = |texts: &Texts| {
        // Rows of one user that follow each other are often alike.
        let mut last = None;
        column.extend(rows.clone().map(|row| {
            let text = texts.option(row);
            match last {
                Some((known, code)) if known == text => code,
                _ => {
                    let code = dictionary.code_of(text);
                    last = Some((text, code));
                    code
                }
            }
        }));
    };
    match field {
        Field::EventType => push(&of_run.event_types),
        Field::SessionId | Field::SessionWithinUser => push(&of_run.sessions),
        Field::Source => push(&of_run.sources),
        Field::PageUrl => push(&of_run.page_urls),
        Field::EventId => push(&of_run.event_ids),
        Field::Properties => push(&of_run.properties),
        Field::UserId => {}
        Field::Origin => column.extend(rows.map(|row| {
            dictionary.code_of(Origin::from_number(of_run.origins[row]).map(Origin::as_str))
        })),
        Field::Property(name) => {
            let value = |row| property(of_run.properties.text(row), name);
            column.extend(rows.map(|row| dictionary.code_of(value(row).as_deref())));
        }
    }
}
