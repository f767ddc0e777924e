//! Errors as gRPC tells them: the same table as HTTP's.

use gristmill_model::Coded;
use tonic::{Code, Status};

use crate::problem::Problem;

/// The status of a problem.
pub(crate) fn of(problem: &Problem) -> Status {
    Status::new(Code::from_i32(problem.code().grpc_code() as i32), problem.detail())
}

/// The status of an error.
#[expect(dead_code, reason = "errors of services become problems first")]
pub(crate) fn coded(error: &impl Coded) -> Status {
    Status::new(Code::from_i32(error.code().grpc_code() as i32), error.to_string())
}
