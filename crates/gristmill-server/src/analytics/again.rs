//! Plain questions that are asked again: the text of an answer is kept for as long as it holds.
//!
//! Two requests ask the same if they are the same to the byte, as far as a route looks at them.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use gristmill_model::{ErrorCode, limits};
use gristmill_query::{Cost, Kept, Source, measured};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;

use super::question::{Format, format};
use crate::app::App;
use crate::caller::project_of;
use crate::problem::Problem;
use crate::{body, media};

/// The headers that say how a body was sent, of which the route sees nothing.
const BODY_HEADERS: [http::HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::EXPECT, header::TRANSFER_ENCODING];

/// An answer, what it cost, and how it was come by where answers are kept.
pub(super) type Answered = (Response, Cost, Option<Source>);

/// Answers a request, or gives the answer to the same one again.
pub(super) async fn answer<R: Future<Output = Response>>(
    app: &App,
    request: Request<Body>,
    route: impl Fn(Request<Body>) -> R,
) -> Answered {
    let keeps = app.services.query.answer_stats().is_some();
    let is_post = request.method() == Method::POST;
    // What is wrong with a body is for the route to say.
    if !keeps || (is_post && media::expect_json(request.headers()).is_err()) {
        let (response, cost) = measured(route(request)).await;
        return (response, cost, None);
    }
    let (mut head, body) = request.into_parts();
    let body = match whole(app, &mut head, body).await {
        Ok(body) => body,
        Err(problem) => return (problem.into_response(), Cost::default(), None),
    };
    let work = || async {
        let request = Request::from_parts(head.clone(), Body::from(body.clone()));
        let (response, cost) = measured(route(request)).await;
        match text_of(response).await {
            Ok(text) => Ok((text, cost)),
            Err(response) => Err((*response, cost)),
        }
    };
    match app.services.query.text(&question(&head, &body), work).await {
        Ok(Kept { text, cost, source }) => (response_of(&text), cost, source),
        Err((response, cost)) => (response, cost, None),
    }
}

/// Reads a question's body, after which the head says nothing more of how it was sent.
async fn whole(app: &App, head: &mut Parts, body: Body) -> Result<Bytes, Problem> {
    if head.method != Method::POST {
        return Ok(Bytes::new());
    }
    let body = body::receive_question(app, &head.headers, body, limits::QUERY_BODY_BYTES).await?;
    for name in BODY_HEADERS {
        head.headers.remove(name);
    }
    Ok(body)
}

/// All that a route looks at.
fn question(head: &Parts, body: &[u8]) -> Bytes {
    let project = project_of(&head.extensions);
    let format: &[u8] = match format(&head.headers) {
        Format::Json => b"json",
        Format::Csv => b"csv",
        Format::Events => b"events",
    };
    let parts = [
        project.as_str().as_bytes(),
        format,
        head.method.as_str().as_bytes(),
        head.uri.path().as_bytes(),
        head.uri.query().unwrap_or_default().as_bytes(),
        body,
    ];
    let mut question = BytesMut::new();
    for part in parts {
        question.put_u32(part.len() as u32);
        question.put_slice(part);
    }
    question.freeze()
}

/// The text of an answer with its content type; an answer that says more stays an answer.
async fn text_of(response: Response) -> Result<Bytes, Box<Response>> {
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return Err(Box::new(broken().into_response()));
    };
    let body = body.to_bytes();
    let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    match content_type {
        Some(name) if head.status == StatusCode::OK && head.headers.len() == 1 => {
            let mut text = BytesMut::with_capacity(4 + name.len() + body.len());
            text.put_u32(name.len() as u32);
            text.put_slice(name);
            text.put_slice(&body);
            Ok(text.freeze())
        }
        _ => Err(Box::new(Response::from_parts(head, Body::from(body)))),
    }
}

fn response_of(text: &Bytes) -> Response {
    let parts = text.split_first_chunk::<4>().and_then(|(length, rest)| {
        let (name, _) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let body = text.slice(4 + name.len()..);
        Some((HeaderValue::from_bytes(name).ok()?, body))
    });
    let Some((name, body)) = parts else { return broken().into_response() };
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, name);
    response
}

fn broken() -> Problem {
    Problem::new(ErrorCode::Internal, "the question has no answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question_of(method: &str, target: &str, accept: &str, body: &str) -> Bytes {
        let request = Request::builder().method(method).uri(target).header("accept", accept);
        let (head, ()) = request.body(()).unwrap().into_parts();
        question(&head, body.as_bytes())
    }

    #[test]
    fn requests_that_a_route_tells_apart_are_different_questions() {
        let one = question_of("GET", "/x?a=1", "application/json", "");
        assert_eq!(one, question_of("GET", "/x?a=1", "*/*", ""));
        for (method, target, accept, body) in [
            ("POST", "/x?a=1", "*/*", ""),
            ("GET", "/y?a=1", "*/*", ""),
            ("GET", "/x?a=2", "*/*", ""),
            ("GET", "/x", "*/*", "a=1"),
            ("GET", "/x?a=1", "text/csv", ""),
            ("GET", "/x?a=1", "*/*", "{}"),
        ] {
            assert_ne!(one, question_of(method, target, accept, body), "{method} {target} {body}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_made_again_and_one_that_says_more_is_not_kept() {
        let text = text_of(crate::json::answer(StatusCode::OK, b"{}".to_vec())).await.unwrap();
        let (head, body) = response_of(&text).into_parts();
        assert_eq!(head.headers["content-type"], "application/json");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");

        let problem = Problem::argument("no").into_response();
        assert_eq!(text_of(problem).await.unwrap_err().status(), 400);
        let mut more = crate::json::answer(StatusCode::OK, b"[]".to_vec());
        more.headers_mut().insert("next-page-token", HeaderValue::from_static("t"));
        let more = text_of(more).await.unwrap_err();
        assert_eq!(more.headers()["next-page-token"], "t");
        assert_eq!(more.into_body().collect().await.unwrap().to_bytes(), "[]");
    }
}
