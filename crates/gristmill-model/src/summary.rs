//! A summary with what came before.

use std::collections::BTreeMap;

use crate::SummaryAnswer;

/// Answers a `SummaryQuery` whose event types are to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComparedSummary {
    /// The totals of the range.
    pub summary: SummaryAnswer,
    /// Events of each type in the range of equal length right before; `None` for a range that has
    /// no start or no end.
    pub previous_by_type: Option<BTreeMap<String, u64>>,
}
