//! Cohorts: who did what how often, as a list, and as a condition in every other question.
//!
//! One walk counts each user's events of each behaviour. A question whose filters ask for saved
//! cohorts finds their members first, in walks over the same snapshot; then a member is known by
//! its entry in the dictionary of users, as with any other condition.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use gristmill_model::{
    Behaviour, CohortAnswer, CohortDefinition, CohortQuery, ProjectId, Selection, TimeRange, limits,
};
use gristmill_store::{Dictionaries, UserRun};
use tokio::sync::Mutex;

use crate::fold::{Fold, UserFold, View};
use crate::select::{Matcher, Plan};
use crate::{QueryError, cost};

const _: () = assert!(limits::COHORT_BEHAVIOURS < 32);

/// Where a question finds the saved cohorts that its filters name.
#[async_trait]
pub trait Cohorts: Send + Sync + 'static {
    /// The definition of a cohort as it is now, if there is one of this id.
    async fn definition(
        &self,
        project: &ProjectId<'_>,
        id: &str,
    ) -> Result<Option<CohortDefinition>, QueryError>;
}

/// The users who belong to a cohort.
pub(crate) type Members = HashSet<Box<str>>;

pub(crate) async fn answer(view: &View, query: CohortQuery) -> Result<CohortAnswer, QueryError> {
    let CohortQuery { project, definition, after, limit } = query;
    let most = limits::COHORT_PAGE;
    if limit > most {
        return Err(QueryError::Invalid(format!("`limit` must be at most {most}")));
    }
    let members = members(view, project, &definition, &Arc::default()).await?;
    view.compute(move || page(members, after.as_deref(), limit)).await
}

/// Makes sure that a question could ask for a cohort.
pub(crate) fn check(definition: &CohortDefinition) -> Result<(), QueryError> {
    plan(ProjectId::new(""), definition).map(drop)
}

/// The cohorts of one question.
#[derive(Default)]
pub(crate) struct QuestionCohorts {
    saved: Option<Arc<dyn Cohorts>>,
    known: Mutex<HashMap<String, Arc<Members>>>,
    budget: Arc<Budget>,
}

impl QuestionCohorts {
    /// Those of a question that finds definitions here.
    pub(crate) fn of(saved: Option<Arc<dyn Cohorts>>) -> Self {
        Self { saved, ..Self::default() }
    }

    /// Finds the members of the cohorts that a plan asks for.
    pub(crate) async fn find(&self, view: &View, plan: &Plan) -> Result<(), QueryError> {
        for (id, wanted) in plan.cohorts() {
            if wanted.get().is_none() {
                let found = self.members(view, &plan.scan.project, id).await?;
                // Whoever was quicker has found the same.
                let _ = wanted.set(found);
            }
        }
        Ok(())
    }

    async fn members(
        &self,
        view: &View,
        project: &ProjectId<'static>,
        id: &str,
    ) -> Result<Arc<Members>, QueryError> {
        let mut known = self.known.lock().await;
        if let Some(found) = known.get(id) {
            return Ok(Arc::clone(found));
        }
        // The answer now follows from the definition too.
        cost::record(|cost| cost.basis.add(None));
        let definition = match &self.saved {
            Some(saved) => saved.definition(project, id).await?,
            None => None,
        };
        let definition = definition.ok_or_else(|| {
            let id: String = id.chars().take(100).collect();
            QueryError::Invalid(format!("there is no cohort {id:?}"))
        })?;
        let found = members(view, project.clone(), &definition, &self.budget).await?;
        let found = Arc::new(view.compute(move || found.into_iter().collect()).await?);
        known.insert(id.to_owned(), Arc::clone(&found));
        Ok(found)
    }
}

/// Everybody who belongs, in no order.
async fn members(
    view: &View,
    project: ProjectId<'static>,
    definition: &CohortDefinition,
    budget: &Arc<Budget>,
) -> Result<Vec<Box<str>>, QueryError> {
    let (plan, rule) = plan(project, definition)?;
    let rule = Arc::new(rule);
    let start = || MembersFold {
        matcher: plan.matcher.clone(),
        rule: Arc::clone(&rule),
        counts: vec![0; rule.wanted.len()],
        members: Vec::new(),
        budget: Arc::clone(budget),
    };
    view.walk(&plan, start).await
}

/// The walk that tells who belongs, and what it has to look at.
fn plan(
    project: ProjectId<'static>,
    definition: &CohortDefinition,
) -> Result<(Plan, Rule), QueryError> {
    let mut behaviours = Vec::new();
    let belongs = Belongs::of(definition, &mut behaviours, 1)?;
    let counts = vec![0; behaviours.len()];
    let wanted = behaviours.iter().map(|behaviour| Wanted::of(behaviour)).collect();
    let rule = Rule { wanted, belongs };
    // Who did nothing of all this may belong too, and is found anywhere.
    let range = if rule.holds(&counts) { TimeRange::ALL } else { around(&behaviours) };
    let selection = Selection { project, range, event_types: Vec::new(), filters: Vec::new() };
    let mut plan = Plan::new(&selection)?;
    for (number, behaviour) in behaviours.iter().enumerate() {
        plan.keep_matching(1 << number, &behaviour.events)?;
    }
    if let Some((id, _)) = plan.cohorts().next() {
        let id: String = id.chars().take(100).collect();
        return Err(QueryError::Invalid(format!(
            "a cohort's definition may not ask for a cohort, and asks for {id:?}"
        )));
    }
    Ok((plan, rule))
}

/// The shortest range that holds those of all behaviours.
fn around(behaviours: &[&Behaviour]) -> TimeRange {
    let ranges = || behaviours.iter().map(|behaviour| behaviour.range);
    let starts: Option<Vec<_>> = ranges().map(|range| range.start).collect();
    let ends: Option<Vec<_>> = ranges().map(|range| range.end).collect();
    TimeRange {
        start: starts.and_then(|starts| starts.into_iter().min()),
        end: ends.and_then(|ends| ends.into_iter().max()),
    }
}

/// Decides from the counts of a user's events.
struct Rule {
    wanted: Vec<Wanted>,
    belongs: Belongs,
}

/// What is wanted of one behaviour: its times, half-open, and how often, both included.
struct Wanted {
    start: i64,
    end: i64,
    at_least: u64,
    at_most: u64,
}

/// A definition over the numbers of its behaviours.
enum Belongs {
    Did(usize),
    All(Vec<Belongs>),
    Any(Vec<Belongs>),
    Not(Box<Belongs>),
}

impl Rule {
    fn holds(&self, counts: &[u64]) -> bool {
        self.belongs.holds(&|number| {
            let (wanted, count) = (&self.wanted[number], counts[number]);
            wanted.at_least <= count && count <= wanted.at_most
        })
    }
}

impl Wanted {
    fn of(behaviour: &Behaviour) -> Self {
        Self {
            start: behaviour.range.start.map_or(i64::MIN, |start| start.0),
            end: behaviour.range.end.map_or(i64::MAX, |end| end.0),
            at_least: behaviour.at_least,
            at_most: behaviour.at_most.unwrap_or(u64::MAX),
        }
    }
}

impl Belongs {
    fn of<'a>(
        definition: &'a CohortDefinition,
        behaviours: &mut Vec<&'a Behaviour>,
        depth: usize,
    ) -> Result<Self, QueryError> {
        let most = limits::FILTER_DEPTH;
        if depth > most {
            return Err(QueryError::Invalid(format!(
                "a cohort's definition is nested more than {most} levels deep"
            )));
        }
        let mut all = |definitions: &'a [CohortDefinition]| -> Result<Vec<Self>, QueryError> {
            definitions.iter().map(|inner| Self::of(inner, behaviours, depth + 1)).collect()
        };
        Ok(match definition {
            CohortDefinition::All(definitions) => Belongs::All(all(definitions)?),
            CohortDefinition::Any(definitions) => Belongs::Any(all(definitions)?),
            CohortDefinition::Not(inner) => {
                Belongs::Not(Box::new(Self::of(inner, behaviours, depth + 1)?))
            }
            CohortDefinition::Did(behaviour) => {
                let most = limits::COHORT_BEHAVIOURS;
                if behaviours.len() == most {
                    return Err(QueryError::Invalid(format!(
                        "a cohort's definition has more than {most} behaviours"
                    )));
                }
                behaviours.push(behaviour);
                Belongs::Did(behaviours.len() - 1)
            }
        })
    }

    fn holds(&self, did: &impl Fn(usize) -> bool) -> bool {
        match self {
            Belongs::Did(number) => did(*number),
            Belongs::All(all) => all.iter().all(|inner| inner.holds(did)),
            Belongs::Any(any) => any.iter().any(|inner| inner.holds(did)),
            Belongs::Not(inner) => !inner.holds(did),
        }
    }
}

/// How many members a question has found so far, and the length of their ids.
#[derive(Default)]
struct Budget {
    users: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    fn take(&self, user: &str) -> Result<(), QueryError> {
        let users = self.users.fetch_add(1, Relaxed) + 1;
        let bytes = self.bytes.fetch_add(user.len(), Relaxed) + user.len();
        let (most, most_bytes) = (limits::COHORT_USERS, limits::COHORT_USER_BYTES);
        if users <= most && bytes <= most_bytes {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "the cohorts of the question have more than {most} users, or {most_bytes} bytes of \
             user ids, together: narrow their definitions"
        )))
    }
}

struct MembersFold {
    matcher: Matcher,
    rule: Arc<Rule>,
    /// Of the user at hand: the events of each behaviour.
    counts: Vec<u64>,
    members: Vec<Box<str>>,
    budget: Arc<Budget>,
}

impl Fold for MembersFold {
    /// Everybody who belongs.
    type Partial = Vec<Box<str>>;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Vec<Box<str>> {
        self.members
    }

    fn merge(into: &mut Vec<Box<str>>, other: Vec<Box<str>>) {
        into.extend(other);
    }
}

impl UserFold for MembersFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { matcher, rule, counts, members, budget } = self;
        counts.fill(0);
        let all = (1_u32 << counts.len()) - 1;
        for (&time, set) in run.events.times.iter().zip(matcher.sets(&run.events)) {
            let mut left = set & all;
            while left != 0 {
                let number = left.trailing_zeros() as usize;
                let wanted = &rule.wanted[number];
                counts[number] += u64::from(wanted.start <= time && time < wanted.end);
                left &= left - 1;
            }
        }
        if rule.holds(counts) {
            budget.take(run.user)?;
            members.push(run.user.into());
        }
        Ok(())
    }
}

/// The first users after one, of all who belong.
fn page(members: Vec<Box<str>>, after: Option<&str>, limit: usize) -> CohortAnswer {
    let size = members.len() as u64;
    let mut rest = members;
    rest.retain(|user| after.is_none_or(|after| **user > *after));
    let has_more = rest.len() > limit;
    if has_more {
        rest.select_nth_unstable(limit);
        rest.truncate(limit);
    }
    rest.sort_unstable();
    CohortAnswer { size, users: rest.into_iter().map(String::from).collect(), has_more }
}
