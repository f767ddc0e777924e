//! The vocabulary: what an event, a query, an answer and an error is.
//!
//! Everything here is pure: no I/O, no async, no clock. Types of this crate are not wire types;
//! the JSON of the HTTP interface and the bytes on disk are described where they are read and
//! written.

mod ambient;
mod answer;
mod cohort;
mod error;
mod event;
mod filter;
mod ids;
pub mod limits;
mod outcome;
mod position;
mod query;
mod time;

pub use ambient::{Clock, Entropy};
pub use answer::{
    FunnelAnswer, FunnelStepAnswer, RetentionAnswer, RetentionCohort, SeriesAnswer, SeriesPoint,
    SummaryAnswer, TopAnswer, TopValue, UserAnswer, UserEvent, UserProfile,
};
pub use cohort::{Behaviour, CohortAnswer, CohortDefinition, CohortQuery};
pub use error::{Coded, ErrorCode, GrpcCode};
pub use event::{Event, Origin};
pub use filter::{Comparison, Filter, Test, Value};
pub use ids::{EventId, Id, ProjectId, SessionId, UserId};
pub use outcome::Outcome;
pub use position::{Partition, Position, Positions, PositionsParseError};
pub use query::{
    Entry, EventMatch, Field, FunnelQuery, FunnelStep, Interval, Metric, PageCountQuery,
    RetentionQuery, Return, Selection, SeriesQuery, SummaryQuery, TopQuery, UserQuery,
};
pub use time::{Micros, TimeRange, Timestamp};
