//! A funnel's users by the value of a field.

use std::cmp::Reverse;
use std::collections::HashMap;

use gristmill_model::{FunnelGroup, FunnelGroups, FunnelOther, limits};
use gristmill_store::{Dictionaries, Events};

use super::Column;
use super::journey::Journey;
use crate::QueryError;
use crate::tally::Tally;

/// The users of each value, by how many steps they reached.
pub(super) type GroupCounts = HashMap<Option<String>, Vec<u64>>;

/// Counts the users of a shard.
pub(super) struct Groups {
    column: Column,
    steps: usize,
    /// The group of each slot, counted from 1; 0 where there is none yet.
    group_of: Vec<u32>,
    /// The slot of each group.
    slots: Vec<usize>,
    /// Of each group the users who came to each step and not further.
    users: Vec<u64>,
}

impl Groups {
    pub(super) fn new(column: Column, steps: usize) -> Self {
        let (group_of, slots, users) = (Vec::new(), Vec::new(), Vec::new());
        Self { column, steps, group_of, slots, users }
    }

    /// Counts a user with these events.
    pub(super) fn add(&mut self, events: &Events<'_>, journey: &Journey) -> Result<(), QueryError> {
        if journey.level == 0 {
            return Ok(());
        }
        let slot = Tally::slot(journey.way.code(self.column, &events.columns));
        if self.group_of.len() <= slot {
            self.group_of.resize(slot + 1, 0);
        }
        if self.group_of[slot] == 0 {
            self.slots.push(slot);
            check_size(self.slots.len())?;
            self.users.resize(self.slots.len() * self.steps, 0);
            self.group_of[slot] = self.slots.len() as u32;
        }
        let group = self.group_of[slot] as usize - 1;
        self.users[group * self.steps + journey.level - 1] += 1;
        Ok(())
    }

    /// What was counted, by value.
    pub(super) fn finish(self, dictionaries: Dictionaries<'_>) -> GroupCounts {
        let dictionary = &dictionaries[self.column.column];
        let value = |slot: &usize| dictionary.text(Tally::code(*slot)).map(str::to_owned);
        let users = self.users.chunks(self.steps).map(<[u64]>::to_vec);
        self.slots.iter().map(value).zip(users).collect()
    }
}

/// Refuses more values than may be kept.
pub(super) fn check_size(values: usize) -> Result<(), QueryError> {
    let most = limits::FUNNEL_VALUES;
    if values <= most {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "`breakdown.property` has more than {most} values: ask for a shorter range or add a filter"
    )))
}

/// About how many bytes groups take.
pub(super) fn bytes(groups: &GroupCounts) -> usize {
    let texts = |(value, users): (&Option<String>, &Vec<u64>)| {
        value.as_ref().map_or(0, String::len) + size_of_val(users.as_slice())
    };
    groups.len() * size_of::<(Option<String>, Vec<u64>)>() + groups.iter().map(texts).sum::<usize>()
}

/// Adds what other users did.
pub(super) fn merge(into: &mut GroupCounts, mut other: GroupCounts) {
    if into.len() < other.len() {
        std::mem::swap(into, &mut other);
    }
    for (value, users) in other {
        match into.get_mut(&value) {
            Some(known) => add(known, &users),
            None => drop(into.insert(value, users)),
        }
    }
}

/// The groups that most users entered, and the others together.
pub(super) fn ranked(counts: GroupCounts, steps: usize, top: usize) -> FunnelGroups {
    let group = |(value, users)| FunnelGroup { value, users: reached(users) };
    let mut groups: Vec<FunnelGroup> = counts.into_iter().map(group).collect();
    groups.sort_unstable_by(|a, b| {
        (Reverse(a.users[0]), &a.value).cmp(&(Reverse(b.users[0]), &b.value))
    });
    let rest = groups.split_off(top.min(groups.len()));
    let other = (!rest.is_empty()).then(|| {
        let mut users = vec![0; steps];
        rest.iter().for_each(|group| add(&mut users, &group.users));
        FunnelOther { groups: rest.len(), users }
    });
    FunnelGroups { groups, other }
}

/// The users who reached each step, of those who came to each step and not further.
fn reached(mut users: Vec<u64>) -> Vec<u64> {
    for step in (1..users.len()).rev() {
        users[step - 1] += users[step];
    }
    users
}

fn add(into: &mut [u64], other: &[u64]) {
    into.iter_mut().zip(other).for_each(|(into, other)| *into += other);
}
