//! Over which time, and in which zone, buckets are laid out.

use gristmill_model::{TimeRange, Timestamp};
use gristmill_store::{Dictionaries, Events, Precision, Span};
use jiff::tz::TimeZone;

use crate::QueryError;
use crate::fold::{EventFold, Fold, View, Walk};
use crate::select::{Matcher, Plan};

/// The first and the last moment that a question is about: the range, and where it has no end
/// that of the data, or of the hours of the data if the plan tells hours. `None` if there is none.
pub(crate) async fn span(
    view: &View,
    plan: &Plan,
) -> Result<Option<(Timestamp, Timestamp)>, QueryError> {
    let TimeRange { start, end } = plan.scan.range;
    let start = start.map(|start| start.max(Timestamp::MIN));
    let last = end.map(|end| end.min(Timestamp::MAX).plus(-1));
    let span = match (start, last) {
        (Some(start), Some(last)) => Some((start.0, last.0)),
        _ => event_span(view, plan).await?,
    };
    let span = span.map(|(first, until)| {
        (start.unwrap_or(Timestamp(first)), last.unwrap_or(Timestamp(until)))
    });
    Ok(span.filter(|(first, last)| first <= last))
}

/// The times of the first and of the last event of a plan, or the first and the last moment of their
/// hours if the plan tells hours.
pub(crate) async fn event_span(view: &View, plan: &Plan) -> Result<Span, QueryError> {
    let start = || SpanFold { matcher: plan.matcher.clone(), span: None };
    if plan.matcher.keeps_all() {
        return view.through_shards(plan, start, Walk::span).await;
    }
    view.fold_events(plan, start).await
}

/// What is laid out over the span of a plan, with the first moment of that span; `None` if there are
/// no events.
pub(crate) async fn laid_out<T>(
    view: &View,
    plan: &Plan,
    lay_out: impl Fn(Timestamp, Timestamp) -> Result<T, QueryError>,
) -> Result<Option<(Timestamp, T)>, QueryError> {
    let Some((first, last)) = span(view, plan).await? else { return Ok(None) };
    Ok(Some((first, lay_out(first, last)?)))
}

/// The same, where `hours_do` says whether the hours of events are as good as their times for what
/// is laid out. If so the plan is left with hours, and the first moment may be that of an hour.
pub(crate) async fn laid_out_by_hours<T>(
    view: &View,
    plan: &mut Plan,
    lay_out: impl Fn(Timestamp, Timestamp) -> Result<T, QueryError>,
    hours_do: impl Fn(&T) -> bool,
) -> Result<Option<(Timestamp, T)>, QueryError> {
    if plan.tell_hours() {
        let Some((first, last)) = span(view, plan).await? else { return Ok(None) };
        // A mistake may be due to the whole hours, which are more than the events need.
        if let Ok(layout) = lay_out(first, last)
            && hours_do(&layout)
        {
            return Ok(Some((first, layout)));
        }
        plan.scan.precision = Precision::Times;
    }
    laid_out(view, plan, lay_out).await
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
    fn known(&self) -> Span {
        self.span
    }

    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let is_known = |(first, last): (i64, i64)| {
            self.span.is_some_and(|known| known.0 <= first && last <= known.1)
        };
        if events.span().is_none_or(is_known) {
            return Ok(());
        }
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let moments = self.matcher.moments(events);
        moments.for_each(0..moments.times.len(), |time| {
            (first, last) = (first.min(time), last.max(time));
        });
        if first <= last {
            let last = if events.hours.is_empty() { last } else { last + Timestamp::HOUR - 1 };
            Self::merge(&mut self.span, Some((first, last)));
        }
        Ok(())
    }
}
