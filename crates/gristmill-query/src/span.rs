//! Over which time, and in which zone, buckets are laid out.

use gristmill_model::{TimeRange, Timestamp};
use gristmill_store::{Dictionaries, Events, Span};
use jiff::tz::TimeZone;

use crate::QueryError;
use crate::fold::{EventFold, Fold, View, Walk};
use crate::select::{Matcher, Plan};

/// The first and the last moment that a question is about: the range, and where it has no end
/// that of the data. `None` if there is none.
pub(crate) async fn span(
    view: &View,
    plan: &Plan,
) -> Result<Option<(Timestamp, Timestamp)>, QueryError> {
    let TimeRange { start, end } = plan.scan.range;
    let start = start.map(|start| start.max(Timestamp::MIN));
    let last = end.map(|end| end.min(Timestamp::MAX).plus(-1));
    let start_fold = || SpanFold { matcher: plan.matcher.clone(), span: None };
    let span = match (start, last) {
        (Some(start), Some(last)) => Some((start.0, last.0)),
        _ if plan.matcher.keeps_all() => view.through_shards(plan, start_fold, Walk::span).await?,
        _ => view.fold_events(plan, start_fold).await?,
    };
    let span = span.map(|(first, until)| {
        (start.unwrap_or(Timestamp(first)), last.unwrap_or(Timestamp(until)))
    });
    Ok(span.filter(|(first, last)| first <= last))
}

/// The time zone of a name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, QueryError> {
    TimeZone::get(name).map_err(|_| {
        QueryError::Invalid(format!(
            "`tz` is not a known time zone: {name:?}; use an IANA name such as \"Europe/Berlin\""
        ))
    })
}

struct SpanFold {
    matcher: Matcher,
    span: Span,
}

impl Fold for SpanFold {
    type Partial = Span;

    fn finish(self, _dictionaries: Dictionaries<'_>) -> Self::Partial {
        self.span
    }

    fn merge(into: &mut Self::Partial, other: Self::Partial) {
        *into = match (*into, other) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        };
    }
}

impl EventFold for SpanFold {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        self.matcher.for_each(events, |row| {
            let time = events.times[row];
            (first, last) = (first.min(time), last.max(time));
        });
        if first <= last {
            Self::merge(&mut self.span, Some((first, last)));
        }
        Ok(())
    }
}
