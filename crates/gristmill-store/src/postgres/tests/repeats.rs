//! Repeats, in commits of any size: they are made in different manners.

use super::super::commit::{CAREFUL_COMMITS, FEW_ROWS};
use super::*;

/// The outcomes of events, of which those below a number are there.
fn outcomes(events: &[u64], stored: u64) -> Vec<Outcome> {
    let outcome = |(place, number): (usize, &u64)| match events[..place].contains(number) {
        false if *number >= stored => Outcome::Stored,
        _ => Outcome::Duplicate,
    };
    events.iter().enumerate().map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_are_told_in_commits_of_any_size() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let (mut first, mut stored) = (0, 0);
    for size in [FEW_ROWS as u64 / 2, FEW_ROWS as u64 * 3] {
        // Repeats of what is there and within the commit, for as long as they make commits careful,
        // and once more after that.
        for number in 0..=u64::from(CAREFUL_COMMITS) + 2 {
            let mut events: Vec<u64> = (stored..stored + size).collect();
            if number % u64::from(CAREFUL_COMMITS + 2) < 2 {
                events.extend([stored.saturating_sub(1), stored, stored + size, stored + size]);
            }
            let commit = batch(first, events.iter().copied().map(event).collect());
            let told = open.store.commit(commit).await.unwrap();
            assert_eq!(told, outcomes(&events, stored), "commit {number} of {size}");
            first += events.len() as u64;
            stored = stored.max(events.iter().max().unwrap() + 1);
            assert_eq!(counted(&database), [stored; 3]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_given_in_the_order_of_events() {
    let database = TestDatabase::create().unwrap();
    let open = Open::at(&database).await;
    let sizes = [FEW_ROWS as u64 / 2, FEW_ROWS as u64 * 2];
    commit(&open.store, &records(0, sizes[0])).await;
    commit(&open.store, &records(sizes[0], sizes[0] + sizes[1])).await;
    let question = "SELECT count(*) FROM gristmill.events a JOIN gristmill.events b USING (log) \
                    WHERE a.id < b.id AND a.log_offset > b.log_offset";
    assert_eq!(database.run(question).unwrap(), [["0"]]);
}
