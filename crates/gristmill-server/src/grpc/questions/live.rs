//! `Subscribe`, and how calls hear of questions that are asked live.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, stream};
use gristmill_model::{ErrorCode, Positions, ProjectId};
use gristmill_proto::analytics::v1;
use gristmill_proto::analytics::v1::subscribe_request::Question as Asked;
use gristmill_proto::analytics::v1::subscribe_response::Answer;
use http::Method;
use prost::Message;
use tonic::Status;

use super::selecting::text;
use super::{funnel, series, summary};
use crate::analytics::live::{Key, Question, Revision, Subscription, floor};
use crate::app::App;
use crate::grpc::status;
use crate::problem::Problem;

/// Messages that tell a client of a subscription.
pub(super) type Revisions<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// Answers a question at once, and again whenever events change the answer.
pub(super) async fn subscribe(
    app: Arc<App>,
    project: ProjectId<'static>,
    request: v1::SubscribeRequest,
) -> Result<Revisions<v1::SubscribeResponse>, Problem> {
    let v1::SubscribeRequest { question, last_position } = request;
    let mut asked = question.ok_or_else(|| {
        Problem::argument("`question` is missing: give a summary, a time series or a funnel")
    })?;
    let seen: Option<Positions> =
        text(last_position).map(|text| text.parse()).transpose().map_err(|_| {
            Problem::argument(
                "`last_position` is no position: give the `position` of an answer unchanged",
            )
        })?;
    let token = match &mut asked {
        Asked::Summary(asked) => &mut asked.at_least,
        Asked::TimeSeries(asked) => &mut asked.at_least,
        Asked::Funnel(asked) => &mut asked.at_least,
    };
    let floor = floor(&app, text(std::mem::take(token))).await?;
    let question = Box::new(Subscribed { app: Arc::clone(&app), project, asked });
    let subscription = Subscription::begin(&app, question, seen, floor).await?;
    Ok(revisions(subscription, |answer: &mut v1::SubscribeResponse, revision| {
        answer.position = revision.covered.to_string();
    }))
}

/// The messages of a subscription, each with what `complete` says of its revision. They are made
/// when the connection can send one, of what is newest then.
pub(super) fn revisions<A: Message + Default + 'static>(
    subscription: Subscription,
    complete: fn(&mut A, &Revision),
) -> Revisions<A> {
    let next = move |subscription: Option<Subscription>| async move {
        let mut subscription = subscription?;
        let answer = subscription.next().await?.and_then(|revision| {
            let mut answer = A::decode(revision.data.clone()).map_err(|_| broken())?;
            complete(&mut answer, &revision);
            Ok(answer)
        });
        Some(match answer {
            Ok(answer) => (Ok(answer), Some(subscription)),
            Err(problem) => (Err(status::of(&problem)), None),
        })
    };
    Box::pin(stream::unfold(Some(subscription), next))
}

/// An answer that cannot be read back.
pub(super) fn broken() -> Problem {
    Problem::new(ErrorCode::Internal, "the question has no answer")
}

/// The key of a question of this method.
pub(super) fn key(project: &ProjectId<'static>, method: &str, question: Vec<u8>) -> Key {
    Key {
        project: project.as_str().to_owned(),
        method: Method::POST,
        path: format!("/analytics.v1.AnalyticsService/{method}"),
        parameters: Vec::new(),
        body: question.into(),
    }
}

/// A question that a client subscribes to.
struct Subscribed {
    app: Arc<App>,
    project: ProjectId<'static>,
    asked: Asked,
}

#[async_trait]
impl Question for Subscribed {
    fn key(&self) -> Key {
        let question = Some(self.asked.clone());
        let request = v1::SubscribeRequest { question, last_position: String::new() };
        key(&self.project, "Subscribe", request.encode_to_vec())
    }

    async fn ask(&self) -> Result<Bytes, Problem> {
        let (app, project) = (Arc::clone(&self.app), self.project.clone());
        let answer = match self.asked.clone() {
            Asked::Summary(asked) => {
                Answer::Summary(lasting(summary::ask(app, project, asked).await?))
            }
            Asked::TimeSeries(asked) => Answer::TimeSeries(series::ask(app, project, asked).await?),
            Asked::Funnel(asked) => {
                let mut answer = funnel::ask(app, project, asked).await?;
                if let Some(metadata) = &mut answer.metadata {
                    metadata.processing_time = None;
                }
                Answer::Funnel(answer)
            }
        };
        let answer = v1::SubscribeResponse { answer: Some(answer), position: String::new() };
        Ok(answer.encode_to_vec().into())
    }
}

/// What an answer says of the events.
fn lasting(mut answer: v1::AnalyticsSummary) -> v1::AnalyticsSummary {
    answer.last_updated = None;
    if let Some(metadata) = &mut answer.metadata {
        metadata.processing_time = None;
    }
    answer
}
