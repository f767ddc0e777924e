//! What the questions of a request take.
//!
//! A question is asked deep within a route and its cost told at the edge, so the sum goes by way
//! of the task and not through every answer.

use std::cell::Cell;
use std::time::Duration;

use gristmill_store::Work;

tokio::task_local! {
    static COST: Cell<Cost>;
}

/// What the questions asked within a future took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How long they waited for events to become visible.
    pub waited: Duration,
    /// How long it took to answer.
    pub answered: Duration,
    /// What was read for it.
    pub work: Work,
}

/// Runs a future and tells what the questions that it asked took. Questions of tasks that the
/// future spawns are not counted.
pub async fn measured<T>(future: impl Future<Output = T>) -> (T, Cost) {
    let counted = async {
        let result = future.await;
        (result, COST.with(Cell::get))
    };
    COST.scope(Cell::default(), counted).await
}

/// Adds to the cost of the future that is being measured, if one is.
pub(crate) fn record(add: impl FnOnce(&mut Cost)) {
    let _ = COST.try_with(|cost| {
        let mut sum = cost.get();
        add(&mut sum);
        cost.set(sum);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

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
