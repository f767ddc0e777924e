//! Paths: the question and its answer.

use crate::{EventMatch, Field, Micros, Selection};

/// The most frequent steps after or before an event, as a graph.
///
/// A step is a selected event with a value of the step field; an event without the field, or with
/// an empty text in it, is none. A user's steps are in order of time, those of one moment in log
/// order. Where repeats are collapsed, steps of the same value that follow each other are one.
/// A path begins at an anchor, which is its level 0, and leads over the next steps away from it
/// until it has the depth asked for, there are no more steps, or two selected events of the user
/// are further apart than the gap. Paths of one user may overlap: a step counts in each path that
/// it lies on, and an anchor may be a step of another path.
#[derive(Clone, Debug)]
pub struct PathsQuery {
    /// Which events. Only these are anchors and steps.
    pub selection: Selection,
    /// The events where paths begin. Such an event need not have a value of the step field.
    pub anchor: EventMatch,
    /// Which way paths lead.
    pub direction: Direction,
    /// How many steps a path has at most, beside the anchor.
    pub depth: usize,
    /// Whose values are the steps.
    pub step: Field,
    /// How many values are told apart on each level; the rest is "other".
    pub limit: usize,
    /// The longest pause within a path, if limited.
    pub gap: Option<Micros>,
    /// What becomes of repeated steps.
    pub repeats: Repeats,
    /// Which anchors begin a path.
    pub occurrences: Occurrences,
}

/// Which way paths lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To what came after the anchor.
    After,
    /// Back to what came before it.
    Before,
}

/// What becomes of steps of the same value that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// They are one step, and at most one anchor.
    Collapsed,
    /// Each is a step.
    Kept,
}

/// Which anchors begin a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrences {
    /// All of them.
    All,
    /// Each user's first.
    First,
}

/// Answers a `PathsQuery`.
///
/// Nothing is lost between levels: a node's count is the sum of the edges into it, and of the
/// edges out of it and of the paths that end there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathsAnswer {
    /// How many users have a path.
    pub users: u64,
    /// One entry for each level, the anchors' first.
    pub levels: Vec<PathLevel>,
    /// The nodes by level; within it the most paths first, ties by value, "other" last.
    pub nodes: Vec<PathNode>,
    /// The edges between nodes of adjoining levels, by their ends.
    pub edges: Vec<PathEdge>,
}

/// What became of the paths at one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLevel {
    /// How many paths came this far.
    pub paths: u64,
    /// How many of them end here; `None` at the last level, beyond which nobody looks.
    pub ended: Option<u64>,
}

/// A value at a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathNode {
    /// How many steps it is away from the anchor.
    pub level: usize,
    /// The value; empty for an anchor that has none; `None` for all other values together.
    pub value: Option<String>,
    /// How many paths lead over it.
    pub count: u64,
    /// How many distinct users have such a path.
    pub users: u64,
    /// How many of the paths end here; `None` at the last level.
    pub ended: Option<u64>,
}

/// A step from one level to the next, away from the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEdge {
    /// The index of the node that it leads from.
    pub from: usize,
    /// The index of the node that it leads to, one level further.
    pub to: usize,
    /// How many paths take it.
    pub count: u64,
}
