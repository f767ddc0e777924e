//! The binary from outside, and the rules of the repository. One test binary, so that it links
//! once.

mod bad_input;
mod both_stores;
mod cache;
mod calls;
mod client;
mod dialect_curls;
mod gateway;
mod gateway_faults;
mod kafka;
mod keys;
mod kill_nine;
mod load;
mod manuals;
mod openapi;
mod postgres;
mod profiles;
mod readme;
mod real_data;
mod restart;
mod split_faults;
mod support;
mod telemetry;
mod tidy;
mod tls;
mod walk_throughs;
