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
mod event_metrics;
mod filter;
mod funnel;
mod ids;
mod key;
mod lifecycle;
pub mod limits;
pub mod ndjson;
mod outcome;
mod paths;
mod position;
mod query;
mod series;
mod sessions;
mod stickiness;
mod summary;
mod time;
mod user;
mod user_list;

pub use ambient::{Clock, Entropy};
pub use answer::{RetentionAnswer, RetentionCohort, SummaryAnswer, TopAnswer, TopValue};
pub use cohort::{Behaviour, CohortAnswer, CohortDefinition, CohortQuery};
pub use error::{Coded, ErrorCode, GrpcCode};
pub use event::{Event, Origin};
pub use event_metrics::{EventMetric, EventMetricsAnswer, EventMetricsQuery, Reduction};
pub use filter::{Comparison, Filter, Test, Value};
pub use funnel::{
    Attribution, FUNNEL_BOUNDS, FunnelAnswer, FunnelBreakdown, FunnelExclusion, FunnelGroup,
    FunnelGroups, FunnelOrder, FunnelOther, FunnelOutcome, FunnelQuery, FunnelStep,
    FunnelStepAnswer, FunnelTimes, FunnelUser, FunnelUsersAnswer, FunnelUsersQuery,
};
pub use ids::{EventId, Id, ProjectId, SessionId, UserId};
pub use key::{KeyText, Scope, Scopes, key_id};
pub use lifecycle::{LifecycleAnswer, LifecycleBucket, LifecycleQuery};
pub use outcome::Outcome;
pub use paths::{
    Direction, Occurrences, PathEdge, PathLevel, PathNode, PathsAnswer, PathsQuery, Repeats,
};
pub use position::{Partition, Position, Positions, PositionsParseError};
pub use query::{
    Entry, EventMatch, Field, Grouping, Interval, PageCountQuery, RetentionQuery, Return,
    Selection, SummaryQuery, TopQuery,
};
pub use series::{
    Aggregate, Compare, Formula, Metric, Period, Series, SeriesAnswer, SeriesGroup, SeriesLine,
    SeriesPoint, SeriesQuery, Totals,
};
pub use sessions::{
    SessionBucket, SessionGroup, SessionPage, SessionSeries, SessionTotals, SessionsAnswer,
    SessionsQuery,
};
pub use stickiness::{PeriodActivity, StickinessAnswer, StickinessPeriod, StickinessQuery};
pub use summary::ComparedSummary;
pub use time::{Micros, TimeRange, Timestamp, TimestampParseError};
pub use user::{
    EventPage, EventPlace, UserAnswer, UserEvent, UserPage, UserProfile, UserQuery, UserSession,
};
pub use user_list::{ListedUser, UserListAnswer, UserListQuery, UserOrder, UserPlace};
