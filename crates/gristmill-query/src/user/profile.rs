//! What is told of a user at once.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use gristmill_model::{
    Field, Filter, Interval, Test, Timestamp, UserPage, UserProfile, UserSession, Value, limits,
};
use gristmill_store::{UserRun, number};
use jiff::tz::TimeZone;

use crate::QueryError;
use crate::calendar::Buckets;
use crate::select::Plan;

/// The bits of transactions and of refunds.
const TRANSACTION: u32 = 1;
const REFUND: u32 = 2;

/// The event types of transactions. Events of other types are transactions if they have the
/// payload of one.
const TYPES: [&str; 3] = ["purchase", "transaction", "EVENT_TYPE_TRANSACTION"];
const PAYLOAD: &str = "transaction_event";
/// The states, by name and by number, in which a transaction is not one yet or never will be.
const NOT_COMPLETED: [&str; 6] = [
    "TRANSACTION_STATUS_PENDING",
    "1",
    "TRANSACTION_STATUS_FAILED",
    "3",
    "TRANSACTION_STATUS_CANCELLED",
    "4",
];
const REFUNDS: [&str; 2] = ["TRANSACTION_TYPE_REFUND", "2"];
/// The properties that say an amount; the first that is a number counts.
const AMOUNTS: [&str; 4] = ["transaction_event.amount", "amount", "revenue", "value"];

/// Tells profiles.
#[derive(Clone)]
pub(super) struct Profiler {
    zone: TimeZone,
    /// The days that engagement looks at begin within this.
    lately: RangeInclusive<i64>,
    sessions: usize,
    pages: usize,
    amounts: [usize; 4],
}

impl Profiler {
    /// A profiler whose days are those of the zone and whose engagement ends with the day of
    /// `until`.
    pub(super) fn new(
        zone: &TimeZone,
        until: Timestamp,
        plan: &mut Plan,
    ) -> Result<Self, QueryError> {
        mark_transactions(plan)?;
        Ok(Self {
            zone: zone.clone(),
            lately: lately(zone, until),
            sessions: plan.column(&Field::SessionId),
            pages: plan.column(&Field::PageUrl),
            amounts: AMOUNTS.map(|name| plan.column(&property(name))),
        })
    }

    /// The profile that the selected rows of a user's run make, if there are any.
    pub(super) fn profile(
        &self,
        run: &UserRun<'_>,
        rows: &[usize],
        sets: &[u32],
    ) -> Option<UserProfile> {
        let (first, last) = (*rows.first()?, *rows.last()?);
        let (active_days, engaged_days) = self.days(run, rows);
        let (transactions, revenue) = self.transactions(run, rows, sets);
        let mut sessions = self.sessions(run, rows);
        let total_sessions = sessions.len() as u64;
        let durations = sessions.iter().map(|session| session.end.since(session.start));
        let total: i128 = durations.map(i128::from).sum();
        sessions.truncate(limits::USER_SESSIONS);
        Some(UserProfile {
            first_seen: Timestamp(run.events.times[first]),
            last_seen: Timestamp(run.events.times[last]),
            total_events: rows.len() as u64,
            total_sessions,
            sessions,
            mean_session_duration: total.checked_div(total_sessions.into()).map(|mean| mean as i64),
            active_days,
            engaged_days,
            transactions,
            revenue,
            top_pages: self.top_pages(run, rows),
        })
    }

    /// How many days have a row, and how many of those that engagement looks at.
    fn days(&self, run: &UserRun<'_>, rows: &[usize]) -> (u64, u64) {
        let (mut active, mut engaged, mut end) = (0, 0, i64::MIN);
        for &row in rows {
            let time = run.events.times[row];
            if time < end {
                continue;
            }
            let (first, next) = day(&self.zone, Timestamp(time));
            end = next;
            active += 1;
            engaged += u64::from(self.lately.contains(&first));
        }
        (active, engaged)
    }

    /// How many transactions there are, and the sum of their amounts.
    fn transactions(&self, run: &UserRun<'_>, rows: &[usize], sets: &[u32]) -> (u64, f64) {
        let (mut count, mut revenue) = (0, 0.0);
        for &row in rows.iter().filter(|row| sets[**row] & TRANSACTION != 0) {
            let amount = |column: &usize| {
                let text = run.events.dictionaries[*column].text(run.events.columns[*column][row]);
                text.and_then(number).filter(|amount| amount.is_finite())
            };
            let amount = self.amounts.iter().find_map(amount).unwrap_or(0.0);
            count += 1;
            revenue += if sets[row] & REFUND != 0 { -amount } else { amount };
        }
        (count, revenue)
    }

    /// All sessions, latest start first, ties by id.
    fn sessions(&self, run: &UserRun<'_>, rows: &[usize]) -> Vec<UserSession> {
        let (codes, ids) =
            (run.events.columns[self.sessions], &run.events.dictionaries[self.sessions]);
        let mut met: Vec<Option<(i64, i64, u64)>> = vec![None; ids.len()];
        for &row in rows {
            let time = run.events.times[row];
            if let Some(session) = met.get_mut(codes[row] as usize) {
                let (start, _, events) = session.unwrap_or((time, time, 0));
                *session = Some((start, time, events + 1));
            }
        }
        let session = |(code, met): (usize, Option<(i64, i64, u64)>)| {
            let ((start, end, events), id) = (met?, ids.text(code as u32)?.to_owned());
            Some(UserSession { id, start: Timestamp(start), end: Timestamp(end), events })
        };
        let mut sessions: Vec<_> = met.into_iter().enumerate().filter_map(session).collect();
        sessions.sort_unstable_by(|a, b| (b.start, &a.id).cmp(&(a.start, &b.id)));
        sessions
    }

    fn top_pages(&self, run: &UserRun<'_>, rows: &[usize]) -> Vec<UserPage> {
        let (codes, texts) = (run.events.columns[self.pages], &run.events.dictionaries[self.pages]);
        let mut counts = vec![0; texts.len()];
        for &row in rows {
            if let Some(count) = counts.get_mut(codes[row] as usize) {
                *count += 1;
            }
        }
        let counted =
            (0..).zip(counts).filter_map(|(code, count)| Some((count, texts.text(code)?)));
        let mut pages: Vec<(u64, &str)> =
            counted.filter(|(count, page)| *count > 0 && !page.is_empty()).collect();
        pages.sort_unstable_by_key(|(count, page)| (Reverse(*count), *page));
        pages.truncate(limits::USER_PAGES);
        let page = |(events, page): (u64, &str)| UserPage { page_url: page.to_owned(), events };
        pages.into_iter().map(page).collect()
    }
}

/// Gives transactions and refunds their bits.
fn mark_transactions(plan: &mut Plan) -> Result<(), QueryError> {
    let is_one_of = |field, texts: &[&str]| {
        let values = texts.iter().map(|text| Value::Text((*text).to_owned()));
        Filter::Where(field, Test::In(values.collect()))
    };
    let is_open = is_one_of(property("transaction_event.status"), &NOT_COMPLETED);
    let is_transaction = Filter::Any(vec![
        is_one_of(Field::EventType, &TYPES),
        Filter::Where(property(PAYLOAD), Test::Exists),
    ]);
    plan.keep(TRANSACTION, &is_transaction)?;
    plan.keep(TRANSACTION, &Filter::Not(Box::new(is_open)))?;
    plan.keep(REFUND, &is_one_of(property("transaction_event.type"), &REFUNDS))
}

fn property(name: &str) -> Field {
    Field::Property(name.to_owned())
}

/// The first moment of a moment's day, and of the next.
fn day(zone: &TimeZone, time: Timestamp) -> (i64, i64) {
    // Where a zone crossed the date line a day may have had 48 hours.
    let until = time.plus(3 * Timestamp::DAY);
    let days = Buckets::covering(zone, Interval::Day, time, until, 10);
    days.map_or((time.0, time.0 + 1), |days| (days.start(0).0, days.end(0)))
}

/// From the first moment of the first day that engagement looks at to `until`.
fn lately(zone: &TimeZone, until: Timestamp) -> RangeInclusive<i64> {
    let count = UserProfile::ENGAGEMENT_DAYS as usize;
    let from = until.plus(-(count as i64 + 3) * Timestamp::DAY);
    let days = Buckets::covering(zone, Interval::Day, from, until, 2 * count);
    let first = days.map_or(until.0, |days| days.start(days.len().saturating_sub(count)).0);
    first..=until.0
}
