//! What messages say of events, read as the HTTP API reads it.

use std::collections::BTreeMap;

use gristmill_model::{Filter, ProjectId, Selection};
use gristmill_proto::analytics::v1::{EventMatch, TimeRange};
use serde::Serialize;
use serde_json::value::RawValue;

use super::well_known::range_of;
use crate::analytics::{at_least, filter_of_text, filters};
use crate::app::App;
use crate::problem::Problem;

/// Which events a question is about, and how fresh the answer must be.
#[derive(Default)]
pub(super) struct Selecting {
    pub(super) range: Option<TimeRange>,
    pub(super) event_types: Vec<String>,
    pub(super) filters: BTreeMap<String, String>,
    /// A filter's text, under the name that errors give it.
    pub(super) filter: (&'static str, String),
    pub(super) at_least: String,
}

impl Selecting {
    /// What a question says whose events are a message of their own.
    pub(super) fn of(
        range: Option<TimeRange>,
        events: Option<EventMatch>,
        at_least: String,
    ) -> Self {
        let EventMatch { event_types, filters, r#where } = events.unwrap_or_default();
        let filter = ("events.where", r#where);
        Self { range, event_types, filters, filter, at_least }
    }

    /// The selection, once everything that the answer must include can be queried.
    pub(super) async fn selection(
        self,
        app: &App,
        project: ProjectId<'static>,
    ) -> Result<Selection, Problem> {
        let Self { range, event_types, filters: equal, filter: (place, filter), at_least: token } =
            self;
        let mut filters: Vec<Filter> = filters(equal);
        if let Some(filter) = text(filter) {
            filters.push(filter_of_text(place, &filter)?);
        }
        let selection = Selection { project, range: range_of(range)?, event_types, filters };
        at_least(app, text(token)).await?;
        Ok(selection)
    }
}

/// What a message says of events, as the body of a question has it.
#[derive(Serialize)]
pub(super) struct EventsBody {
    event_types: Vec<String>,
    filters: BTreeMap<String, String>,
    r#where: Option<Box<RawValue>>,
}

impl EventsBody {
    /// `place` is what errors call the message.
    pub(super) fn of(place: &str, events: EventMatch) -> Result<Self, Problem> {
        let EventMatch { event_types, filters, r#where } = events;
        let r#where = filter_body(&format!("{place}.where"), &r#where)?;
        Ok(Self { event_types, filters, r#where })
    }
}

/// The text of a filter, as the body of a question has it.
pub(super) fn filter_body(place: &str, filter: &str) -> Result<Option<Box<RawValue>>, Problem> {
    if filter.is_empty() {
        return Ok(None);
    }
    let filter = serde_json::from_str(filter).map_err(|error| {
        Problem::argument(format!("`{place}` must be a filter in JSON: {error}"))
    })?;
    Ok(Some(filter))
}

/// A text that says something.
pub(super) fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A number that says something, as a parameter.
pub(super) fn number(number: i32) -> Option<String> {
    (number != 0).then(|| number.to_string())
}

/// A number that says something, as a member of a body.
pub(super) fn whole(number: impl Into<i64>) -> Option<i64> {
    Some(number.into()).filter(|number| *number != 0)
}

/// The name that a parameter gives a value of an enum; none for the value that says nothing.
/// `prefix` is what the names of the enum begin with.
pub(super) fn word<E: TryFrom<i32>>(
    place: &str,
    number: i32,
    name: fn(&E) -> &'static str,
    prefix: &str,
) -> Result<Option<String>, Problem> {
    let value = E::try_from(number).map_err(|_| {
        Problem::argument(format!("`{place}` is {number}, which names nothing: use a named value"))
    })?;
    let name = name(&value);
    let word = name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
    Ok(Some(word).filter(|word| word != "unspecified"))
}

/// The name of a width of buckets.
pub(super) fn granularity(number: i32) -> Result<Option<String>, Problem> {
    use gristmill_proto::analytics::v1::TimeGranularity;
    word("granularity", number, TimeGranularity::as_str_name, "TIME_GRANULARITY_")
}
