//! How many users reached each step, and how long it took them.
//!
//! Medians are exact, so every time is kept until the walk is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_model::{
    FUNNEL_BOUNDS, FunnelAnswer, FunnelOrder, FunnelQuery, FunnelStepAnswer, FunnelTimes, Micros,
    limits,
};

use super::journey::Journey;
use crate::QueryError;

/// How many times a walk takes room for at once.
const SHARE: usize = 256;
const _: () = assert!(SHARE >= limits::FUNNEL_STEPS);

/// The room for times that all walks of a question share.
#[derive(Clone, Default)]
pub(super) struct Room {
    /// What this walk may still keep.
    left: usize,
    /// What all walks have taken.
    taken: Arc<AtomicUsize>,
}

impl Room {
    /// The same room for another walk.
    pub(super) fn share(&self) -> Self {
        Self { left: 0, taken: Arc::clone(&self.taken) }
    }

    fn take(&mut self, count: usize) -> Result<(), QueryError> {
        if self.left < count {
            let most = limits::FUNNEL_TIMES;
            if self.taken.fetch_add(SHARE, Ordering::Relaxed) + SHARE > most {
                return Err(too_many_times());
            }
            self.left += SHARE;
        }
        self.left -= count;
        Ok(())
    }
}

/// What the users of a shard did.
#[derive(Clone, Default)]
pub(super) struct Totals {
    room: Room,
    users: u64,
    entered: u64,
    /// For each step but the first the times from the step before.
    waits: Vec<Vec<Micros>>,
    /// The times from the first step to the last.
    spans: Vec<Micros>,
}

impl Totals {
    pub(super) fn new(steps: usize, room: Room) -> Self {
        Self { room, waits: vec![Vec::new(); steps - 1], ..Self::default() }
    }

    /// Counts a user.
    pub(super) fn add(&mut self, journey: &Journey) -> Result<(), QueryError> {
        self.users += 1;
        if journey.level == 0 {
            return Ok(());
        }
        self.entered += 1;
        self.room.take(journey.level)?;
        let waits = &journey.waits[1..journey.level];
        for (all, wait) in self.waits.iter_mut().zip(waits) {
            all.push(*wait);
        }
        if journey.level > self.waits.len() {
            self.spans.push(journey.span);
        }
        Ok(())
    }

    /// Adds what other users did.
    pub(super) fn merge(&mut self, other: Self) {
        self.users += other.users;
        self.entered += other.entered;
        append(&mut self.spans, other.spans);
        // What has met nobody has no lists.
        let steps = self.waits.len().max(other.waits.len());
        self.waits.resize_with(steps, Vec::new);
        for (into, other) in self.waits.iter_mut().zip(other.waits) {
            append(into, other);
        }
    }

    /// Refuses more times than may be kept, some of which may be from earlier answers.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        let times = self.spans.len() + self.waits.iter().map(Vec::len).sum::<usize>();
        if times <= limits::FUNNEL_TIMES { Ok(()) } else { Err(too_many_times()) }
    }

    /// About how many bytes its times take.
    pub(super) fn bytes(&self) -> usize {
        let times = self.spans.capacity() + self.waits.iter().map(Vec::capacity).sum::<usize>();
        size_of_val(self.waits.as_slice()) + times * size_of::<Micros>()
    }

    /// The answer without groups.
    pub(super) fn answer(mut self, query: &FunnelQuery) -> FunnelAnswer {
        // Without any shard there are no lists.
        self.waits.resize(query.steps.len() - 1, Vec::new());
        let mut steps =
            vec![FunnelStepAnswer { name: name(query, 0), users: self.entered, times: None }];
        steps.extend(self.waits.iter_mut().enumerate().map(|(index, waits)| FunnelStepAnswer {
            name: name(query, index + 1),
            users: waits.len() as u64,
            times: Some(times(waits)),
        }));
        FunnelAnswer {
            steps,
            total_users: self.users,
            median_time_to_convert: median(&mut self.spans),
            groups: None,
        }
    }
}

fn too_many_times() -> QueryError {
    let most = limits::FUNNEL_TIMES;
    QueryError::Invalid(format!(
        "the funnel has more than {most} times to convert, too many to find medians in: ask for a \
         shorter range or add a filter"
    ))
}

/// Appends times, which are in no order, moving the fewer of them.
fn append(into: &mut Vec<Micros>, mut other: Vec<Micros>) {
    if into.len() < other.len() {
        std::mem::swap(into, &mut other);
    }
    into.append(&mut other);
}

fn name(query: &FunnelQuery, index: usize) -> String {
    match query.order {
        FunnelOrder::Any => format!("{} of {}", index + 1, query.steps.len()),
        FunnelOrder::Ordered | FunnelOrder::Strict => query.steps[index].name.clone(),
    }
}

fn times(waits: &mut [Micros]) -> FunnelTimes {
    let mut histogram = [0; FUNNEL_BOUNDS.len() + 1];
    let mut sum = 0;
    for wait in waits.iter() {
        histogram[FUNNEL_BOUNDS.partition_point(|bound| bound <= wait)] += 1;
        sum += i128::from(*wait);
    }
    let mean = (!waits.is_empty()).then(|| (sum / waits.len() as i128) as Micros);
    FunnelTimes { mean, median: median(waits), histogram }
}

fn median(values: &mut [Micros]) -> Option<Micros> {
    if values.is_empty() {
        return None;
    }
    let is_odd = values.len() % 2 == 1;
    let (lower, upper, _) = values.select_nth_unstable(values.len() / 2);
    let upper = *upper;
    match lower.iter().max() {
        Some(lower) if !is_odd => Some(lower.midpoint(upper)),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_exact() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [7]), Some(7));
        assert_eq!(median(&mut [9, 1, 5]), Some(5));
        assert_eq!(median(&mut [9, 1, 5, 6]), Some(5));
        assert_eq!(median(&mut [4, 4, 0, 8]), Some(4));
    }

    #[test]
    fn a_time_on_a_bound_lies_above_it() {
        let second = FUNNEL_BOUNDS[0];
        let longest = FUNNEL_BOUNDS[8];
        let times = times(&mut [0, second - 1, second, longest - 1, longest, Micros::MAX]);
        assert_eq!(times.histogram, [2, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn room_is_bounded_over_all_walks() {
        let room = Room::default();
        let (mut one, mut other) = (room.share(), room.share());
        one.take(20).unwrap();
        room.taken.store(limits::FUNNEL_TIMES, Ordering::Relaxed);
        assert!(one.take(20).is_ok());
        let error = other.take(1).unwrap_err().to_string();
        assert!(error.contains("more than 20000000 times"), "{error}");
    }
}
