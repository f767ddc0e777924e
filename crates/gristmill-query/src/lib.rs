//! Answer: folds over a snapshot of the store.
//!
//! Every analysis is one file or folder: its fold, its result, its tests. They share the driver
//! (`fold`), the conditions on events (`select`) and the counting per slot (`tally`).

mod answers;
mod blank;
mod calendar;
mod cohort;
#[cfg(test)]
mod columnar_testing;
mod cost;
mod event_metrics;
mod fold;
mod funnel;
mod grid;
mod headcount;
mod kept;
mod lifecycle;
mod marked;
mod membership;
mod page_count;
mod paths;
mod rank;
mod retention;
mod select;
mod series;
mod service;
mod sessions;
mod span;
mod stickiness;
mod summary;
mod tally;
#[cfg(test)]
mod testing;
mod threads;
mod top;
mod user;
mod users;
mod value_test;

pub use answers::{AnswerStats, Source};
pub use cohort::Cohorts;
pub use cost::{Cost, measured};
pub use fold::{Recall, RecallRoom};
pub use gristmill_store::Work;
pub use kept::Kept;
pub use service::{Query, QueryConfig, QueryError};
