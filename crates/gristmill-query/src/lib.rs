//! Answer: folds over a snapshot of the store.

mod service;

pub use service::{Query, QueryConfig, QueryError};
