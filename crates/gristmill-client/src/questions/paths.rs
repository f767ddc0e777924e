//! What users do next, or did before.

use serde::{Deserialize, Serialize};

use super::{Asked, Events, Question, Selection};

/// What users do most often after an event, or before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Paths {
    /// What paths begin with.
    pub anchor: Events,
    /// `after` if missing, or `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// How many steps, 1 to 5; 3 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// The field or property that makes a step; `event_type` if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How many values are told apart on each level; 10 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The longest pause within a path; unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Whether steps of one value that follow each other are one; they are if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collapse_repeats: Option<bool>,
    /// `all` if missing, or `first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrences: Option<String>,
    /// Which events.
    #[serde(flatten)]
    pub select: Selection,
}

impl Question for Paths {
    type Answer = PathsAnswer;

    fn asked(&self) -> Asked {
        Asked::post("/v1/analytics/paths", self)
    }
}

/// Paths as a graph.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PathsAnswer {
    pub unique_users: u64,
    pub levels: Vec<PathLevel>,
    pub nodes: Vec<PathNode>,
    pub edges: Vec<PathEdge>,
}

/// All steps of a number.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PathLevel {
    pub level: usize,
    pub count: u64,
    pub ended: Option<u64>,
}

/// A value on a level; without a value, all beyond the limit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PathNode {
    pub id: usize,
    pub level: usize,
    pub value: Option<String>,
    pub count: u64,
    pub unique_users: u64,
    pub ended: Option<u64>,
}

/// Paths from one node to another.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of the API")]
pub struct PathEdge {
    pub level: usize,
    pub from: usize,
    pub to: usize,
    pub count: u64,
}
