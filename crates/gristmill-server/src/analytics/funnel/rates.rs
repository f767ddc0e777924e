//! The users who reached each step, and which shares these are.

use gristmill_model::FunnelAnswer;
use schemars::JsonSchema;
use serde::Serialize;

#[derive(JsonSchema, Serialize)]
pub(crate) struct RatesBody<'a> {
    pub(crate) name: &'a str,
    pub(crate) users: u64,
    /// The share of the first step's users.
    pub(crate) conversion_rate: f64,
    /// The share of the users of the step before.
    pub(crate) step_conversion_rate: f64,
    /// The users who reached this step and not the next; `None` for the last step.
    pub(crate) drop_off: Option<u64>,
}

/// How many users reached each step, over all groups.
pub(crate) fn users(answer: &FunnelAnswer) -> Vec<u64> {
    answer.steps.iter().map(|step| step.users).collect()
}

/// The steps with these users.
pub(crate) fn rates<'a>(answer: &'a FunnelAnswer, users: &[u64]) -> Vec<RatesBody<'a>> {
    let step = |(index, step): (usize, &'a gristmill_model::FunnelStepAnswer)| RatesBody {
        name: &step.name,
        users: users[index],
        conversion_rate: share(users[index], users[0]),
        step_conversion_rate: share(users[index], users[index.saturating_sub(1)]),
        drop_off: users.get(index + 1).map(|next| users[index] - next),
    };
    answer.steps.iter().enumerate().map(step).collect()
}

/// The share of the first step's users that reached the last step.
pub(crate) fn overall(users: &[u64]) -> f64 {
    share(users.last().copied().unwrap_or(0), users.first().copied().unwrap_or(0))
}

fn share(users: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { users as f64 / of as f64 }
}
