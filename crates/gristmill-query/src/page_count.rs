//! How many events a user made on a page: kept, looked up, or counted, as the store allows.

use bytes::Bytes;
use gristmill_model::{Field, Filter, PageCountQuery, Selection, TimeRange};
use gristmill_store::cache::Entry;
use gristmill_store::{Dictionaries, Events, PageCount, Store};

use crate::QueryError;
use crate::answers::{Answers, Question};
use crate::fold::{EventFold, Fold, View};
use crate::select::{Matcher, Plan};

/// What older systems' programs put between the user and the page in the names of their counts,
/// which are of the one project that they have.
const SEPARATOR: &str = "__+__";
const PROJECT: &str = "default";

/// What the names of everything else that is kept begin with.
pub(crate) const RESERVED: &str = "gristmill:";

/// Looks a count up, if the store has such counts.
pub(crate) async fn look_up(
    store: &dyn Store,
    answers: Option<&Answers>,
    query: &PageCountQuery,
) -> Result<Option<u64>, QueryError> {
    let PageCountQuery { project, user, page_url } = query;
    let count = || store.page_count(project, user, page_url);
    let kept = answers.zip(name(query));
    let present = match &kept {
        Some(_) => store.present().await?,
        None => None,
    };
    let (Some((answers, name)), Some(present)) = (kept, present) else {
        return Ok(count().await?.map(|count| count.events));
    };
    let question = Question {
        present: &present,
        key: &name,
        identity: name.as_bytes(),
        holds: |held: &Entry| {
            number(held).is_some() && present.is_unchanged(user, page_url, &held.version)
        },
    };
    let work = || async {
        match count().await {
            Ok(Some(PageCount { events, version })) => {
                Ok(Entry { version, value: Bytes::from(events.to_string()) })
            }
            not_kept => Err(not_kept.map(drop)),
        }
    };
    match answers.answer(question, work).await {
        Ok((entry, _)) => Ok(number(&entry)),
        Err(not_kept) => not_kept.map(|()| None).map_err(QueryError::from),
    }
}

/// The name under which older systems' programs know the count, if it is the name of no other.
fn name(query: &PageCountQuery) -> Option<String> {
    let PageCountQuery { project, user, page_url } = query;
    let name = format!("{user}{SEPARATOR}{page_url}");
    let is_clear = name.find(SEPARATOR) == name.rfind(SEPARATOR) && !name.starts_with(RESERVED);
    (project.as_str() == PROJECT && is_clear).then_some(name)
}

/// The number of a plain decimal value.
fn number(entry: &Entry) -> Option<u64> {
    std::str::from_utf8(&entry.value).ok()?.parse().ok()
}

/// Counts.
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
    use crate::testing::{PAGES, USERS, enough_worlds, worlds};

    #[test]
    fn a_name_is_of_one_user_and_page() {
        let name_of = |project: &str, user: &str, page_url: &str| {
            let (user, page_url) = (user.to_owned(), page_url.to_owned());
            name(&PageCountQuery { project: ProjectId::new(project.to_owned()), user, page_url })
        };
        assert_eq!(name_of("default", "ada", "/a?b=1").as_deref(), Some("ada__+__/a?b=1"));
        assert_eq!(name_of("default", "", "").as_deref(), Some("__+__"));
        for (project, user, page) in [
            ("other", "ada", "/"),
            ("default", "a__+__b", "/"),
            ("default", "a", "b__+__/"),
            // These two would share one.
            ("default", "a__+_", "_x"),
            ("default", "a", "_+___x"),
            ("default", "gristmill:version:a", "/"),
        ] {
            assert_eq!(name_of(project, user, page), None, "{user} {page}");
        }
    }

    proptest! {
        #![proptest_config(enough_worlds(1))]
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
