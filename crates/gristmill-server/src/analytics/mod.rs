//! Questions and answers, one file per route.

mod ask;
mod csv;
mod filter;
pub(crate) mod funnel;
pub(crate) mod live;
mod object;
mod posted;
mod question;
pub(crate) mod retention;
pub(crate) mod summary;
pub(crate) mod timeseries;
pub(crate) mod top;
pub(crate) mod users;

pub(crate) use ask::Ask;
pub(crate) use question::everything;
