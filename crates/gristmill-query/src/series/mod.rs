//! Values over time: metrics per bucket of the calendar and group, and formulas over them.
//!
//! One walk through the events takes each of them into a cell for its group and bucket, for all
//! series together. Which groups are the top ones is found by a walk before, in which all of the
//! time is one bucket; then the events of all others go into the same cells, so that their
//! distinct users and percentiles are exact. The period before has a walk of its own.

pub(crate) mod cell;
mod cells;
mod formula;
mod group;
#[cfg(test)]
mod oracle;
mod period;
mod question;
mod state;
pub(crate) mod sum;
mod table;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use gristmill_model::{
    Compare, Interval, Metric, Period, SeriesAnswer, SeriesLine, SeriesQuery, TimeRange, Timestamp,
    limits,
};
use gristmill_store::Precision;
use jiff::tz::TimeZone;

use self::group::Kept;
use self::period::previous;
use self::table::Table;
use self::walk::{Cut, Walk, check_groups};
use crate::QueryError;
use crate::calendar::Buckets;
use crate::fold::View;
use crate::select::Plan;
use crate::span::{laid_out, laid_out_by_hours, zone};

pub(crate) async fn answer(view: &View, query: &SeriesQuery) -> Result<SeriesAnswer, QueryError> {
    question::check(query)?;
    let zone = zone(&query.zone)?;
    let mut plan = Plan::new(&query.selection)?;
    let mut answer = SeriesAnswer { lines: Vec::new(), previous: None };
    let lay_out = |first, last| Ok((last, buckets(query, &zone, first, last)?));
    // Events that have a number are few, and found with their times.
    let are_numbers = query.series.iter().all(|one| matches!(one.metric, Metric::Number(..)));
    let laid_out = if !are_numbers && query.interval != Interval::Minute {
        let hours_do = |(_, buckets): &(Timestamp, Buckets)| buckets.are_of_whole_hours();
        laid_out_by_hours(view, &mut plan, lay_out, hours_do).await?
    } else {
        laid_out(view, &plan, lay_out).await?
    };
    let Some((first, (last, buckets))) = laid_out else { return Ok(answer) };
    let part = Part {
        period: Period::Range,
        range: query.selection.range,
        buckets: Arc::new(buckets),
        compared_with: None,
    };
    let kept = match query.top {
        Some(top) => Some(Arc::new(top_groups(view, query, top, plan.scan.precision).await?)),
        None => None,
    };
    let before = match query.compare {
        Compare::Nothing => None,
        Compare::PreviousPeriod => Some(part_before(query, &zone, first, last, &part)?),
    };
    answer.previous = before.as_ref().map(|before| before.range);
    for part in [Some(part), before].into_iter().flatten() {
        let points: usize = answer.lines.iter().map(|line| line.points.len()).sum();
        let left = limits::SERIES_POINTS - points;
        answer.lines.extend(lines(view, query, part, kept.clone(), left).await?);
    }
    Ok(answer)
}

/// One of the periods of a question.
struct Part {
    period: Period,
    range: TimeRange,
    buckets: Arc<Buckets>,
    /// In the period before: the buckets of the range.
    compared_with: Option<Arc<Buckets>>,
}

/// The buckets of the range, if all periods and lines have room for so many.
fn buckets(
    query: &SeriesQuery,
    zone: &TimeZone,
    first: Timestamp,
    last: Timestamp,
) -> Result<Buckets, QueryError> {
    let periods = if query.compare == Compare::PreviousPeriod { 2 } else { 1 };
    // With groups a line has only some of the buckets.
    let lines =
        if query.group_by.is_empty() { query.series.len() + query.formulas.len() } else { 1 };
    let most = limits::SERIES_POINTS / (periods * lines);
    Buckets::covering(zone, query.interval, first, last, most).ok_or_else(too_many_points)
}

fn part_before(
    query: &SeriesQuery,
    zone: &TimeZone,
    first: Timestamp,
    last: Timestamp,
    part: &Part,
) -> Result<Part, QueryError> {
    let too_early =
        || QueryError::Invalid("`compare` needs a period that begins after the year 0".to_owned());
    let range = previous(zone, query.interval, first, last, part.buckets.len());
    let range = range.ok_or_else(too_early)?;
    let (Some(start), Some(end)) = (range.start, range.end) else { return Err(too_early()) };
    let most = limits::SERIES_POINTS;
    let buckets = Buckets::covering(zone, query.interval, start, end.plus(-1), most);
    Ok(Part {
        period: Period::Previous,
        range,
        buckets: Arc::new(buckets.ok_or_else(too_many_points)?),
        compared_with: Some(Arc::clone(&part.buckets)),
    })
}

/// The groups with the highest values of the first series.
async fn top_groups(
    view: &View,
    query: &SeriesQuery,
    top: usize,
    precision: Precision,
) -> Result<Kept, QueryError> {
    let first = &query.series[..1];
    let walk = Walk::new(query, first, query.selection.range, Cut::Whole(precision))?;
    let groups = walk.run(view).await?.pop().unwrap_or_default();
    check_groups(groups.len(), limits::SERIES_RANKED_GROUPS)?;
    let metric = first[0].metric.clone();
    view.compute(move || Kept::top(groups, &metric, top)).await
}

/// The lines of one period, with so many points at most.
async fn lines(
    view: &View,
    query: &SeriesQuery,
    part: Part,
    kept: Option<Arc<Kept>>,
    points: usize,
) -> Result<Vec<SeriesLine>, QueryError> {
    let cut = Cut::Buckets(Arc::clone(&part.buckets), kept.clone());
    let groups = Walk::new(query, &query.series, part.range, cut)?.run(view).await?;
    let table = Table {
        period: part.period,
        series: query.series.clone(),
        formulas: question::formulas(query)?,
        totals: query.totals,
        fields: query.group_by.len(),
        kept,
        buckets: part.buckets,
        compared_with: part.compared_with,
    };
    view.compute(move || table.lines(groups, points)).await?
}

fn too_many_points() -> QueryError {
    let most = limits::SERIES_POINTS;
    QueryError::Invalid(format!(
        "the answer has more than {most} points: ask for a shorter range or a coarser `granularity`"
    ))
}
