//! Accept: decode any dialect, validate, admit, append, acknowledge.
//!
//! The way of a request: [`Ingest::admit`] reserves memory for the body, [`inflate`] undoes its
//! content encoding under a limit, a function of [`dialect`] turns the bytes into events that
//! borrow from them, and [`Ingest::accept`] appends the valid ones to the log and answers when
//! they are durable.

mod admission;
pub mod dialect;
mod inflate;
mod service;

pub use admission::{Admission, AdmissionStats, AdmitError, Permit};
pub use inflate::{Encoding, InflateError, inflate};
pub use service::{Accepted, Ingest, IngestConfig, IngestStats, Item};
