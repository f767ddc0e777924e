//! Questions asked live: the answer as a stream of server-sent events, one for each revision.
//!
//! A live question is the plain question asked again whenever a commit may have changed its
//! answer, so every route can be asked live and says the same either way. Equal questions are one
//! *topic*, asked by one task for as long as anybody listens. A topic remembers its newest
//! revision only, and a connection takes that one when it can send, so nothing queues up.

mod question;
mod stream;
mod subscription;
mod text;
mod topic;

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use gristmill_model::{Positions, limits};
use http::{HeaderValue, Method, Request, header};

use super::question::at_least;
use crate::app::App;
use crate::body;
use crate::problem::Problem;
use question::{RequestQuestion, Terms};

pub(super) use question::parameters;
pub(crate) use subscription::Subscription;
pub(crate) use topic::{Hub, Key, Pace, Question, Revision};

/// A route that answers the plain question.
pub(super) type Route = Box<dyn Fn(Request<Body>) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers with a stream that begins with the answer of now. What is wrong with the question is
/// told before it begins.
pub(super) async fn subscribe(
    app: Arc<App>,
    request: Request<Body>,
    route: Route,
) -> Result<Response, Problem> {
    let (mut head, body) = request.into_parts();
    let terms = match Terms::take(&mut head) {
        Ok(terms) => terms,
        Err(problem) => return Err(body::refuse(&head.headers, body, problem).await),
    };
    let body = match head.method {
        Method::POST => {
            body::receive_question(&app, &head.headers, body, limits::QUERY_BODY_BYTES).await?
        }
        _ => Bytes::new(),
    };
    let floor = floor(&app, terms.at_least).await?;
    let question = Box::new(RequestQuestion::new(head, body, route));
    let subscription = Subscription::begin(&app, question, terms.seen, floor).await?;
    let mut response = Response::new(stream::body(&app, subscription));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// What every revision must include, once the answer includes everything below a position token,
/// if there is one.
pub(crate) async fn floor(app: &App, token: Option<String>) -> Result<Positions, Problem> {
    if token.is_none() {
        return Ok(Positions::start());
    }
    at_least(app, token).await?;
    Ok(app.services.store.progress().committed)
}
