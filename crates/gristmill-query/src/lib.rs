//! Answer: folds over a snapshot of the store.
//!
//! Every analysis is one file: its fold, its result, its tests. They share the driver (`fold`),
//! the conditions on events (`select`) and the counting per slot (`tally`).

mod calendar;
mod cohort;
#[cfg(test)]
mod columnar_testing;
mod fold;
mod funnel;
mod grid;
mod page_count;
mod retention;
mod select;
mod series;
mod service;
mod span;
mod summary;
mod tally;
#[cfg(test)]
mod testing;
mod top;
mod user;
mod value_test;

pub use cohort::Cohorts;
pub use service::{Query, QueryConfig, QueryError};
