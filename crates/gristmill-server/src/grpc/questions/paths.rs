//! `GetPaths`.

use std::sync::Arc;

use gristmill_model::{PathEdge, PathLevel, PathNode, ProjectId};
use gristmill_proto::analytics::v1;
use serde::Serialize;

use super::selecting::{EventsBody, Selecting, text, whole, word};
use super::well_known::{count, duration_text, small};
use crate::analytics::paths::question;
use crate::app::App;
use crate::json;
use crate::problem::Problem;

/// A question as the HTTP API takes it.
#[derive(Serialize)]
struct Body {
    anchor: Option<EventsBody>,
    direction: Option<String>,
    depth: Option<i64>,
    step: Option<String>,
    limit: Option<i64>,
    gap: Option<String>,
    collapse_repeats: bool,
    occurrences: Option<String>,
}

/// The most frequent steps after or before an event.
pub(super) async fn ask(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::GetPathsRequest,
) -> Result<v1::GetPathsResponse, Problem> {
    let (direction, occurrences) =
        (v1::PathDirection::as_str_name, v1::PathOccurrences::as_str_name);
    let anchor = request.anchor.map(|anchor| EventsBody::of("anchor", anchor));
    let body = Body {
        anchor: anchor.transpose()?,
        direction: word("direction", request.direction, direction, "PATH_DIRECTION_")?,
        depth: whole(request.depth),
        step: text(request.step),
        limit: whole(request.limit),
        gap: request.gap.map(duration_text),
        collapse_repeats: !request.keep_repeats,
        occurrences: word("occurrences", request.occurrences, occurrences, "PATH_OCCURRENCES_")?,
    };
    let selecting = Selecting::of(request.time_range, request.events, request.at_least);
    let selection = selecting.selection(&app, project).await?;
    let (query, ..) = question(&json::text(&body), selection)?;
    let answer = app.services.query.paths(query).await?;
    Ok(v1::GetPathsResponse {
        unique_users: count(answer.users),
        levels: answer.levels.iter().map(level).collect(),
        nodes: answer.nodes.into_iter().map(node).collect(),
        edges: answer.edges.iter().map(edge).collect(),
    })
}

fn level(level: &PathLevel) -> v1::PathLevel {
    v1::PathLevel { count: count(level.paths), ended: level.ended.map(count) }
}

fn node(node: PathNode) -> v1::PathNode {
    v1::PathNode {
        level: small(node.level),
        value: node.value,
        count: count(node.count),
        unique_users: count(node.users),
        ended: node.ended.map(count),
    }
}

fn edge(edge: &PathEdge) -> v1::PathEdge {
    v1::PathEdge { from: small(edge.from), to: small(edge.to), count: count(edge.count) }
}
