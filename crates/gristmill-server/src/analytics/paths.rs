//! `POST /v1/analytics/paths`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use gristmill_model::{
    Direction, Field, Occurrences, PathsAnswer, PathsQuery, Repeats, Selection, limits,
};
use http::{Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::csv::Table;
use super::description::Description;
use super::object::{Object, Scalar};
use super::posted::{duration, event_match_of, event_match_term, posted, select};
use super::question::{
    Format, Metadata, at_least, choice, duration_term, field_term, format, limit_term, seconds,
};
use crate::app::App;
use crate::json;
use crate::openapi::Term;
use crate::problem::Problem;

const DIRECTIONS: [(&str, Direction); 2] =
    [("after", Direction::After), ("before", Direction::Before)];
const OCCURRENCES: [(&str, Occurrences); 2] =
    [("all", Occurrences::All), ("first", Occurrences::First)];
/// How many steps a path has, and how many nodes a level, if nobody says.
const DEPTH: usize = 3;
const NODES: usize = 10;

#[derive(JsonSchema, Serialize)]
struct AnswerBody<'a> {
    unique_users: u64,
    levels: Vec<LevelBody>,
    nodes: Vec<NodeBody<'a>>,
    edges: Vec<EdgeBody>,
    metadata: Metadata<Terms>,
}

#[derive(JsonSchema, Serialize)]
struct LevelBody {
    level: usize,
    count: u64,
    ended: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
struct NodeBody<'a> {
    id: usize,
    level: usize,
    /// `null` stands for all other values.
    value: Option<&'a str>,
    count: u64,
    unique_users: u64,
    ended: Option<u64>,
}

#[derive(JsonSchema, Serialize)]
struct EdgeBody {
    /// The level that it leads to.
    level: usize,
    /// The ids of its ends.
    from: usize,
    to: usize,
    count: u64,
}

/// What a question says beside which events it is about.
#[derive(JsonSchema, Serialize)]
pub(crate) struct Terms {
    direction: &'static str,
    depth: usize,
    step: String,
    limit: usize,
    gap: Option<String>,
    collapse_repeats: bool,
    occurrences: &'static str,
}

/// What the document says of [`post`].
pub(crate) fn describe() -> Description {
    let terms = [
        event_match_term("anchor", "the events at which paths begin").required(),
        Term::choice("direction", "where paths lead", &DIRECTIONS).by_default("after"),
        Term::whole("depth", "how many steps a path has", 1..=limits::PATH_DEPTH).by_default(DEPTH),
        field_term("step", "what the steps are values of").by_default("event_type"),
        limit_term("how many values are told apart on each level", NODES, limits::PATH_NODES),
        duration_term("gap", "the longest pause within a path"),
        Term::flag("collapse_repeats", "whether steps of the same value in a row are one")
            .by_default(true),
        Term::choice("occurrences", "which of a user's anchors begin a path", &OCCURRENCES)
            .by_default("all"),
    ];
    let summary = "The most frequent steps after or before an event";
    Description::of::<AnswerBody<'_>>("Paths", summary, terms)
}

/// The most frequent steps after or before an event.
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let since = Instant::now();
    let posted = posted(&app, request).await?;
    let (query, terms, token) = question(&posted.body, posted.selection)?;
    at_least(&app, token).await?;
    let range = query.selection.range;
    let answer = app.services.query.paths(query).await?;
    if format(&posted.headers) == Format::Csv {
        return Ok(table(&answer));
    }
    let metadata = Metadata::of(range, terms, since);
    Ok(json::respond(StatusCode::OK, &body(&answer, metadata)))
}

/// The question of a body, about what is left of `selection`, and its `at_least`.
pub(crate) fn question(
    body: &[u8],
    mut selection: Selection,
) -> Result<(PathsQuery, Terms, Option<String>), Problem> {
    let mut body = Object::of_body(body)?;
    let missing = || Problem::argument("`anchor` is missing: say at which events paths begin");
    let anchor = event_match_of(body.take("anchor")?.ok_or_else(missing)?)?;
    select(&mut body, &mut selection)?;
    let direction = body.take_text("direction")?;
    let direction = direction.as_deref().unwrap_or("after");
    let (direction_name, direction) = choice("direction", direction, &DIRECTIONS)?;
    let depth = whole(&mut body, "depth", DEPTH, 1..=limits::PATH_DEPTH)?;
    let limit = whole(&mut body, "limit", NODES, 1..=limits::PATH_NODES)?;
    let step = body.take_text("step")?.map_or(Field::EventType, |name| Field::from_name(&name));
    let gap = duration(&mut body, "gap")?;
    let repeats = repeats(&mut body)?;
    let occurrences = body.take_text("occurrences")?;
    let occurrences = occurrences.as_deref().unwrap_or("all");
    let (occurrences_name, occurrences) = choice("occurrences", occurrences, &OCCURRENCES)?;
    let token = body.take_text("at_least")?;
    body.finish()?;
    let terms = Terms {
        direction: direction_name,
        depth,
        step: step.name().to_owned(),
        limit,
        gap: gap.map(seconds),
        collapse_repeats: repeats == Repeats::Collapsed,
        occurrences: occurrences_name,
    };
    let query =
        PathsQuery { selection, anchor, direction, depth, step, limit, gap, repeats, occurrences };
    Ok((query, terms, token))
}

/// A member that is a whole number of a range.
fn whole(
    body: &mut Object<'_>,
    name: &str,
    default: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, Problem> {
    let Some(member) = body.take(name)? else { return Ok(default) };
    let wanted = || {
        let (least, most) = (range.start(), range.end());
        member.must_be(&format!("a whole number from {least} to {most}"))
    };
    let Ok(Scalar::Number(number)) = member.scalar() else { return Err(wanted()) };
    let whole = number as usize;
    if whole as f64 == number && range.contains(&whole) { Ok(whole) } else { Err(wanted()) }
}

fn repeats(body: &mut Object<'_>) -> Result<Repeats, Problem> {
    let Some(member) = body.take("collapse_repeats")? else { return Ok(Repeats::Collapsed) };
    match member.scalar() {
        Ok(Scalar::Flag(true)) => Ok(Repeats::Collapsed),
        Ok(Scalar::Flag(false)) => Ok(Repeats::Kept),
        _ => Err(member.must_be("true or false")),
    }
}

fn body(answer: &PathsAnswer, metadata: Metadata<Terms>) -> AnswerBody<'_> {
    let levels = answer.levels.iter().enumerate();
    let nodes = answer.nodes.iter().enumerate();
    let edges = answer.edges.iter();
    AnswerBody {
        unique_users: answer.users,
        levels: levels
            .map(|(level, at)| LevelBody { level, count: at.paths, ended: at.ended })
            .collect(),
        nodes: nodes
            .map(|(id, node)| NodeBody {
                id,
                level: node.level,
                value: node.value.as_deref(),
                count: node.count,
                unique_users: node.users,
                ended: node.ended,
            })
            .collect(),
        edges: edges
            .map(|edge| EdgeBody {
                level: answer.nodes[edge.to].level,
                from: edge.from,
                to: edge.to,
                count: edge.count,
            })
            .collect(),
        metadata,
    }
}

/// One table, nodes before edges: a node has an id and a value, an edge the ids of its ends.
fn table(answer: &PathsAnswer) -> Response {
    let mut table = Table::new(&[
        "kind",
        "level",
        "id",
        "value",
        "count",
        "unique_users",
        "ended",
        "from",
        "to",
    ]);
    for (id, node) in answer.nodes.iter().enumerate() {
        table.text(if node.value.is_some() { "node" } else { "other" });
        table.number(node.level);
        table.number(id);
        table.text(node.value.as_deref().unwrap_or_default());
        table.number(node.count);
        table.number(node.users);
        match node.ended {
            Some(ended) => table.number(ended),
            None => table.text(""),
        }
        (0..2).for_each(|_| table.text(""));
        table.end_row();
    }
    for edge in &answer.edges {
        table.text("edge");
        table.number(answer.nodes[edge.to].level);
        (0..2).for_each(|_| table.text(""));
        table.number(edge.count);
        (0..2).for_each(|_| table.text(""));
        table.number(edge.from);
        table.number(edge.to);
        table.end_row();
    }
    table.into_response()
}
