//! One user's profile and a page of the user's events.
//!
//! Two walks over one snapshot: the first tells the profile and finds the page, the second reads
//! whole events, but only those of the page's time, so that a long history costs little memory.

mod events;
mod profile;
#[cfg(test)]
mod tests;

use gristmill_model::{Timestamp, UserAnswer, UserProfile, UserQuery, limits};
use gristmill_store::{Dictionaries, UserRun};

use self::events::{Place, Slicer, events};
use self::profile::Profiler;
use crate::QueryError;
use crate::fold::{Fold, UserFold, View};
use crate::select::{Matcher, Plan, SELECTED};
use crate::span::zone;

pub(crate) async fn answer(view: &View, query: &UserQuery) -> Result<UserAnswer, QueryError> {
    let (limit, most) = (query.limit, limits::USER_EVENTS);
    if limit > most {
        return Err(QueryError::Invalid(format!("`limit` must be at most {most}")));
    }
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    plan.keep_user(&query.user)?;
    let page = plan.clone();
    let slicer = Slicer::new(query, &mut plan);
    let profiler = Profiler::new(&zone, looking_back_from(query), &mut plan)?;
    let start = || ProfileFold {
        matcher: plan.matcher.clone(),
        profiler: profiler.clone(),
        slicer: slicer.clone(),
        found: None,
    };
    let Some((profile, place)) = view.fold(&plan, start).await? else {
        return Ok(UserAnswer::default());
    };
    let events = events(view, page, &place).await?;
    let (profile, Place { has_older, has_newer, .. }) = (Some(profile), place);
    Ok(UserAnswer { profile, events, has_older, has_newer })
}

/// The moment in the last of the days that engagement is about.
fn looking_back_from(query: &UserQuery) -> Timestamp {
    let last = query.selection.range.end.map(|end| end.plus(-1));
    last.map_or(query.now, |last| last.min(query.now)).max(Timestamp::MIN)
}

struct ProfileFold {
    matcher: Matcher,
    profiler: Profiler,
    slicer: Slicer,
    found: Option<(UserProfile, Place)>,
}

impl Fold for ProfileFold {
    /// The profile, and where the page's events lie.
    type Partial = Option<(UserProfile, Place)>;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Self::Partial {
        self.found
    }

    fn merge(into: &mut Self::Partial, other: Self::Partial) {
        *into = into.take().or(other);
    }
}

impl UserFold for ProfileFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let sets = self.matcher.sets(&run.events);
        let is_selected = |row: &usize| sets[*row] & SELECTED != 0;
        let rows: Vec<usize> = (0..run.events.times.len()).filter(is_selected).collect();
        if let Some(profile) = self.profiler.profile(run, &rows, sets) {
            self.found = Some((profile, self.slicer.place(run, &rows)));
        }
        Ok(())
    }
}
