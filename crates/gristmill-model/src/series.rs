//! Values over time: the question and its answer.

use crate::{EventMatch, Field, Grouping, Interval, Selection, TimeRange, Timestamp};

/// Values over time: several series, and what follows from them bucket by bucket.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// Which events.
    pub selection: Selection,
    /// What is worked out of them; at least one.
    pub series: Vec<Series>,
    /// What is worked out of the values of the series.
    pub formulas: Vec<Formula>,
    /// How wide a bucket is.
    pub interval: Interval,
    /// The IANA time zone in which buckets are cut.
    pub zone: String,
    /// What makes a group each, two at most.
    pub group_by: Vec<Grouping>,
    /// How many groups are told apart: those with the highest values of the first series over the
    /// whole range, ties in order of their values. All others are one group. `None` means that
    /// all are told apart.
    pub top: Option<usize>,
    /// Which periods are answered.
    pub compare: Compare,
    /// What the value of a bucket is about.
    pub totals: Totals,
}

/// One series of a question.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the answer and formulas call it.
    pub name: String,
    /// What it says of the events.
    pub metric: Metric,
    /// Its events, of those that are selected.
    pub events: EventMatch,
}

/// What a series says of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metric {
    /// How many there are.
    Count,
    /// How many distinct users made them.
    UniqueUsers,
    /// How many distinct (user, session id) they have; events without a session do not count.
    Sessions,
    /// How many there are per distinct user.
    PerUserAverage,
    /// What the numbers in a field come to. Values that are no number do not count.
    Number(Aggregate, Field),
}

/// What numbers come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum, rounded once.
    Sum,
    /// Their sum by their count.
    Average,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
    /// Of the n numbers in order the one at `floor(n * percent / 100)`, counted from 0, or the
    /// last: ClickHouse's `quantileExact`.
    Percentile(u8),
}

/// A value that is worked out of the values of series.
#[derive(Clone, Debug)]
pub struct Formula {
    /// What the answer calls it.
    pub name: String,
    /// Numbers and names of series with `+`, `-`, `*`, `/` and parentheses.
    pub expression: String,
}

/// Which periods are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The range of the selection.
    Nothing,
    /// Also the period before: the range, which must have both ends, moved back by as many
    /// buckets as it touches. Each end stays as far from the start of its bucket.
    PreviousPeriod,
}

/// What the value of a bucket is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Totals {
    /// The events of the bucket.
    PerBucket,
    /// The events of the period up to the end of the bucket.
    Running,
}

/// Answers a `SeriesQuery`.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesAnswer {
    /// First those of the range, then those of the period before; within a period the series, then
    /// the formulas, as in the question; of each the groups by value, or with the highest first if
    /// only the top ones were asked for, and then the others.
    pub lines: Vec<SeriesLine>,
    /// The period before, if it was asked for.
    pub previous: Option<TimeRange>,
}

/// The values of one series or formula in one group.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesLine {
    /// The name of the series or formula.
    pub name: String,
    /// Which period it is about.
    pub period: Period,
    /// Which group it is about.
    pub group: SeriesGroup,
    /// In order of time. Without grouping every bucket is there; with grouping those in which
    /// something counted, and for running totals all after the first of them.
    pub points: Vec<SeriesPoint>,
}

/// Which period a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The range of the question.
    Range,
    /// The one before.
    Previous,
}

/// Which group a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesGroup {
    /// The values of what is grouped by, in its order; `None` where a field is absent.
    Values(Vec<Option<String>>),
    /// All groups that are not told apart.
    Other,
}

/// One bucket of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoint {
    /// Where the bucket starts.
    pub start: Timestamp,
    /// In the period before: where the bucket of the range starts that is to be held against.
    pub compared_with: Option<Timestamp>,
    /// The value. Of no events counts and sums are 0; all else is `None`, and so is what a
    /// formula divides by 0 or what no floating-point number can say.
    pub value: Option<f64>,
}
