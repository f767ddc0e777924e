//! Questions and answers, one file per route.

pub(crate) mod cohorts;
mod csv;
mod filter;
pub(crate) mod funnel;
mod object;
mod posted;
mod question;
pub(crate) mod retention;
pub(crate) mod summary;
pub(crate) mod timeseries;
pub(crate) mod top;
pub(crate) mod users;

pub(crate) use question::everything;
