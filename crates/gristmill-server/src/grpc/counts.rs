//! How often each call ended how. The labels come from the descriptors and from gRPC's own list of codes.

use tonic::Code;

use super::methods::{Method, methods};
use crate::metrics::Counter;

/// The label of calls that nobody knows.
const NO_METHOD: &str = "other";

/// The names of the codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A count for every method and code, and for what is no method.
#[derive(Debug)]
pub(crate) struct Calls(Vec<[Counter; CODES.len()]>);

impl Default for Calls {
    fn default() -> Self {
        Self((0..=methods().all().len()).map(|_| Default::default()).collect())
    }
}

impl Calls {
    /// A call has ended. `method` is its number, if there is such a method.
    pub(crate) fn ended(&self, method: Option<usize>, code: Code) {
        let method = method.unwrap_or(methods().all().len());
        let count = self.0.get(method).and_then(|codes| codes.get(code as usize));
        if let Some(count) = count {
            count.add(1);
        }
    }

    /// Every method, code and number of calls that is not 0.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let names = methods().all().iter().map(Method::name).chain([NO_METHOD]);
        names.zip(&self.0).flat_map(|(name, codes)| {
            let counts = codes.iter().map(Counter::get).zip(CODES);
            counts.filter(|(count, _)| *count > 0).map(move |(count, code)| (name, code, count))
        })
    }
}
