//! How many users have a selected event.

use gristmill_model::Selection;
use gristmill_store::{Dictionaries, UserBatch};

use crate::QueryError;
use crate::fold::{BatchFold, Fold, PieceFold, View};
use crate::select::{Matcher, Plan};

/// How many users have an event of a selection.
pub(crate) async fn headcount(view: &View, selection: &Selection) -> Result<u64, QueryError> {
    let mut plan = Plan::new(selection)?;
    plan.tell_no_moments();
    view.refold(&plan, (), || Headcount { matcher: plan.matcher.clone(), users: 0 }).await
}

struct Headcount {
    matcher: Matcher,
    users: u64,
}

impl Fold for Headcount {
    type Partial = u64;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> u64 {
        self.users
    }

    fn merge(into: &mut u64, other: u64) {
        *into += other;
    }
}

impl BatchFold for Headcount {
    fn users(&mut self, batch: &UserBatch<'_>) -> Result<(), QueryError> {
        let kept = self.matcher.kept(&batch.events);
        let has_any = |rows: std::ops::Range<usize>| rows.into_iter().any(|row| kept.has(row));
        self.users += batch.rows().filter(|rows| has_any(rows.clone())).count() as u64;
        Ok(())
    }
}

impl PieceFold for Headcount {
    type Setting = ();

    fn matcher(&mut self) -> &mut Matcher {
        &mut self.matcher
    }

    fn bytes(_: &u64) -> usize {
        size_of::<u64>()
    }
}
