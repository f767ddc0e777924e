//! Questions that come as a JSON body. What all questions take may stand in the target or in it.

use axum::body::Body;
use bytes::Bytes;
use gristmill_model::{EventMatch, Filter, Micros, Selection, Timestamp, limits};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use serde_json::json;

use super::filter::take_filter;
use super::object::{Member, Object};
use super::question::{duration_of, filters, selection, time_of};
use crate::app::App;
use crate::openapi::{Term, object, one_or_more, reference};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::{body, media};

/// A question's request.
pub(super) struct Posted {
    /// Which events the target says.
    pub(super) selection: Selection,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Reads a question's request.
pub(super) async fn posted(app: &App, request: Request<Body>) -> Result<Posted, Problem> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return in_target(app, parts).await;
    }
    let selection = match of_target(app, &parts).await {
        Ok(selection) => selection,
        Err(problem) => return Err(body::refuse(&parts.headers, body, problem).await),
    };
    let headers = parts.headers;
    let body = body::receive_question(app, &headers, body, limits::QUERY_BODY_BYTES).await?;
    Ok(Posted { selection, headers, body })
}

/// A question whose body stands in the target, for clients that can only `GET`.
async fn in_target(app: &App, parts: Parts) -> Result<Posted, Problem> {
    let mut parameters = Parameters::of(&parts.uri)?;
    let missing = || Problem::argument("`question` is missing: give the question's JSON object");
    let question = parameters.take("question")?.ok_or_else(missing)?;
    Object::of_body(question.as_bytes()).map_err(|problem| {
        Problem::argument(format!("`question` is no question: {}", problem.detail()))
    })?;
    let selection = selection(app, &parts.extensions, &mut parameters).await?;
    parameters.finish()?;
    Ok(Posted { selection, headers: parts.headers, body: question.into() })
}

/// What the head of a request says.
async fn of_target(app: &App, head: &Parts) -> Result<Selection, Problem> {
    media::expect_json(&head.headers)?;
    let mut parameters = Parameters::of(&head.uri)?;
    let selection = selection(app, &head.extensions, &mut parameters).await?;
    parameters.finish()?;
    Ok(selection)
}

/// The member that says which events something is about; every event, if there is none.
pub(super) fn event_match(body: &mut Object<'_>, name: &str) -> Result<EventMatch, Problem> {
    body.take(name)?.map_or(Ok(EventMatch::default()), event_match_of)
}

/// The events that a member describes.
pub(super) fn event_match_of(member: Member<'_>) -> Result<EventMatch, Problem> {
    let mut object = member.object()?;
    let events = events(&mut object)?;
    object.finish()?;
    Ok(events)
}

/// What the members of an object say about events.
pub(super) fn events(object: &mut Object<'_>) -> Result<EventMatch, Problem> {
    let mut event_types = object.take_texts("event_type")?;
    event_types.extend(object.take_texts("event_types")?);
    Ok(EventMatch { event_types, filters: all_filters(object)? })
}

/// What [`event_match_of`] reads.
pub(super) fn event_match_term(name: &'static str, about: &str) -> Term {
    Term::new(name, format!("{about}; every event, if empty"), object(event_terms()))
}

/// What [`events`] takes.
pub(super) fn event_terms() -> Vec<Term> {
    let types = one_or_more(&json!({"type": "string"}));
    let mut terms = vec![
        Term::new("event_type", "events of one of these types", types.clone()),
        Term::new("event_types", "the same as `event_type`", types),
    ];
    terms.extend(filter_terms());
    terms
}

/// What [`all_filters`] takes.
pub(super) fn filter_terms() -> [Term; 2] {
    let filters = json!({"type": "object", "additionalProperties": {"type": "string"}});
    [
        Term::new("filters", "fields and properties that must equal a text", filters),
        Term::new("where", "events that pass", reference("Filter")),
    ]
}

/// What [`select`] takes.
pub(super) fn select_terms() -> Vec<Term> {
    let bounds = || {
        [("start", "the first event time"), ("end", "the event time behind the last")]
            .map(|(name, about)| Term::new(name, about, reference("Time")))
    };
    let mut terms = Vec::from(bounds());
    terms.push(Term::new("time_range", "`start` and `end`, together", object(bounds())));
    terms.extend(event_terms());
    terms
}

/// Narrows a selection by what a body says of it.
pub(super) fn select(body: &mut Object<'_>, selection: &mut Selection) -> Result<(), Problem> {
    let (start, end) = (time(body, "start")?, time(body, "end")?);
    let (mut nested_start, mut nested_end) = (None, None);
    if let Some(range) = body.take("time_range")? {
        let mut range = range.object()?;
        (nested_start, nested_end) = (time(&mut range, "start")?, time(&mut range, "end")?);
        range.finish()?;
    }
    let range = &mut selection.range;
    range.start = one_of("start", [range.start, start, nested_start])?;
    range.end = one_of("end", [range.end, end, nested_end])?;
    for name in ["event_type", "event_types"] {
        selection.event_types.extend(body.take_texts(name)?);
    }
    selection.filters.extend(all_filters(body)?);
    Ok(())
}

/// The filters of an object: those that `filters` names and texts mean, and `where`.
pub(super) fn all_filters(object: &mut Object<'_>) -> Result<Vec<Filter>, Problem> {
    let mut all = filters(texts(object, "filters")?);
    all.extend(take_filter(object, "where")?);
    Ok(all)
}

/// The one value that is given of those that mean the same.
fn one_of(name: &str, given: [Option<Timestamp>; 3]) -> Result<Option<Timestamp>, Problem> {
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(Problem::argument(format!("`{name}` is given more than once"))),
        (one, None) => Ok(one),
    }
}

/// The members of an object of texts.
fn texts(object: &mut Object<'_>, name: &str) -> Result<Vec<(String, String)>, Problem> {
    object.take(name)?.map_or(Ok(Vec::new()), |member| member.object()?.into_texts())
}

/// A length of time.
pub(super) fn duration(body: &mut Object<'_>, name: &str) -> Result<Option<Micros>, Problem> {
    body.take_text(name)?.map(|text| duration_of(name, &text)).transpose()
}

fn time(object: &mut Object<'_>, name: &str) -> Result<Option<Timestamp>, Problem> {
    let Some(member) = object.take(name)? else { return Ok(None) };
    time_of(member.name(), &member.text_or_number()?).map(Some)
}
