//! A page of a user's events.

use std::ops::Range;

use gristmill_model::{EventPage, EventPlace, Field, TimeRange, Timestamp, UserEvent, UserQuery};
use gristmill_store::{Dictionaries, UserRun};

use crate::QueryError;
use crate::fold::{Fold, UserFold, View};
use crate::select::{Matcher, Plan};

/// Finds a page among a user's events.
#[derive(Clone)]
pub(super) struct Slicer {
    page: EventPage,
    limit: usize,
    /// The column of event ids, if the page begins at an event.
    ids: Option<usize>,
}

/// Where the events of a page lie.
pub(super) struct Place {
    /// From the first event's time to the last one's.
    range: TimeRange,
    /// How many selected events of this range come before the page.
    skipped: usize,
    count: usize,
    pub(super) has_older: bool,
    pub(super) has_newer: bool,
}

impl Slicer {
    pub(super) fn new(query: &UserQuery, plan: &mut Plan) -> Self {
        let begins_at_event =
            matches!(query.page, EventPage::OlderThan(_) | EventPage::NewerThan(_));
        let ids = begins_at_event.then(|| plan.column(&Field::EventId));
        Self { page: query.page.clone(), limit: query.limit, ids }
    }

    /// Where the page lies among the selected rows of a user's run.
    pub(super) fn place(&self, run: &UserRun<'_>, rows: &[usize]) -> Place {
        let slice = self.slice(run, rows);
        let time = |row: &usize| Timestamp(run.events.times[*row]);
        let (first, last) = (rows.get(slice.start), rows[slice.clone()].last());
        let start = first.map(time);
        Place {
            range: TimeRange { start, end: last.map(|row| time(row).plus(1)) },
            skipped: slice.start - rows.partition_point(|row| Some(time(row)) < start),
            count: slice.len(),
            has_older: slice.start > 0,
            has_newer: slice.end < rows.len(),
        }
    }

    fn slice(&self, run: &UserRun<'_>, rows: &[usize]) -> Range<usize> {
        let before = |end: usize| end.saturating_sub(self.limit)..end;
        let from = |start: usize| start..rows.len().min(start.saturating_add(self.limit));
        match &self.page {
            EventPage::Newest => before(rows.len()),
            EventPage::Oldest => from(0),
            EventPage::OlderThan(place) => before(self.find(run, rows, place).start),
            EventPage::NewerThan(place) => from(self.find(run, rows, place).end),
        }
    }

    /// The event of a place, or, should it be gone, all that happened at its time.
    fn find(&self, run: &UserRun<'_>, rows: &[usize], place: &EventPlace) -> Range<usize> {
        let first = rows.partition_point(|row| run.events.times[*row] < place.time.0);
        let end = rows.partition_point(|row| run.events.times[*row] <= place.time.0);
        let is_it = |index: &usize| {
            let id = |column: usize| {
                run.events.dictionaries[column].text(run.events.columns[column][rows[*index]])
            };
            self.ids.and_then(id) == Some(place.id.as_str())
        };
        (first..end).find(is_it).map_or(first..end, |index| index..index + 1)
    }
}

/// Reads the events of a page, oldest first.
pub(super) async fn events(
    view: &View,
    mut plan: Plan,
    place: &Place,
) -> Result<Vec<UserEvent>, QueryError> {
    if place.count == 0 {
        return Ok(Vec::new());
    }
    plan.scan.range = place.range;
    let columns = FIELDS.map(|field| plan.column(&field));
    let start = || EventsFold {
        matcher: plan.matcher.clone(),
        columns,
        skipped: place.skipped,
        count: place.count,
        rows: Vec::new(),
    };
    view.fold(&plan, start).await
}

/// The columns of a whole event, in the order in which [`EventsFold::finish`] takes them.
const FIELDS: [Field; 6] = [
    Field::EventId,
    Field::SessionId,
    Field::EventType,
    Field::Source,
    Field::PageUrl,
    Field::Properties,
];

struct EventsFold {
    matcher: Matcher,
    columns: [usize; 6],
    skipped: usize,
    count: usize,
    rows: Vec<(Timestamp, [u32; 6])>,
}

impl Fold for EventsFold {
    type Partial = Vec<UserEvent>;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Vec<UserEvent> {
        let event = |(time, codes): (Timestamp, [u32; 6])| {
            let text = |field: usize| {
                let dictionary = &dictionaries[self.columns[field]];
                dictionary.text(codes[field]).map(str::to_owned)
            };
            UserEvent {
                id: text(0).unwrap_or_default(),
                session: text(1),
                event_type: text(2).unwrap_or_default(),
                time,
                source: text(3).unwrap_or_default(),
                page_url: text(4).unwrap_or_default(),
                properties: text(5).unwrap_or_default(),
            }
        };
        self.rows.into_iter().map(event).collect()
    }

    fn merge(into: &mut Vec<UserEvent>, other: Vec<UserEvent>) {
        into.extend(other);
    }
}

impl UserFold for EventsFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let mut rows = Vec::new();
        self.matcher.for_each(&run.events, |row| rows.push(row));
        let codes = |row: usize| self.columns.map(|column| run.events.columns[column][row]);
        let page = rows.into_iter().skip(self.skipped).take(self.count);
        self.rows = page.map(|row| (Timestamp(run.events.times[row]), codes(row))).collect();
        Ok(())
    }
}
