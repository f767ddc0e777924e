//! What the document says of the routes of keys.

use gristmill_model::{ErrorCode, Scope, limits};
use http::StatusCode;
use serde_json::{Value, json};

use super::routes::{KeyBody, KeysBody, MadeBody, MyselfBody};
use super::sent::OVERLAP;
use crate::analytics::duration_term;
use crate::openapi::{Answer, Operation, Tag, Term, object, reference};

/// What the document says of `POST /v1/keys`.
pub(crate) fn describe_create() -> Operation {
    let scopes = json!({"type": "string", "enum": Scope::ALL.map(Scope::name)});
    let project = "the project, which is made by its first key; that of the caller, if missing";
    let members = [
        Term::text_up_to("project", project, limits::PROJECT_ID_BYTES),
        Term::list("scopes", "what the key allows", &scopes, 1..=Scope::ALL.len()).required(),
        Term::text_up_to("name", "for people", limits::KEY_NAME_BYTES),
        expires_at("it never does"),
        ttl(),
        Term::new("limits", "how much may be sent with it", limits_schema()),
    ];
    let answer = Answer::json::<MadeBody>("NewKey", "The key, which is shown this once.");
    Operation::new(Tag::Keys, "Make a key")
        .reads("KeyWanted", object(members))
        .answers(StatusCode::CREATED, answer.with_header("location"))
}

/// What the document says of `GET /v1/keys`.
pub(crate) fn describe_list() -> Operation {
    let project = Term::text("project", "only those of this project");
    let answer =
        Answer::json::<KeysBody>("Keys", "The keys that the caller manages, oldest first.");
    Operation::new(Tag::Keys, "The keys that the caller manages")
        .takes([project.in_target()])
        .answers(StatusCode::OK, answer)
}

/// What the document says of `GET /v1/keys/{id}`.
pub(crate) fn describe_get() -> Operation {
    let about = "The key, whose `status` is `active`, `expired` or `revoked`.";
    of_one("One key").answers(StatusCode::OK, Answer::json::<KeyBody>("Key", about))
}

/// What the document says of `POST /v1/keys/{id}/rotate`.
pub(crate) fn describe_rotate() -> Operation {
    let overlap = "for how long the old key goes on";
    let members = [
        duration_term("overlap", overlap).by_default(OVERLAP),
        expires_at("it lives as long as the old one was to live"),
        ttl(),
    ];
    let answer = Answer::json::<MadeBody>("NewKey", "The key, which is shown this once.");
    of_one("Make a key that takes the place of another, which goes on for a while")
        .reads("KeyRotation", object(members))
        .answers(StatusCode::CREATED, answer.with_header("location"))
        .fails_with(&[ErrorCode::Conflict])
}

/// What the document says of `DELETE /v1/keys/{id}`.
pub(crate) fn describe_revoke() -> Operation {
    of_one("Revoke a key, for good")
        .answers(StatusCode::NO_CONTENT, Answer::empty("It is revoked."))
        .fails_with(&[ErrorCode::Conflict])
}

/// What the document says of `GET /v1/keys/self`.
pub(crate) fn describe_myself() -> Operation {
    let answer = Answer::json::<MyselfBody>("Myself", "The caller.");
    Operation::new(Tag::Keys, "Who the caller is").answers(StatusCode::OK, answer)
}

fn of_one(summary: &'static str) -> Operation {
    Operation::new(Tag::Keys, summary)
        .takes([Term::text("id", "the key's id, which stands in the key").in_path()])
        .fails_with(&[ErrorCode::NotFound])
}

fn expires_at(otherwise: &str) -> Term {
    let about = format!("when the key ends; without this and `ttl` {otherwise}");
    Term::new("expires_at", about, reference("Time"))
}

fn ttl() -> Term {
    duration_term("ttl", "in the place of `expires_at`: how long the key is valid")
}

fn limits_schema() -> Value {
    let most = limits::KEY_LIMIT as usize;
    let limit = |name, about| Term::whole(name, about, 1..=most);
    object([
        limit("events_per_second", "events per second, on average"),
        limit("bytes_per_second", "bytes of bodies per second, on average"),
        limit("events_per_day", "events from one midnight in UTC to the next"),
        limit("bytes_per_day", "bytes of bodies from one midnight in UTC to the next"),
    ])
}
