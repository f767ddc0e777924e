//! The second walk: nodes and edges between the values that were kept.

use std::sync::Arc;

use gristmill_model::{PathEdge, PathLevel, PathNode, PathsAnswer};
use gristmill_store::{Dictionaries, UserRun};

use super::walk::Walk;
use super::{Kept, LEVELS};
use crate::QueryError;
use crate::fold::{Fold, UserFold};
use crate::tally::Tally;

/// Counts the paths over each node and each edge.
pub(super) struct GraphFold {
    walk: Walk,
    kept: Arc<Kept>,
    /// The ranks of the values by their slots.
    ranks: Vec<[u8; LEVELS]>,
    /// By level and rank.
    nodes: Tally,
    /// By the level and the rank that an edge leads from, and the rank that it leads to.
    edges: Vec<u64>,
    users: u64,
}

impl GraphFold {
    pub(super) fn new(walk: Walk, kept: Arc<Kept>) -> Self {
        let width = kept.width();
        let mut nodes = Tally::default();
        nodes.grow(LEVELS * width);
        let edges = vec![0; (LEVELS - 1) * width * width];
        let ranks = vec![kept.ranks_of("")];
        Self { walk, kept, ranks, nodes, edges, users: 0 }
    }
}

impl Fold for GraphFold {
    type Partial = Graph;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Graph {
        let cells = self.nodes.range(0..LEVELS * self.kept.width());
        let nodes = cells.iter().map(|cell| (cell.count, u64::from(cell.users))).collect();
        Graph { nodes, edges: self.edges, users: self.users }
    }

    fn merge(into: &mut Graph, other: Graph) {
        if into.nodes.is_empty() {
            *into = other;
            return;
        }
        into.users += other.users;
        for (into, other) in into.nodes.iter_mut().zip(other.nodes) {
            *into = (into.0 + other.0, into.1 + other.1);
        }
        for (into, other) in into.edges.iter_mut().zip(other.edges) {
            *into += other;
        }
    }
}

impl UserFold for GraphFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { walk, kept, ranks, nodes, edges, users } = self;
        let dictionary = &run.events.dictionaries[walk.column()];
        for slot in ranks.len()..=dictionary.len() {
            ranks.push(kept.ranks_of(dictionary.text(Tally::code(slot)).unwrap_or_default()));
        }
        let width = kept.width();
        let mut has_path = false;
        nodes.next_user();
        walk.for_each(run, |path| {
            has_path = true;
            let mut from = 0;
            for (level, value) in path.iter().enumerate() {
                let to = level * width + usize::from(ranks[Tally::slot(*value)][level]);
                nodes.add(to);
                if level > 0 {
                    edges[from * width + to % width] += 1;
                }
                from = to;
            }
        });
        *users += u64::from(has_path);
        Ok(())
    }
}

/// The counts of nodes and edges.
#[derive(Default)]
pub(super) struct Graph {
    /// Paths and users.
    nodes: Vec<(u64, u64)>,
    edges: Vec<u64>,
    users: u64,
}

impl Graph {
    pub(super) fn into_answer(self, kept: &Kept, depth: usize) -> PathsAnswer {
        let width = kept.width();
        let mut nodes = Vec::new();
        // The index in `nodes` of each node with a path.
        let mut places = vec![0; self.nodes.len()];
        for (index, &(count, users)) in self.nodes.iter().enumerate() {
            if count == 0 {
                continue;
            }
            places[index] = nodes.len();
            let (level, rank) = (index / width, index % width);
            let value = kept.values[level].get(rank).cloned();
            let gone_on = self.edges.get(index * width..(index + 1) * width);
            let gone_on: u64 = gone_on.unwrap_or_default().iter().sum();
            let ended = (level < depth).then(|| count - gone_on);
            nodes.push(PathNode { level, value, count, users, ended });
        }
        let used = self.edges.iter().enumerate().filter(|(_, count)| **count > 0);
        let edge = |(index, &count): (usize, &u64)| {
            let (from, to) = (index / width, index % width);
            // The next level's nodes begin where those of this one end.
            let to = (from / width + 1) * width + to;
            PathEdge { from: places[from], to: places[to], count }
        };
        let edges = used.map(edge).collect();
        PathsAnswer { users: self.users, levels: levels(&nodes, depth), nodes, edges }
    }
}

fn levels(nodes: &[PathNode], depth: usize) -> Vec<PathLevel> {
    let level = |level| {
        let at_level = || nodes.iter().filter(move |node| node.level == level);
        PathLevel {
            paths: at_level().map(|node| node.count).sum(),
            ended: (level < depth).then(|| at_level().filter_map(|node| node.ended).sum()),
        }
    };
    (0..=depth).map(level).collect()
}
