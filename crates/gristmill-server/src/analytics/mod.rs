//! Questions and answers, one file per route.

mod again;
mod ask;
pub(crate) mod cohorts;
mod csv;
mod description;
mod filter;
pub(crate) mod funnel;
pub(crate) mod lifecycle;
pub(crate) mod live;
mod object;
mod page_token;
pub(crate) mod paths;
mod posted;
mod question;
pub(crate) mod retention;
pub(crate) mod sessions;
pub(crate) mod stickiness;
pub(crate) mod summary;
pub(crate) mod timeseries;
pub(crate) mod top;
pub(crate) mod user_list;
pub(crate) mod users;

pub(crate) use ask::Ask;
pub(crate) use description::Description;
pub(crate) use filter::schema as filter_schema;
pub(crate) use question::{duration_of, duration_term, everything, time_of, time_schema};
