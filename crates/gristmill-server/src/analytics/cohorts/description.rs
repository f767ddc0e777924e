//! What the document says of the routes of cohorts.

use gristmill_model::{ErrorCode, limits};
use http::StatusCode;

use super::super::question::{at_least_term, limit_term};
use super::{CohortBody, CohortsBody, USERS, UsersBody};
use crate::body;
use crate::openapi::{Answer, Operation, Parameter, Tag, Term, object, reference};

/// What the document says of `POST /v1/cohorts`.
pub(crate) fn describe_create() -> Operation {
    let answer = cohort("The cohort.").with_header("etag").with_header("location");
    let operation = Operation::new(Tag::Cohorts, "Save a cohort under an id that is free");
    with_cohort(operation).answers(StatusCode::CREATED, answer).fails_with(&[ErrorCode::Conflict])
}

/// What the document says of `GET /v1/cohorts`.
pub(crate) fn describe_list() -> Operation {
    let answer = Answer::json::<CohortsBody<'_>>("Cohorts", "Every cohort, by id.").or_csv();
    Operation::new(Tag::Cohorts, "Every cohort, by id").answers(StatusCode::OK, answer)
}

/// What the document says of `GET /v1/cohorts/{id}`.
pub(crate) fn describe_get() -> Operation {
    let answer = cohort("The cohort.").or_csv().with_header("etag");
    of_one("One cohort, and how many users belong to it now")
        .takes([at_least_term().in_target().shared()])
        .answers(StatusCode::OK, answer)
}

/// What the document says of `GET /v1/cohorts/{id}/users`.
pub(crate) fn describe_users() -> Operation {
    let about = "The users, by id.";
    let answer = Answer::json::<UsersBody<'_>>("CohortUsers", about).or_csv();
    let after = Term::text("after", "the `next` of the page before");
    let limit = limit_term("users on a page", USERS, limits::COHORT_PAGE);
    of_one("Who belongs to a cohort now, page by page")
        .takes([limit, after].map(Term::in_target))
        .takes([at_least_term().in_target().shared()])
        .answers(StatusCode::OK, answer)
}

/// What the document says of `PUT /v1/cohorts/{id}`.
pub(crate) fn describe_replace() -> Operation {
    with_cohort(of_one("Put another name and definition in the place of a cohort's"))
        .takes([if_match()])
        .answers(StatusCode::OK, cohort("The cohort as it is now.").with_header("etag"))
        .fails_with(&[ErrorCode::Conflict])
}

/// What the document says of `DELETE /v1/cohorts/{id}`.
pub(crate) fn describe_remove() -> Operation {
    of_one("Remove a cohort")
        .takes([if_match()])
        .answers(StatusCode::NO_CONTENT, Answer::empty("It is removed."))
        .fails_with(&[ErrorCode::Conflict])
}

fn of_one(summary: &'static str) -> Operation {
    Operation::new(Tag::Cohorts, summary)
        .takes([Term::text("id", "the cohort's id").in_path()])
        .fails_with(&[ErrorCode::NotFound])
}

fn cohort(about: &'static str) -> Answer {
    Answer::json::<CohortBody<'_>>("Cohort", about)
}

fn if_match() -> Parameter {
    Term::text("If-Match", "the version that the change starts from, in quotes; or `*`").in_head()
}

/// The operation with a cohort as its body.
fn with_cohort(operation: Operation) -> Operation {
    let members = [
        Term::text_up_to("id", "what follows from `name`, if missing", limits::COHORT_ID_BYTES),
        Term::text_up_to("name", "for people; `id` if missing", limits::COHORT_NAME_BYTES),
        Term::new("definition", "who belongs", reference("CohortDefinition")).required(),
    ];
    operation.reads("NewCohort", object(members)).takes([body::describe_encoding()])
}
