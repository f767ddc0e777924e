//! The log against its contract, and against everything that a disk can do to it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod adapters;
mod crash;
mod damage;
mod failing;
mod kafka;
mod reuse;
mod support;
