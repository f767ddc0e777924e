//! The binary from outside, and the rules of the repository. One test binary, so that it links
//! once.

mod bad_input;
mod dialect_curls;
mod kill_nine;
mod openapi;
mod readme;
mod real_data;
mod restart;
mod support;
mod tidy;
