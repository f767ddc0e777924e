//! Errors as RFC 9457 problem documents.
//!
//! A route gives a [`Problem`]; the front door, which knows the request's name, writes its body.
//! The members `code`, `message` and `error` repeat what clients of older interfaces look for.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use gristmill_model::{Coded, ErrorCode};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::json;
use crate::openapi::{Term, open_object};

/// When to come again after an error that may pass, if nobody knows better.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request was not answered with success.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: ErrorCode,
    detail: String,
    retry_after_seconds: Option<u64>,
    closes: bool,
    /// The field or parameter at fault, where one is.
    field: Option<String>,
    /// More members of the document: JSON text from the first key to the last value.
    members: Vec<u8>,
}

impl Problem {
    /// A problem with what the client should know of it.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let retry_after_seconds = code.is_retryable().then_some(RETRY_AFTER_SECONDS);
        Self {
            code,
            detail: detail.into(),
            retry_after_seconds,
            closes: false,
            field: None,
            members: Vec::new(),
        }
    }

    /// The problem that an error is.
    pub(crate) fn of(error: &impl Coded) -> Self {
        let code = error.code();
        if code == ErrorCode::Internal {
            // The text may name files; it is for the operator.
            tracing::error!(%error, "a request failed");
            return Self::new(code, "the server failed; its log says why");
        }
        Self::new(code, error.to_string())
    }

    /// A wrong parameter.
    pub(crate) fn argument(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail)
    }

    /// The same, and the client should come again after so many seconds.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds.max(1));
        self
    }

    /// The same, and the connection ends with it, because its next bytes mean nothing.
    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The same, and this field or parameter is at fault.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same with more members: JSON text from the first key to the last value.
    pub(crate) fn with_members(mut self, members: Vec<u8>) -> Self {
        self.members = members;
        self
    }

    /// Whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// What kind of problem it is.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// What is wrong, in a sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// When to come again, if that may help.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    /// The field or parameter at fault: as it was given, or else the first name that stands between backticks
    /// in the text.
    pub(crate) fn field(&self) -> &str {
        let quoted = || self.detail.split('`').nth(1);
        self.field.as_deref().or_else(quoted).unwrap_or_default()
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// An answer with the status and headers of this problem and another body.
    pub(crate) fn answer_with(
        &self,
        content_type: &'static str,
        body: impl Into<Body>,
    ) -> Response {
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl<E: Coded> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.answer_with("application/problem+json", Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the document of a problem into its answer.
pub(crate) fn render(problem: &Problem, request_id: &HeaderValue, response: &mut Response) {
    let name = problem.code.name();
    let mut body = Vec::with_capacity(512 + problem.members.len());
    body.extend_from_slice(b"{\"type\":\"urn:gristmill:error:");
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\",\"title\":");
    json::string(&mut body, title(problem.code));
    body.extend_from_slice(b",\"status\":");
    json::number(&mut body, u64::from(problem.code.status()));
    for key in ["detail", "message", "error"] {
        body.extend_from_slice(b",\"");
        body.extend_from_slice(key.as_bytes());
        body.extend_from_slice(b"\":");
        json::string(&mut body, &problem.detail);
    }
    body.extend_from_slice(b",\"code\":");
    json::string(&mut body, name);
    body.extend_from_slice(b",\"request_id\":");
    json::string(&mut body, request_id.to_str().unwrap_or_default());
    if !problem.members.is_empty() {
        body.push(b',');
        body.extend_from_slice(&problem.members);
    }
    body.push(b'}');
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
}

/// The schema of what [`render`] writes.
pub(crate) fn schema() -> Value {
    let codes = ErrorCode::ALL.map(ErrorCode::name);
    let members = [
        Term::text("type", "`urn:gristmill:error:` and the code"),
        Term::text("title", "what kind of problem it is, for people"),
        Term::whole("status", "the status of the answer", 400..=599),
        Term::text("detail", "what is wrong"),
        Term::text("message", "the same as `detail`"),
        Term::text("error", "the same as `detail`"),
        Term::name("code", "what kind of problem it is", codes),
        Term::text("request_id", "the name of the request"),
    ];
    let mut schema = open_object(members.map(Term::required));
    schema["description"] = "Why a request was not answered with success (RFC 9457).".into();
    schema
}

fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidBody => "Invalid body",
        ErrorCode::InvalidArgument => "Invalid request",
        ErrorCode::InvalidEvent => "Invalid event",
        ErrorCode::Unauthenticated => "No valid API key",
        ErrorCode::PermissionDenied => "Not allowed",
        ErrorCode::NotFound => "Not found",
        ErrorCode::MethodNotAllowed => "Method not allowed",
        ErrorCode::Conflict => "Conflict",
        ErrorCode::TooLarge => "Too large",
        ErrorCode::UriTooLong => "Request target too long",
        ErrorCode::HeadersTooLarge => "Headers too large",
        ErrorCode::UnsupportedMedia => "Unsupported media type",
        ErrorCode::RequestTimeout => "Request timeout",
        ErrorCode::QuotaExceeded => "Quota exceeded",
        ErrorCode::Overloaded => "Overloaded",
        ErrorCode::LogUnavailable => "Log unavailable",
        ErrorCode::NotReady => "Not ready",
        ErrorCode::DeadlineExceeded => "Deadline exceeded",
        ErrorCode::Internal => "Internal error",
    }
}
