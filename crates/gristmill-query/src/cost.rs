//! What the questions of a request take.
//!
//! A question is asked deep within a route and its cost told at the edge, so the sum goes by way
//! of the task and not through every answer.

use std::cell::Cell;
use std::time::Duration;

use gristmill_store::{Version, Work};

tokio::task_local! {
    static COST: Cell<Cost>;
}

/// What the questions asked within a future took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How long they waited for events to become visible.
    pub waited: Duration,
    /// How long it took to answer.
    pub answered: Duration,
    /// What was read for it.
    pub work: Work,
    /// What the answers follow from.
    pub(crate) basis: Basis,
}

/// What answers follow from, beside the questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing was asked.
    #[default]
    Nothing,
    /// One state of the store.
    Version(Version),
    /// More than that, or what nobody can tell.
    More,
}

impl Basis {
    /// What follows from one state of the store, if the store tells it, follows from it too.
    pub(crate) fn add(&mut self, version: Option<&Version>) {
        *self = match (std::mem::take(self), version) {
            (Basis::Nothing, Some(version)) => Basis::Version(version.clone()),
            (Basis::Version(one), Some(other)) if one == *other => Basis::Version(one),
            _ => Basis::More,
        };
    }
}

impl Cost {
    /// The state of the store that the answers follow from, if they follow from nothing else.
    pub(crate) fn version(&self) -> Option<&Version> {
        match &self.basis {
            Basis::Version(version) => Some(version),
            Basis::Nothing | Basis::More => None,
        }
    }
}

/// Runs a future and tells what the questions that it asked took. Questions of tasks that the
/// future spawns are not counted.
pub async fn measured<T>(future: impl Future<Output = T>) -> (T, Cost) {
    let counted = async {
        let result = future.await;
        (result, COST.with(Cell::take))
    };
    COST.scope(Cell::default(), counted).await
}

/// Adds to the cost of the future that is being measured, if one is.
pub(crate) fn record(add: impl FnOnce(&mut Cost)) {
    let _ = COST.try_with(|cost| {
        let mut sum = cost.take();
        add(&mut sum);
        cost.set(sum);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_from_one_version_has_one() {
        let version = |lineage| Version::new(lineage, []);
        let basis = |versions: &[Option<Version>]| {
            let mut cost = Cost::default();
            versions.iter().for_each(|version| cost.basis.add(version.as_ref()));
            cost.version().cloned()
        };
        assert_eq!(basis(&[]), None);
        assert_eq!(basis(&[Some(version(1)), Some(version(1))]), Some(version(1)));
        for mixed in [[Some(version(1)), Some(version(2))], [Some(version(1)), None]] {
            assert_eq!(basis(&mixed), None);
        }
        assert_eq!(basis(&[None, Some(version(1))]), None);
    }

    #[tokio::test]
    async fn costs_add_up_within_a_measured_future_only() {
        let second = Duration::from_secs(1);
        record(|cost| cost.waited += second);
        let ((), inner) = measured(async {
            record(|cost| cost.waited += second);
            tokio::task::yield_now().await;
            record(|cost| cost.answered += 2 * second);
            record(|cost| cost.answered += second);
        })
        .await;
        assert_eq!(inner, Cost { waited: second, answered: 3 * second, ..Cost::default() });
        let ((), nothing) = measured(async {}).await;
        assert_eq!(nothing, Cost::default());
    }
}
