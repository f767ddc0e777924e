//! Cohorts: sets of users by what they did.

use crate::{EventMatch, ProjectId, TimeRange};

/// Who belongs to a cohort, of all users who have any event.
#[derive(Clone, Debug)]
pub enum CohortDefinition {
    /// Who showed this behaviour.
    Did(Behaviour),
    /// Who belongs to all of these; everybody belongs to the empty list.
    All(Vec<CohortDefinition>),
    /// Who belongs to at least one of these; nobody belongs to the empty list.
    Any(Vec<CohortDefinition>),
    /// Who does not belong to this.
    Not(Box<CohortDefinition>),
}

/// Some number of events.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Which events; none of their filters may ask for a cohort.
    pub events: EventMatch,
    /// When.
    pub range: TimeRange,
    /// How many at least.
    pub at_least: u64,
    /// How many at most, if limited.
    pub at_most: Option<u64>,
}

/// Who belongs to a cohort now.
#[derive(Clone, Debug)]
pub struct CohortQuery {
    /// The project.
    pub project: ProjectId<'static>,
    /// Who belongs.
    pub definition: CohortDefinition,
    /// Users up to this one are left out of the list.
    pub after: Option<String>,
    /// How many users are listed at most.
    pub limit: usize,
}

/// Answers a `CohortQuery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortAnswer {
    /// How many users belong, listed or not.
    pub size: u64,
    /// The first of the users that are not left out, in the order of their bytes.
    pub users: Vec<String>,
    /// Whether more users follow.
    pub has_more: bool,
}
