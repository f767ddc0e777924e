//! The binary from outside, and the rules of the repository. One test binary, so that it links
//! once.

mod bad_input;
mod both_stores;
mod dialect_curls;
mod kill_nine;
mod openapi;
mod postgres;
mod readme;
mod real_data;
mod restart;
mod support;
mod tidy;
