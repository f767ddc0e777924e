//! Questions and their answers, typed.
//!
//! A question is a value that says what is asked; [`Client::ask`](crate::Client::ask) gives the
//! answer. Members of an answer that this client does not know are ignored, so a newer server may
//! tell more. All of them are described in `docs/http-api.md`.
//!
//! ```no_run
//! # async fn example(client: gristmill_client::Client) -> Result<(), gristmill_client::ClientError> {
//! use gristmill_client::questions::{Funnel, FunnelStep, Selection};
//!
//! let steps = vec![FunnelStep::of("page_view"), FunnelStep::of("purchase")];
//! let funnel = Funnel { steps, window: Some("1h".to_owned()), ..Funnel::default() };
//! let answer = client.ask(&funnel).await?;
//! println!("{} of them bought", answer.overall_conversion_rate);
//! # Ok(())
//! # }
//! ```

mod asked;
mod cohorts;
mod funnel;
mod paths;
mod retention;
mod selection;
mod sessions;
mod summary;
mod timeseries;
mod users;

use serde::de::DeserializeOwned;

use crate::{Client, ClientError};

pub use asked::Asked;
pub use cohorts::{Cohort, CohortList, CohortName, CohortUsers, NewCohort};
pub use funnel::{
    Funnel, FunnelAnswer, FunnelBreakdown, FunnelExclusion, FunnelGroup, FunnelGroups, FunnelStep,
    FunnelStepAnswer, FunnelUser, FunnelUsers, FunnelUsersAnswer, TimesBelow,
};
pub use paths::{PathEdge, PathLevel, PathNode, Paths, PathsAnswer};
pub use retention::{Retention, RetentionAnswer, RetentionCohort};
pub use selection::{Events, Filter, Selection};
pub use sessions::{
    SessionBucket, SessionGroup, SessionPage, SessionTotals, Sessions, SessionsAnswer,
};
pub use summary::{Summary, SummaryAnswer, Top, TopAnswer, TopMetric, TopValue};
pub use timeseries::{Formula, Point, Series, SeriesAnswer, TimeSeries, TimeSeriesMany};
pub use users::{
    ListedUser, StoredEvent, User, UserAnswer, UserList, UserListAnswer, UserMetrics, UserPage,
    UserProfile, UserSession,
};

/// Something that can be asked.
pub trait Question {
    /// What is answered.
    type Answer: DeserializeOwned;

    /// The request that asks it.
    fn asked(&self) -> Asked;
}

impl Client {
    /// Asks a question. What an earlier [receipt](crate::Receipt) or
    /// [report](crate::Report) covers is included if its position is the selection's `at_least`.
    pub async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, ClientError> {
        let Asked { target, body } = question.asked();
        match body {
            None => self.get_json(&target).await,
            Some(body) => self.post_json(&target, &body).await,
        }
    }
}

#[cfg(test)]
mod tests;
