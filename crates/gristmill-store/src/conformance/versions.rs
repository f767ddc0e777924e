//! What a store tells of its versions, if it tells any.

use std::collections::BTreeMap;

use gristmill_model::{Event, ProjectId};

use super::{Subject, batch, event};
use crate::{Store, Version};

const USERS: [&str; 3] = ["a", "b", "Ünï 😀"];
const PAGES: [&str; 3] = ["/", "/a", ""];
const UNSEEN: &str = "/b";
const IDS: [&str; 4] = ["0", "1", "2", "3"];

/// How many events each user made on each page.
type Counts = BTreeMap<(&'static str, &'static str), u64>;

pub(super) async fn counts_and_versions_go_together(mut subject: impl Subject) {
    if subject.store().present().await.unwrap().is_none() {
        return;
    }
    let (mut counts, mut next) = (Counts::new(), 0);
    let mut told = vec![(version_of(subject.store()).await, counts.clone())];
    for round in 0..12_usize {
        // Each round is about one user; every other one brings repeats only.
        let user = USERS[round / 2 % 3];
        let events: Vec<Event<'static>> = (PAGES.iter().zip(IDS))
            .map(|(page, id)| Event { page_url: (*page).into(), ..event(user, id, 1) })
            .chain([Event { page_url: "/a".into(), ..event(user, IDS[3], 2) }])
            .collect();
        if !counts.contains_key(&(user, "/")) {
            events.iter().for_each(|event| *counts.entry((user, page_of(event))).or_default() += 1);
        }
        let count = events.len() as u64;
        subject.store().commit(batch(next, events)).await.unwrap();
        next += count;
        check_counts(subject.store(), &counts).await;
        let version = version_of(subject.store()).await;
        check_present(subject.store(), &told, &counts, user).await;
        assert_ne!(version, told[told.len() - 1].0, "a commit makes a new version");
        told.push((version, counts.clone()));
        if round % 3 == 2 {
            subject.settle().await;
            assert_eq!(version_of(subject.store()).await, told[told.len() - 1].0);
        }
    }
}

fn page_of(event: &Event<'_>) -> &'static str {
    PAGES.into_iter().find(|page| *page == event.page_url).unwrap()
}

/// The version now, however it is asked for.
async fn version_of(store: &dyn Store) -> Version {
    let version = store.present().await.unwrap().unwrap().version().clone();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.version(), Some(&version));
    version
}

async fn check_counts(store: &dyn Store, counts: &Counts) {
    for user in USERS {
        for page in PAGES {
            let project = ProjectId::new("default");
            if let Some(told) = store.page_count(&project, user, page).await.unwrap() {
                let expected = counts.get(&(user, page)).copied().unwrap_or(0);
                assert_eq!(told.events, expected, "{user:?} {page:?}");
                assert_eq!(told.version, version_of(store).await);
            }
            let elsewhere = store.page_count(&ProjectId::new("other"), user, page).await.unwrap();
            assert!(elsewhere.is_none_or(|told| told.events == 0));
        }
    }
}

/// The present covers what was told before, and knows of every change since. What did not change
/// since the newest of them is known as well, for it was told by this process.
async fn check_present(
    store: &dyn Store,
    told: &[(Version, Counts)],
    now: &Counts,
    changed: &'static str,
) {
    let present = store.present().await.unwrap().unwrap();
    for (version, counts) in told {
        assert!(present.version().covers(version));
        for key @ (user, page) in USERS.into_iter().flat_map(|user| PAGES.map(|page| (user, page)))
        {
            let is_same = counts.get(&key) == now.get(&key);
            let is_unchanged = present.is_unchanged(user, page, version);
            assert!(is_same || !is_unchanged, "{user:?} {page:?} since {version}");
        }
    }
    let (newest, _) = &told[told.len() - 1];
    for user in USERS {
        let pages = PAGES.into_iter().filter(|_| user != changed);
        for page in pages.chain([UNSEEN]) {
            let is_unchanged = present.is_unchanged(user, page, newest);
            assert!(is_unchanged, "{user:?} {page:?} since {newest}");
        }
    }
    for page in PAGES {
        assert!(present.is_unchanged(changed, page, present.version()));
    }
}
