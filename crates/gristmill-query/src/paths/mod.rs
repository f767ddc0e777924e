//! Paths: the most frequent steps after or before an event, as a graph.
//!
//! Users are walked through twice. The first walk counts the values of each level, which decides
//! on the nodes; the second counts the edges between them, so that there are never more edges
//! than the answer has. "Other" is a node like any.

use std::collections::HashMap;
use std::sync::Arc;

use gristmill_model::{PathsAnswer, PathsQuery, limits};
use gristmill_store::{Dictionaries, UserRun};

use crate::QueryError;
use crate::fold::{Fold, UserFold, View};
use crate::rank::largest;
use crate::select::Plan;
use crate::tally::Tally;

mod graph;
#[cfg(test)]
mod tests;
mod walk;

use graph::GraphFold;
use walk::{ANCHOR, Walk};

/// The levels of the longest paths, with that of the anchor.
const LEVELS: usize = limits::PATH_DEPTH + 1;

pub(crate) async fn answer(view: &View, query: &PathsQuery) -> Result<PathsAnswer, QueryError> {
    check(query)?;
    let mut plan = Plan::new(&query.selection)?;
    plan.keep_matching(ANCHOR, &query.anchor)?;
    let column = plan.column(&query.step);
    let walk = || Walk::new(plan.matcher.clone(), column, query);
    let start = || CountFold { walk: walk(), counts: Vec::new(), used: 0 };
    let counts = view.fold(&plan, start).await?;
    let limit = query.limit;
    let kept = Arc::new(view.compute(move || Kept::of(&counts, limit)).await?);
    let graph = view.fold(&plan, || GraphFold::new(walk(), Arc::clone(&kept))).await?;
    Ok(graph.into_answer(&kept, query.depth))
}

fn check(query: &PathsQuery) -> Result<(), QueryError> {
    let (depth, nodes) = (limits::PATH_DEPTH, limits::PATH_NODES);
    let wrong = if !(1..=depth).contains(&query.depth) {
        format!("`depth` must be from 1 to {depth}")
    } else if !(1..=nodes).contains(&query.limit) {
        format!("`limit` must be from 1 to {nodes}")
    } else if query.gap.is_some_and(|gap| gap <= 0) {
        "`gap` must be longer than 0".to_owned()
    } else {
        return Ok(());
    };
    Err(QueryError::Invalid(wrong))
}

fn check_size(values: usize) -> Result<(), QueryError> {
    let most = limits::PATH_VALUES;
    if values <= most {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "`step` has more than {most} different values over all levels: choose a field with fewer \
         values, or add a filter"
    )))
}

/// Counts the paths over each value at each level.
struct CountFold {
    walk: Walk,
    /// By the slot of the value.
    counts: Vec<[u64; LEVELS]>,
    /// How many of these are not 0.
    used: usize,
}

/// The counts of each value; that of the anchors without one is the empty text.
type Counts = HashMap<String, [u64; LEVELS]>;

impl Fold for CountFold {
    type Partial = Counts;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Counts {
        let dictionary = &dictionaries[self.walk.column()];
        let text = |slot| dictionary.text(Tally::code(slot)).unwrap_or_default().to_owned();
        let counts = self.counts.into_iter().enumerate();
        let counted = counts.filter(|(_, counts)| *counts != [0; LEVELS]);
        counted.map(|(slot, counts)| (text(slot), counts)).collect()
    }

    fn merge(into: &mut Counts, mut other: Counts) {
        if into.len() < other.len() {
            std::mem::swap(into, &mut other);
        }
        for (value, counts) in other {
            let known = into.entry(value).or_default();
            known.iter_mut().zip(counts).for_each(|(known, count)| *known += count);
        }
    }

    fn check(counts: &Counts) -> Result<(), QueryError> {
        if counts.len() * LEVELS <= limits::PATH_VALUES {
            return Ok(());
        }
        check_size(counts.values().flatten().filter(|count| **count > 0).count())
    }
}

impl UserFold for CountFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { walk, counts, used } = self;
        let slots = counts.len().max(run.events.dictionaries[walk.column()].len() + 1);
        counts.resize(slots, [0; LEVELS]);
        walk.for_each(run, |path| {
            for (level, value) in path.iter().enumerate() {
                let count = &mut counts[Tally::slot(*value)][level];
                *used += usize::from(*count == 0);
                *count += 1;
            }
        });
        check_size(self.used)
    }
}

/// Which values are nodes of their own.
struct Kept {
    /// The values of each level, the most frequent first.
    values: [Vec<String>; LEVELS],
    /// The rank of a value at each level, which is that of `other` if it is not kept there.
    ranks: HashMap<String, [u8; LEVELS]>,
    /// The rank of all values that are not kept.
    other: u8,
}

const _: () = assert!(limits::PATH_NODES <= u8::MAX as usize);

impl Kept {
    fn of(counts: &Counts, limit: usize) -> Self {
        let other = limit as u8;
        let mut ranks: HashMap<String, [u8; LEVELS]> = HashMap::new();
        let values = std::array::from_fn(|level| {
            let at_level = counts.iter().map(|(value, counts)| (value, counts[level]));
            let counted = at_level.filter(|(_, count)| *count > 0);
            let kept = largest(counted, limit, |count| *count).first;
            for ((value, _), rank) in kept.iter().zip(0..) {
                ranks.entry((*value).clone()).or_insert([other; LEVELS])[level] = rank;
            }
            kept.into_iter().map(|(value, _)| value.clone()).collect()
        });
        Self { values, ranks, other }
    }

    /// The ranks of a value.
    fn ranks_of(&self, value: &str) -> [u8; LEVELS] {
        self.ranks.get(value).copied().unwrap_or([self.other; LEVELS])
    }

    /// How many ranks there are.
    fn width(&self) -> usize {
        usize::from(self.other) + 1
    }
}
