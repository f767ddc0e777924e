//! Errors as gRPC tells them: the same table as HTTP's, with `google.rpc` details.
//!
//! Every status has an `ErrorInfo` whose reason is the error's code, as in problem documents. What may pass
//! has a `RetryInfo`, and what is wrong with a request a `BadRequest` that names the field.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{Coded, ErrorCode, GrpcCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::problem::Problem;

/// The domain of all our errors.
const DOMAIN: &str = "gristmill";

/// The status of a problem.
pub(crate) fn of(problem: &Problem) -> Status {
    let field = FieldViolation::new(problem.field(), problem.detail());
    with_fields(problem, vec![field])
}

/// The status of an error. The text of a fault of the server stays in its log.
pub(crate) fn coded(error: &impl Coded) -> Status {
    of(&Problem::of(error))
}

/// The status of a problem that is the fault of these fields, if it is the request's.
pub(crate) fn with_fields(problem: &Problem, fields: Vec<FieldViolation>) -> Status {
    let code = problem.code();
    let facts =
        [("retryable", code.is_retryable()), ("no_side_effects", code.has_no_side_effects())];
    let facts: HashMap<_, _> =
        facts.into_iter().map(|(name, fact)| (name.to_owned(), fact.to_string())).collect();
    let mut details = ErrorDetails::with_error_info(code.name(), DOMAIN, facts);
    if let Some(seconds) = problem.retry_after_seconds() {
        details.set_retry_info(Some(Duration::from_secs(seconds)));
    }
    if blames_request(code) {
        details.set_bad_request(fields);
    }
    let number = Code::from_i32(code.grpc_code() as i32);
    Status::with_error_details(number, problem.detail(), details)
}

fn blames_request(code: ErrorCode) -> bool {
    code.grpc_code() == GrpcCode::InvalidArgument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_number_its_name_and_when_to_come_again() {
        for code in ErrorCode::ALL {
            let status = of(&Problem::new(code, "`steps` is missing"));
            assert_eq!(status.code() as i32, code.grpc_code() as i32, "{code:?}");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.name(), "gristmill"));
            assert_eq!(details.retry_info().is_some(), code.is_retryable(), "{code:?}");
            let field = details.bad_request().map(|bad| bad.field_violations[0].field.as_str());
            let is_bad = status.code() == Code::InvalidArgument;
            assert_eq!(field, is_bad.then_some("steps"), "{code:?}");
        }
    }

    #[test]
    fn what_a_problem_knows_better_is_told() {
        let problem = Problem::new(ErrorCode::Overloaded, "busy").retry_after(7);
        let delay = of(&problem).get_error_details().retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_secs(7)));
        let problem = Problem::argument("`a` and `b` contradict").at("options.b");
        let details = of(&problem).get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "options.b");
    }
}
