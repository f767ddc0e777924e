//! Funnels: questions and answers.

use crate::{Filter, Grouping, Micros, Selection, Timestamp};

/// One step of a funnel.
#[derive(Clone, Debug)]
pub struct FunnelStep {
    /// What the step is called in the answer.
    pub name: String,
    /// The event type that reaches it.
    pub event_type: String,
    /// What else must hold for the event.
    pub filters: Vec<Filter>,
}

/// In which order a funnel's steps are to be gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunnelOrder {
    /// In the order of the steps; other events may lie between.
    Ordered,
    /// In the order of the steps, and no other selected event of the user lies between.
    Strict,
    /// In any order.
    Any,
}

/// Events that a user must not make on the way.
#[derive(Clone, Debug)]
pub struct FunnelExclusion {
    /// Their type.
    pub event_type: String,
    /// What else must hold for them.
    pub filters: Vec<Filter>,
    /// The step, from 1, after whose event they are excluded.
    pub from_step: usize,
    /// The later step, from 1, before whose event they are excluded.
    pub to_step: usize,
}

/// Which event of a user's way says to which group the user belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// The first one.
    First,
    /// The last one.
    Last,
    /// That of this step, from 1.
    Step(usize),
}

/// How a funnel's users are put into groups.
#[derive(Clone, Debug)]
pub struct FunnelBreakdown {
    /// What is told apart by its values.
    pub by: Grouping,
    /// The event whose value counts.
    pub attribution: Attribution,
    /// How many values get a group of their own: those that most users entered with.
    pub top: usize,
}

/// How many users went through steps.
///
/// A *way* to step k is k of a user's selected events, one for each step from the first to the
/// k-th, each matching its step, and the time from the first of them to the last is at most the
/// window. A user's level is the most steps to which there is a way.
///
/// - `Ordered`: times ascend along the way, equal times counting as order, and each is at most the
///   step timeout after the one before. One event may stand for several steps. These are the
///   rules of ClickHouse's `windowFunnel` in its default mode.
/// - `Strict`: the same, and each event is the next selected event of the user after the one
///   before. Events of one moment lie in the order in which they were stored.
/// - `Any`: the way's events match any k different steps, one each, at any times within the
///   window. One event may stand for several steps.
///
/// An exclusion breaks a way to step k if one of its events lies, by time, after the event of
/// `from_step` and before that of `to_step`, or of step k if that comes earlier; an event of the
/// same moment as either does not. The events of the way are no exception.
///
/// The way that counts for a step is the one that gets there first, by time; of several the one
/// whose event before the last is the latest, then the one before that, and so on. Of events of
/// the same moment the one that was stored first counts. The user's way is that to its level.
#[derive(Clone, Debug)]
pub struct FunnelQuery {
    /// Which events.
    pub selection: Selection,
    /// The steps, at least two.
    pub steps: Vec<FunnelStep>,
    /// In which order.
    pub order: FunnelOrder,
    /// The longest time from the first event of a way to the last.
    pub window: Micros,
    /// The longest gap between two steps, if limited. Needs an order.
    pub step_timeout: Option<Micros>,
    /// What breaks a way. With `Any`, from the first event to the last only.
    pub exclusions: Vec<FunnelExclusion>,
    /// How users are put into groups, if they are.
    pub breakdown: Option<FunnelBreakdown>,
}

/// What became of the users who are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunnelOutcome {
    /// They reached the step.
    Reached,
    /// They reached the step and not the next.
    Dropped,
}

/// Who reached a step of a funnel, page by page.
#[derive(Clone, Debug)]
pub struct FunnelUsersQuery {
    /// The funnel.
    pub funnel: FunnelQuery,
    /// The step, from 1.
    pub step: usize,
    /// What became of the users after it.
    pub outcome: FunnelOutcome,
    /// How many users at most.
    pub limit: usize,
    /// Users after this name only: `next` of the page before.
    pub after: Option<String>,
}

/// The bounds between the buckets of a histogram of times to convert. The first bucket lies below
/// the first bound, and a time that is equal to a bound lies above it.
pub const FUNNEL_BOUNDS: [Micros; 9] = [
    Timestamp::SECOND,
    10 * Timestamp::SECOND,
    60 * Timestamp::SECOND,
    600 * Timestamp::SECOND,
    Timestamp::HOUR,
    6 * Timestamp::HOUR,
    Timestamp::DAY,
    7 * Timestamp::DAY,
    30 * Timestamp::DAY,
];

/// Answers a [`FunnelQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelAnswer {
    /// One entry per step, in order. With [`FunnelOrder::Any`] the k-th is about any k steps.
    pub steps: Vec<FunnelStepAnswer>,
    /// How many users have any selected event.
    pub total_users: u64,
    /// The median time from the first event of the way to the last, over the users who reached
    /// the last step; `None` if nobody did.
    pub median_time_to_convert: Option<Micros>,
    /// The users by group, if asked for.
    pub groups: Option<FunnelGroups>,
}

/// What became of a funnel's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelStepAnswer {
    /// The step's name; with [`FunnelOrder::Any`] how many steps of how many, such as `2 of 3`.
    pub name: String,
    /// How many users reached it.
    pub users: u64,
    /// How long they took from the step before; `None` for the first step.
    pub times: Option<FunnelTimes>,
}

/// The times that users took from one step to the next, on the way that counts for the latter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelTimes {
    /// The mean, rounded down; `None` if nobody reached the step.
    pub mean: Option<Micros>,
    /// The median: of an even number of times, the mean of the two in the middle, rounded down.
    pub median: Option<Micros>,
    /// How many users took a time of each bucket, between [`FUNNEL_BOUNDS`].
    pub histogram: [u64; FUNNEL_BOUNDS.len() + 1],
}

/// A funnel's users by group. Each user who reached the first step is in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelGroups {
    /// The groups that most users entered, most first, ties by value.
    pub groups: Vec<FunnelGroup>,
    /// All others together, if there are any.
    pub other: Option<FunnelOther>,
}

/// The users whose way has one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelGroup {
    /// The value; `None` where the event lacks the field, or the way the step that is asked.
    pub value: Option<String>,
    /// How many users reached each step.
    pub users: Vec<u64>,
}

/// The users of the groups that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelOther {
    /// How many groups these are.
    pub groups: usize,
    /// How many users reached each step.
    pub users: Vec<u64>,
}

/// Answers a [`FunnelUsersQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelUsersAnswer {
    /// The users, by name, byte by byte.
    pub users: Vec<FunnelUser>,
    /// The name after which the next page goes on; `None` if this is the last.
    pub next: Option<String>,
}

/// A user in a funnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelUser {
    /// Who.
    pub user: String,
    /// How many steps the user reached.
    pub level: usize,
    /// The value of the breakdown, if there is one.
    pub value: Option<String>,
}
