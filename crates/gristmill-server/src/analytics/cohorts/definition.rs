//! The JSON form of a cohort, which is also how it is saved, and where questions find it.
//!
//! `{"and": [...]}`, `{"or": [...]}` and `{"not": {...}}` put definitions together; any other
//! object is a behaviour: which events, when, and how many.

use std::sync::Arc;

use async_trait::async_trait;
use gristmill_model::{
    Behaviour, Clock, CohortDefinition, EventMatch, ProjectId, Selection, TimeRange, Timestamp,
    limits,
};
use gristmill_query::{Cohorts, QueryError};
use gristmill_store::{Document, DocumentKey, Store, StoreError};
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::analytics::object::{Member, Object};
use crate::analytics::posted::{select, select_terms};
use crate::analytics::question::{duration_of, duration_term};
use crate::openapi::{Term, object, reference};
use crate::problem::Problem;

/// The kind of the documents that are cohorts.
pub(super) const KIND: &str = "cohort";

/// The body of a document that is a cohort.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved<'a> {
    pub(super) name: String,
    /// As it was sent.
    #[serde(borrow)]
    pub(super) definition: &'a RawValue,
}

impl<'a> Saved<'a> {
    pub(super) fn of(document: &'a Document) -> Result<Self, StoreError> {
        serde_json::from_str(&document.body).map_err(|error| damaged(&document.id, &error))
    }
}

/// Finds saved cohorts for questions.
pub struct SavedCohorts {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl SavedCohorts {
    /// The cohorts of a store. The clock says what the last days of a definition are.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }
}

#[async_trait]
impl Cohorts for SavedCohorts {
    async fn definition(
        &self,
        project: &ProjectId<'_>,
        id: &str,
    ) -> Result<Option<CohortDefinition>, QueryError> {
        let key = DocumentKey { project: project.borrowed(), kind: KIND, id };
        let Some(document) = self.store.document(key).await? else { return Ok(None) };
        let saved = Saved::of(&document)?;
        let definition = definition_of(saved.definition, self.clock.now());
        definition.map(Some).map_err(|problem| damaged(id, &problem.detail()).into())
    }
}

fn damaged(id: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("the cohort {id:?} cannot be read: {error}"))
}

/// The schema of a definition.
pub(crate) fn schema() -> Value {
    let one = || reference("CohortDefinition");
    let all = || json!({"type": "array", "items": one()});
    let count = || json!({"type": ["integer", "string"], "minimum": 0});
    let mut behaviour = select_terms();
    behaviour.extend([
        duration_term("last", "how long up to now, instead of `start` and `end`"),
        Term::new("min_count", "how many of the events at least", count()).by_default(1),
        Term::new("max_count", "how many of the events at most", count()),
    ]);
    let parts = [
        object([Term::new("and", "all of these hold", all()).required()]),
        object([Term::new("or", "at least one of these holds", all()).required()]),
        object([Term::new("not", "this does not hold", one()).required()]),
        object(behaviour),
    ];
    json!({"description": "Who belongs to a cohort.", "anyOf": parts})
}

/// The schema of a definition in an answer.
pub(super) fn reference_to(_: &mut SchemaGenerator) -> Schema {
    reference("CohortDefinition").try_into().unwrap_or_default()
}

/// The definition that a JSON value is, as of now.
pub(super) fn definition_of(value: &RawValue, now: Timestamp) -> Result<CohortDefinition, Problem> {
    part_of(Member::new("definition", value), now, 1)
}

fn part_of(member: Member<'_>, now: Timestamp, depth: usize) -> Result<CohortDefinition, Problem> {
    let most = limits::FILTER_DEPTH;
    if depth > most {
        return Err(Problem::argument(format!(
            "`definition` is nested more than {most} levels deep"
        )));
    }
    let mut object = member.object()?;
    let all = |parts: Vec<Member<'_>>| -> Result<Vec<CohortDefinition>, Problem> {
        parts.into_iter().map(|part| part_of(part, now, depth + 1)).collect()
    };
    let definition = if let Some(parts) = object.take_array("and")? {
        CohortDefinition::All(all(parts)?)
    } else if let Some(parts) = object.take_array("or")? {
        CohortDefinition::Any(all(parts)?)
    } else if let Some(part) = object.take("not")? {
        CohortDefinition::Not(Box::new(part_of(part, now, depth + 1)?))
    } else {
        CohortDefinition::Did(behaviour(&mut object, now)?)
    };
    object.finish()?;
    Ok(definition)
}

fn behaviour(object: &mut Object<'_>, now: Timestamp) -> Result<Behaviour, Problem> {
    let mut events = Selection {
        project: ProjectId::new(""),
        range: TimeRange::ALL,
        event_types: Vec::new(),
        filters: Vec::new(),
    };
    select(object, &mut events)?;
    let Selection { mut range, event_types, filters, .. } = events;
    let last = object.name_of("last");
    if let Some(text) = object.take_text("last")? {
        if range != TimeRange::ALL {
            return Err(Problem::argument(format!(
                "`{last}` cannot stand beside `start` and `end`"
            )));
        }
        let length = duration_of(&last, &text)?;
        range = TimeRange { start: Some(now.plus(-length)), end: Some(now.plus(1)) };
    }
    let (least, most) = (object.name_of("min_count"), object.name_of("max_count"));
    let at_least = count(object, "min_count")?.unwrap_or(1);
    let at_most = count(object, "max_count")?;
    if at_most.is_some_and(|at_most| at_most < at_least) {
        return Err(Problem::argument(format!(
            "`{most}` must not be less than `{least}`, which is {at_least}"
        )));
    }
    Ok(Behaviour { events: EventMatch { event_types, filters }, range, at_least, at_most })
}

fn count(object: &mut Object<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(member) = object.take(name)? else { return Ok(None) };
    let count = member.text_or_number()?.parse();
    count.map(Some).map_err(|_| member.must_be("a whole number from 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10 * Timestamp::DAY);

    fn read(text: &str) -> Result<CohortDefinition, String> {
        let value = serde_json::from_str(text).unwrap();
        definition_of(value, NOW).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn behaviours_are_read() {
        let text = r#"{"and": [{"event_type": "buy", "min_count": 2, "last": "7d"},
            {"not": {"event_types": ["a", "b"], "where": {"field": "n", "value": 1}}}]}"#;
        let CohortDefinition::All(parts) = read(text).unwrap() else { panic!("not all") };
        let CohortDefinition::Did(buy) = &parts[0] else { panic!("no behaviour") };
        assert_eq!((buy.at_least, buy.at_most), (2, None));
        assert!(buy.range.contains(Timestamp(3 * Timestamp::DAY)) && buy.range.contains(NOW));
        assert!(!buy.range.contains(Timestamp(3 * Timestamp::DAY - 1)));
        assert!(!buy.range.contains(NOW.plus(1)));
        let CohortDefinition::Not(other) = &parts[1] else { panic!("no opposite") };
        let CohortDefinition::Did(other) = &**other else { panic!("no behaviour") };
        assert_eq!((other.at_least, other.events.event_types.len()), (1, 2));
        assert_eq!(other.events.filters.len(), 1);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(error("[]"), "`definition` must be an object");
        assert_eq!(error(r#"{"or": [{"x": 1}]}"#), "`definition.or[0].x` is unknown");
        assert_eq!(
            error(r#"{"and": [], "event_type": "a"}"#),
            "`definition.event_type` is unknown"
        );
        assert_eq!(
            error(r#"{"min_count": -1}"#),
            "`definition.min_count` must be a whole number from 0"
        );
        let order = error(r#"{"not": {"max_count": 0}}"#);
        assert_eq!(
            order,
            "`definition.not.max_count` must not be less than `definition.not.min_count`, which \
             is 1"
        );
        let both = error(r#"{"last": "1d", "start": 0}"#);
        assert_eq!(both, "`definition.last` cannot stand beside `start` and `end`");
        assert!(error(r#"{"last": "soon"}"#).starts_with("`definition.last` is no length of time"));
        let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(20), "}".repeat(20));
        assert!(error(&deep).contains("nested more than 16 levels deep"));
    }
}
