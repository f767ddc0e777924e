//! What the events of one group and bucket come to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gristmill_model::{Aggregate, Metric};

use super::sum::Sum;

/// What the events of one group and bucket come to. All cells of a series are of one kind.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// Events, or sessions, and distinct users.
    Counts { count: u64, users: u64 },
    /// A sum and how many numbers it is of.
    Sum { sum: Sum, count: u64 },
    /// The highest number.
    Highest(f64),
    /// All numbers.
    Numbers(Vec<f64>),
}

impl Cell {
    /// Joins two cells that have nothing in common: of different users, groups or buckets.
    pub(super) fn join(&mut self, other: Cell) {
        match (self, other) {
            (Cell::Counts { count, users }, Cell::Counts { count: more, users: others }) => {
                *count += more;
                *users += others;
            }
            (Cell::Sum { sum, count }, Cell::Sum { sum: other, count: more }) => {
                sum.join(&other);
                *count += more;
            }
            (Cell::Highest(highest), Cell::Highest(other)) => *highest = highest.max(other),
            (Cell::Numbers(numbers), Cell::Numbers(mut other)) => {
                if numbers.len() < other.len() {
                    std::mem::swap(numbers, &mut other);
                }
                numbers.append(&mut other);
            }
            _ => {}
        }
    }

    /// How many numbers it has room for.
    pub(super) fn numbers(&self) -> usize {
        if let Cell::Numbers(numbers) = self { numbers.capacity() } else { 0 }
    }

    /// The value of a metric; `None` if no number can say it.
    pub(super) fn value(&mut self, metric: &Metric) -> Option<f64> {
        match self {
            Cell::Counts { count, users } => Some(match metric {
                Metric::UniqueUsers => *users as f64,
                Metric::PerUserAverage => *count as f64 / *users as f64,
                _ => *count as f64,
            }),
            Cell::Sum { sum, count } => match metric {
                Metric::Number(Aggregate::Average, _) => Some(sum.value()? / *count as f64),
                _ => sum.value(),
            },
            Cell::Highest(highest) => Some(signed(*highest, metric)),
            Cell::Numbers(numbers) => {
                let index = index_of(percent(metric), numbers.len())?;
                Some(*numbers.select_nth_unstable_by(index, f64::total_cmp).1)
            }
        }
    }

    /// The value of a metric of no events.
    pub(super) fn empty(metric: &Metric) -> Option<f64> {
        match metric {
            Metric::Count | Metric::UniqueUsers | Metric::Sessions => Some(0.0),
            Metric::Number(Aggregate::Sum, _) => Some(0.0),
            Metric::PerUserAverage | Metric::Number(..) => None,
        }
    }
}

/// A number with the sign that makes the wanted extreme the highest one, or gives it back.
pub(super) fn signed(number: f64, metric: &Metric) -> f64 {
    // Adding 0 makes a negative zero an ordinary one.
    if matches!(metric, Metric::Number(Aggregate::Minimum, _)) {
        0.0 - number
    } else {
        number + 0.0
    }
}

fn percent(metric: &Metric) -> u8 {
    match metric {
        Metric::Number(Aggregate::Percentile(percent), _) => *percent,
        _ => 0,
    }
}

/// The place of a percentile among numbers in order.
pub(crate) fn index_of(percent: u8, numbers: usize) -> Option<usize> {
    Some((numbers * usize::from(percent) / 100).min(numbers.checked_sub(1)?))
}

/// The value of cells that are added one after the other.
#[derive(Debug)]
pub(super) struct Running<'a> {
    metric: &'a Metric,
    total: Option<Cell>,
    ranks: Ranks,
}

impl<'a> Running<'a> {
    /// No cell yet.
    pub(super) fn new(metric: &'a Metric) -> Self {
        Self { metric, total: None, ranks: Ranks::default() }
    }

    /// Adds a cell.
    pub(super) fn add(&mut self, cell: Cell) {
        match (cell, &mut self.total) {
            (Cell::Numbers(numbers), _) => {
                numbers.into_iter().for_each(|number| self.ranks.add(number, percent(self.metric)));
            }
            (cell, Some(total)) => total.join(cell),
            (cell, total) => *total = Some(cell),
        }
    }

    /// The value of all cells added.
    pub(super) fn value(&mut self) -> Option<f64> {
        match &mut self.total {
            Some(total) => total.value(self.metric),
            None => self.ranks.value().or_else(|| Cell::empty(self.metric)),
        }
    }
}

/// Numbers in two heaps with a percentile between them, so that finding it anew after each number
/// sorts nothing again.
#[derive(Debug, Default)]
struct Ranks {
    /// As many of the lowest as lie before the percentile.
    below: BinaryHeap<i64>,
    /// All others; the lowest of them is the percentile.
    rest: BinaryHeap<Reverse<i64>>,
}

impl Ranks {
    fn add(&mut self, number: f64, percent: u8) {
        let number = in_order(number.to_bits() as i64);
        match self.below.peek() {
            Some(below) if number < *below => self.below.push(number),
            _ => self.rest.push(Reverse(number)),
        }
        let Some(index) = index_of(percent, self.below.len() + self.rest.len()) else { return };
        if self.below.len() > index {
            self.rest.extend(self.below.pop().map(Reverse));
        } else if self.below.len() < index {
            self.below.extend(self.rest.pop().map(|Reverse(number)| number));
        }
    }

    fn value(&self) -> Option<f64> {
        let Reverse(number) = self.rest.peek()?;
        Some(f64::from_bits(in_order(*number) as u64))
    }
}

/// Makes of the bits of floating-point numbers whole numbers in the same order, and back.
fn in_order(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}
