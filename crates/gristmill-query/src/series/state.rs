//! What is kept of a series while the users of a shard come one after another: one thing per kind
//! of metric, each with cells that say what they came to in the end.

use std::mem::take;

use gristmill_model::{Aggregate, Metric, Totals};
use gristmill_store::Events;

use super::cell::{Cell, signed};
use super::sum::Sum;
use crate::tally::{Tally, grow};

/// What is kept for a metric.
pub(super) enum State {
    Counts(Tally),
    Arrivals(Arrivals),
    Sessions(Column, Sessions),
    Sums(Numbers, Sums),
    Highest(Numbers, Highest),
    Lists(Numbers, Lists),
}

/// The place of a column in the runs of the walk.
#[derive(Clone, Copy)]
pub(super) struct Column(pub(super) usize);

impl State {
    /// Nothing yet. `column` is that of the metric's field, or of sessions.
    pub(super) fn new(metric: &Metric, column: Column, totals: Totals) -> Self {
        let numbers = || Numbers { column, metric: metric.clone() };
        match (metric, totals) {
            (Metric::UniqueUsers | Metric::PerUserAverage, Totals::Running) => {
                State::Arrivals(Arrivals::default())
            }
            (Metric::Count | Metric::UniqueUsers | Metric::PerUserAverage, _) => {
                State::Counts(Tally::default())
            }
            (Metric::Sessions, _) => State::Sessions(column, Sessions::new(totals)),
            (Metric::Number(aggregate, _), _) => match aggregate {
                Aggregate::Sum | Aggregate::Average => State::Sums(numbers(), Sums::default()),
                Aggregate::Minimum | Aggregate::Maximum => {
                    State::Highest(numbers(), Highest::default())
                }
                Aggregate::Percentile(_) => State::Lists(numbers(), Lists::default()),
            },
        }
    }

    /// What the events of a cell came to; `None` if none of them counted.
    pub(super) fn take(&mut self, cell: usize) -> Option<Cell> {
        match self {
            State::Counts(tally) => {
                let counted = tally.cell(cell)?;
                let (count, users) = (counted.count, u64::from(counted.users));
                (count > 0).then_some(Cell::Counts { count, users })
            }
            State::Arrivals(arrivals) => {
                let (count, users) = *arrivals.cells.get(cell)?;
                (count > 0).then_some(Cell::Counts { count, users })
            }
            State::Sessions(_, sessions) => {
                let count = *sessions.cells.get(cell)?;
                (count > 0).then_some(Cell::Counts { count, users: 0 })
            }
            State::Sums(_, sums) => {
                let (sum, count) = take(sums.cells.get_mut(cell)?);
                (count > 0).then_some(Cell::Sum { sum, count })
            }
            State::Highest(_, highest) => {
                let highest = *highest.cells.get(cell)?;
                highest.is_finite().then_some(Cell::Highest(highest))
            }
            State::Lists(_, lists) => {
                let numbers = take(lists.cells.get_mut(cell)?);
                (!numbers.is_empty()).then_some(Cell::Numbers(numbers))
            }
        }
    }

    /// How many numbers were kept since this was last asked.
    pub(super) fn take_fresh(&mut self) -> usize {
        match self {
            State::Lists(_, lists) => take(&mut lists.fresh),
            _ => 0,
        }
    }
}

/// Counts events.
pub(super) trait Count {
    /// Begins the next user.
    fn next_user(&mut self);

    /// Makes room for cells below `cells`, and for the group of a slot.
    fn grow(&mut self, slot: usize, cells: usize);

    /// Counts events of the user at hand, at least one. There must be room for their place.
    fn add(&mut self, place: Place, count: usize);
}

/// Takes in what events have, one after the other.
pub(super) trait Accumulate<Item> {
    /// Begins the next user.
    fn next_user(&mut self) {}

    /// Ends the user at hand.
    fn end_user(&mut self) {}

    /// Makes room for cells below `cells`, and for the group of a slot.
    fn grow(&mut self, slot: usize, cells: usize);

    /// Takes in what an event has. There must be room for its place.
    fn add(&mut self, place: Place, item: Item);
}

/// Where an event belongs: the slot of its group and the cell of its group and bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) cell: usize,
}

impl Count for Tally {
    fn next_user(&mut self) {
        Tally::next_user(self);
    }

    fn grow(&mut self, _slot: usize, cells: usize) {
        Tally::grow(self, cells);
    }

    fn add(&mut self, place: Place, count: usize) {
        Tally::add_many(self, place.cell, count);
    }
}

/// Events of each cell, and users who had no event of the same group before.
#[derive(Default)]
pub(super) struct Arrivals {
    cells: Vec<(u64, u64)>,
    latest_user: Vec<u32>,
    user: u32,
}

impl Count for Arrivals {
    fn next_user(&mut self) {
        self.user += 1;
    }

    fn grow(&mut self, slot: usize, cells: usize) {
        grow(&mut self.cells, cells);
        grow(&mut self.latest_user, slot + 1);
    }

    fn add(&mut self, place: Place, more: usize) {
        let (count, users) = &mut self.cells[place.cell];
        let latest_user = &mut self.latest_user[place.slot];
        *count += more as u64;
        *users += u64::from(*latest_user != self.user);
        *latest_user = self.user;
    }
}

/// Sessions of each cell; for running totals those that had no event of the same group before.
pub(super) struct Sessions {
    totals: Totals,
    cells: Vec<u64>,
    /// Of the user at hand: the sessions that were met, maybe more than once.
    met: Vec<Met>,
    /// The user and the scope in which each code of a session was last met.
    latest: Vec<(u32, u32)>,
    user: u32,
}

/// A session in the scope in which it counts once: a cell, or a group. Of the same in order of
/// time the first counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Met {
    scope: u32,
    session: u32,
    order: u32,
    cell: u32,
}

impl Sessions {
    fn new(totals: Totals) -> Self {
        Self { totals, cells: Vec::new(), met: Vec::new(), latest: Vec::new(), user: 0 }
    }
}

impl Accumulate<u32> for Sessions {
    fn next_user(&mut self) {
        self.user += 1;
    }

    /// Counts the user's sessions.
    fn end_user(&mut self) {
        self.met.sort_unstable();
        self.met.dedup_by_key(|met| (met.scope, met.session));
        self.met.drain(..).for_each(|met| self.cells[met.cell as usize] += 1);
    }

    fn grow(&mut self, _slot: usize, cells: usize) {
        grow(&mut self.cells, cells);
    }

    fn add(&mut self, place: Place, session: u32) {
        let scope = match self.totals {
            Totals::PerBucket => place.cell,
            Totals::Running => place.slot,
        } as u32;
        if self.latest.len() <= session as usize {
            self.latest.resize(session as usize + 1, (0, 0));
        }
        let latest = &mut self.latest[session as usize];
        if *latest != (self.user, scope) {
            *latest = (self.user, scope);
            let (order, cell) = (self.met.len() as u32, place.cell as u32);
            self.met.push(Met { scope, session, order, cell });
        }
    }
}

/// The sum and the count of each cell's numbers.
#[derive(Default)]
pub(super) struct Sums {
    cells: Vec<(Sum, u64)>,
}

impl Accumulate<f64> for Sums {
    fn grow(&mut self, _slot: usize, cells: usize) {
        grow(&mut self.cells, cells);
    }

    fn add(&mut self, place: Place, number: f64) {
        let (sum, count) = &mut self.cells[place.cell];
        sum.add(number);
        *count += 1;
    }
}

/// The highest number of each cell.
#[derive(Default)]
pub(super) struct Highest {
    cells: Vec<f64>,
}

impl Accumulate<f64> for Highest {
    fn grow(&mut self, _slot: usize, cells: usize) {
        if self.cells.len() < cells {
            self.cells.resize(cells, f64::NEG_INFINITY);
        }
    }

    fn add(&mut self, place: Place, number: f64) {
        let highest = &mut self.cells[place.cell];
        *highest = highest.max(number);
    }
}

/// All numbers of each cell.
#[derive(Default)]
pub(super) struct Lists {
    cells: Vec<Vec<f64>>,
    fresh: usize,
}

impl Accumulate<f64> for Lists {
    fn grow(&mut self, _slot: usize, cells: usize) {
        grow(&mut self.cells, cells);
    }

    fn add(&mut self, place: Place, number: f64) {
        self.cells[place.cell].push(number);
        self.fresh += 1;
    }
}

/// Where the numbers of a metric are found.
pub(super) struct Numbers {
    column: Column,
    metric: Metric,
}

impl Numbers {
    /// The number of each event as the metric wants it, if it has one.
    pub(super) fn of(&self, events: &Events<'_>) -> impl Fn(usize) -> Option<f64> {
        let numbers = events.numbers[self.column.0];
        move |row| {
            Some(numbers[row])
                .filter(|number| !number.is_nan())
                .map(|number| signed(number, &self.metric))
        }
    }
}
