//! The log against its contract, and against everything that a disk can do to it.

mod adapters;
mod crash;
mod damage;
mod failing;
mod support;
