//! The paths of one user.
//!
//! Pauses longer than the gap part the user's events into stretches. Within one, the steps and
//! the anchors are noted in one pass; the path of an anchor is then a slice of the steps.

use gristmill_model::{Direction, Micros, Occurrences, PathsQuery, Repeats};
use gristmill_store::{ABSENT, UserRun};

use super::LEVELS;
use crate::blank::Blank;
use crate::select::{Matcher, SELECTED};

/// The bit of the anchors.
pub(super) const ANCHOR: u32 = 1;

/// Finds the paths of one user after another.
pub(super) struct Walk {
    matcher: Matcher,
    /// The column of the step field.
    column: usize,
    rules: Rules,
    blank: Blank,
    stretch: Stretch,
}

struct Rules {
    direction: Direction,
    depth: usize,
    gap: Micros,
    repeats: Repeats,
    occurrences: Occurrences,
}

impl Walk {
    pub(super) fn new(matcher: Matcher, column: usize, query: &PathsQuery) -> Self {
        let rules = Rules {
            direction: query.direction,
            depth: query.depth,
            gap: query.gap.unwrap_or(Micros::MAX),
            repeats: query.repeats,
            occurrences: query.occurrences,
        };
        let (blank, stretch) = (Blank::default(), Stretch::default());
        Self { matcher, column, rules, blank, stretch }
    }

    /// The column of the step field.
    pub(super) fn column(&self) -> usize {
        self.column
    }

    /// Calls `each` with every path of the user: the code of the anchor's value, which is
    /// [`ABSENT`] if it has none, and those of the steps, away from the anchor.
    pub(super) fn for_each(&mut self, run: &UserRun<'_>, mut each: impl FnMut(&[u32])) {
        let Self { matcher, column, rules, blank, stretch } = self;
        let sets = matcher.sets(&run.events);
        if sets.iter().all(|set| set & ANCHOR == 0) {
            return;
        }
        blank.learn(&run.events.dictionaries[*column]);
        let mut before = i64::MAX;
        for (row, (set, &code)) in sets.iter().zip(run.events.columns[*column]).enumerate() {
            if set & SELECTED == 0 {
                continue;
            }
            let time = run.events.times[row];
            if time.saturating_sub(before) > rules.gap {
                let paths = stretch.end(rules, &mut each);
                if paths > 0 && rules.occurrences == Occurrences::First {
                    return;
                }
            }
            before = time;
            let value = if blank.is(code) { ABSENT } else { code };
            if value != ABSENT {
                stretch.step(row, value, rules.repeats);
            }
            if set & ANCHOR != 0 {
                stretch.anchor(row, value, rules.occurrences);
            }
        }
        stretch.end(rules, &mut each);
    }
}

/// What lies between two pauses.
#[derive(Default)]
struct Stretch {
    steps: Vec<Step>,
    anchors: Vec<Anchor>,
}

struct Step {
    value: u32,
    /// The row of its last event.
    last: usize,
    /// Whether it is an anchor as well.
    is_anchor: bool,
}

struct Anchor {
    row: usize,
    value: u32,
    /// How many steps there were up to here, its own included.
    steps: usize,
}

impl Stretch {
    /// Takes in an event with a value.
    fn step(&mut self, row: usize, value: u32, repeats: Repeats) {
        match self.steps.last_mut() {
            Some(step) if step.value == value && repeats == Repeats::Collapsed => step.last = row,
            _ => self.steps.push(Step { value, last: row, is_anchor: false }),
        }
    }

    /// Takes in an anchor, whose step, if it is one, was just taken in.
    fn anchor(&mut self, row: usize, value: u32, occurrences: Occurrences) {
        if occurrences == Occurrences::First && !self.anchors.is_empty() {
            return;
        }
        if let Some(step) = self.steps.last_mut().filter(|_| value != ABSENT) {
            if step.is_anchor {
                return;
            }
            step.is_anchor = true;
        }
        self.anchors.push(Anchor { row, value, steps: self.steps.len() });
    }

    /// Calls `each` with every path, and says how many there were.
    fn end(&mut self, rules: &Rules, mut each: impl FnMut(&[u32])) -> usize {
        let Self { steps, anchors } = self;
        for anchor in anchors.iter() {
            let mut path = [anchor.value; LEVELS];
            let length = match rules.direction {
                Direction::After => fill(&mut path, rules.depth, anchor.after(steps).iter()),
                Direction::Before => {
                    fill(&mut path, rules.depth, anchor.before(steps).iter().rev())
                }
            };
            each(&path[..length]);
        }
        let paths = anchors.len();
        steps.clear();
        anchors.clear();
        paths
    }
}

impl Anchor {
    /// The steps with an event after it.
    fn after<'a>(&self, steps: &'a [Step]) -> &'a [Step] {
        // Only a step that an anchor without a value lies in may go on after it.
        let goes_on = |step: &Step| self.value == ABSENT && step.last > self.row;
        let before = self.steps.checked_sub(1).filter(|&before| goes_on(&steps[before]));
        &steps[before.unwrap_or(self.steps)..]
    }

    /// The steps with an event before it, without its own.
    fn before<'a>(&self, steps: &'a [Step]) -> &'a [Step] {
        &steps[..self.steps - usize::from(self.value != ABSENT)]
    }
}

/// Writes steps behind the anchor of a path, and gives the length of the path.
fn fill<'a>(path: &mut [u32], depth: usize, steps: impl Iterator<Item = &'a Step>) -> usize {
    let mut length = 1;
    for (place, step) in path[1..].iter_mut().zip(steps.take(depth)) {
        *place = step.value;
        length += 1;
    }
    length
}
