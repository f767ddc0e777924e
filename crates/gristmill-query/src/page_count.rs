//! How many events a user made on a page.

use gristmill_model::{Field, Filter, PageCountQuery, Selection, TimeRange};
use gristmill_store::{Dictionaries, Events};

use crate::QueryError;
use crate::fold::{EventFold, Fold, View};
use crate::select::{Matcher, Plan};

pub(crate) async fn answer(view: &View, query: &PageCountQuery) -> Result<u64, QueryError> {
    let mut plan = Plan::new(&Selection {
        project: query.project.clone(),
        range: TimeRange::ALL,
        event_types: Vec::new(),
        filters: vec![Filter::equals(Field::PageUrl, query.page_url.clone())],
    })?;
    plan.keep_user(&query.user)?;
    view.fold_events(&plan, || CountFold { matcher: plan.matcher.clone(), count: 0 }).await
}

struct CountFold {
    matcher: Matcher,
    count: u64,
}

impl Fold for CountFold {
    type Partial = u64;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> u64 {
        self.count
    }

    fn merge(into: &mut u64, other: u64) {
        *into += other;
    }
}

impl EventFold for CountFold {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let count = &mut self.count;
        self.matcher.for_each(events, |_| *count += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gristmill_model::ProjectId;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{PAGES, USERS, worlds};

    proptest! {
        #[test]
        fn agrees_with_counting(
            world in worlds(),
            user in proptest::sample::select(USERS),
            page in proptest::sample::select(PAGES),
        ) {
            let query = PageCountQuery {
                project: ProjectId::new("default"),
                user: user.to_owned(),
                page_url: page.to_owned(),
            };
            let answer = world.ask(async |service| service.page_count(query.clone()).await);
            let all = crate::testing::all();
            let events = world.selected(&all);
            let matching = events.iter().filter(|e| e.user.as_str() == user && e.page_url == page);
            prop_assert_eq!(answer.unwrap(), matching.count() as u64);
        }
    }
}
