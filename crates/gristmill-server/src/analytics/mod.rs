//! Questions and answers, one file per route.

mod again;
mod ask;
pub(crate) mod cohorts;
pub(crate) mod csv;
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
pub(crate) use filter::{filter_of_text, schema as filter_schema};
pub(crate) use question::{
    Format, RangeBody, accepted, at_least, at_least_term, choice, duration_of, duration_term,
    everything, filters, format, range, range_parameters, time_of, time_schema,
};
