//! Sessions: how many, how long, over how many pages, from where to where.
//!
//! One pass over a user's events puts each into its session: that of its id, or for an event
//! without one the newest session without an id, unless the pause was too long. At the user's end
//! all of them are over, and are counted.

use std::collections::HashMap;
use std::sync::Arc;

use gristmill_model::{
    Field, Micros, SessionBucket, SessionGroup, SessionPage, SessionSeries, SessionTotals,
    SessionsAnswer, SessionsQuery, limits,
};
use gristmill_store::{ABSENT, Dictionaries, UserRun};

use crate::QueryError;
use crate::blank::Blank;
use crate::calendar::Buckets;
use crate::fold::{Fold, UserFold, View};
use crate::rank::largest;
use crate::select::{Matcher, Plan};
use crate::span::{span, zone};
use crate::tally::{Cell, Tally};

#[cfg(test)]
mod tests;

pub(crate) async fn answer(
    view: &View,
    query: &SessionsQuery,
) -> Result<SessionsAnswer, QueryError> {
    check(query)?;
    let mut plan = Plan::new(&query.selection)?;
    let buckets = match &query.series {
        Some(series) => buckets(view, &plan, series).await?,
        None => None,
    };
    let columns = Columns {
        session: plan.column(&Field::SessionWithinUser),
        page: plan.column(&Field::PageUrl),
        group: query.group_by.as_ref().map(|grouping| plan.grouping(grouping)),
    };
    let start = || SessionsFold {
        matcher: plan.matcher.clone(),
        columns,
        gap: query.gap,
        buckets: buckets.clone(),
        blank: Blank::default(),
        open: Open::default(),
        counts: Counts::of(buckets.as_deref()),
    };
    let sums = view.fold(&plan, start).await?;
    let limit = query.limit;
    view.compute(move || sums.into_answer(buckets.as_deref(), limit)).await
}

fn check(query: &SessionsQuery) -> Result<(), QueryError> {
    let most = limits::SESSIONS_LISTED;
    if query.gap <= 0 {
        return Err(QueryError::Invalid("`gap` must be longer than 0".to_owned()));
    }
    if !(1..=most).contains(&query.limit) {
        return Err(QueryError::Invalid(format!("`limit` must be from 1 to {most}")));
    }
    Ok(())
}

/// The buckets of a series; `None` if there is no time to lay them out over.
async fn buckets(
    view: &View,
    plan: &Plan,
    series: &SessionSeries,
) -> Result<Option<Arc<Buckets>>, QueryError> {
    let zone = zone(&series.zone)?;
    let Some((first, last)) = span(view, plan).await? else { return Ok(None) };
    let most = limits::SERIES_POINTS;
    let buckets = Buckets::covering(&zone, series.interval, first, last, most);
    let buckets = buckets.ok_or_else(|| {
        QueryError::Invalid(format!(
            "the series has more than {most} points: ask for a shorter range or a coarser \
             `granularity`"
        ))
    })?;
    Ok(Some(Arc::new(buckets)))
}

/// How much there is of what is kept for each value or session.
#[derive(Clone, Copy)]
struct Sizes {
    timed: usize,
    pages: usize,
    groups: usize,
}

fn check_size(sizes: Sizes) -> Result<(), QueryError> {
    let values = limits::SESSION_VALUES;
    let wrong = if sizes.timed > limits::SESSIONS_TIMED {
        let most = limits::SESSIONS_TIMED;
        format!("there are more than {most} sessions: ask for a shorter range or add a filter")
    } else if sizes.pages > values {
        format!(
            "sessions begin or end on more than {values} different `page_url`: ask for a shorter \
             range or add a filter"
        )
    } else if sizes.groups > values {
        format!(
            "`group_by` makes more than {values} groups: choose a field with fewer values or add \
             a filter"
        )
    } else {
        return Ok(());
    };
    Err(QueryError::Invalid(wrong))
}

struct SessionsFold {
    matcher: Matcher,
    columns: Columns,
    gap: Micros,
    buckets: Option<Arc<Buckets>>,
    blank: Blank,
    open: Open,
    counts: Counts,
}

/// Where the columns lie in a run.
#[derive(Clone, Copy)]
struct Columns {
    session: usize,
    page: usize,
    group: Option<usize>,
}

impl Fold for SessionsFold {
    type Partial = Sums;

    fn finish(self, dictionaries: Dictionaries<'_>) -> Sums {
        let Self { columns, counts, .. } = self;
        let pages = |tally: &Tally| -> Pages {
            let page = |(slot, cell): (usize, Cell)| {
                let text = dictionaries[columns.page].text(Tally::code(slot))?;
                Some((text.to_owned(), (cell.count, u64::from(cell.users))))
            };
            tally.cells().filter_map(page).collect()
        };
        let group = |(slot, totals): (usize, SessionTotals)| {
            let text = dictionaries[columns.group?].text(Tally::code(slot));
            (totals.sessions > 0).then(|| (text.map(str::to_owned), totals))
        };
        Sums {
            entries: pages(&counts.entries),
            exits: pages(&counts.exits),
            groups: counts.groups.into_iter().enumerate().filter_map(group).collect(),
            ..counts.sums
        }
    }

    fn merge(into: &mut Sums, mut other: Sums) {
        into.users += other.users;
        into.totals.add(&other.totals);
        if into.durations.len() < other.durations.len() {
            std::mem::swap(&mut into.durations, &mut other.durations);
        }
        into.durations.append(&mut other.durations);
        if into.buckets.is_empty() {
            std::mem::swap(&mut into.buckets, &mut other.buckets);
        }
        for (into, other) in into.buckets.iter_mut().zip(&other.buckets) {
            into.add(other);
        }
        for (into, other) in [(&mut into.entries, other.entries), (&mut into.exits, other.exits)] {
            for (page, (sessions, users)) in other {
                let known = into.entry(page).or_default();
                *known = (known.0 + sessions, known.1 + users);
            }
        }
        for (group, totals) in other.groups {
            into.groups.entry(group).or_default().add(&totals);
        }
    }

    fn check(sums: &Sums) -> Result<(), QueryError> {
        check_size(sums.sizes())
    }
}

impl UserFold for SessionsFold {
    fn user(&mut self, run: &UserRun<'_>) -> Result<(), QueryError> {
        let Self { matcher, columns, gap, blank, open, .. } = self;
        let (ids, pages) = (run.events.columns[columns.session], run.events.columns[columns.page]);
        blank.learn(&run.events.dictionaries[columns.page]);
        open.grow(run.events.dictionaries[columns.session].len() + 1);
        matcher.for_each(&run.events, |row| {
            let session = open.session_of(ids[row], row, run.events.times, *gap);
            session.last = row;
            session.events += 1;
            if !blank.is(pages[row]) {
                session.view(pages[row]);
            }
        });
        self.count(run);
        check_size(self.counts.sizes())
    }
}

impl SessionsFold {
    /// Counts the sessions of the user at hand.
    fn count(&mut self, run: &UserRun<'_>) {
        let Self { columns, buckets, open, counts, .. } = self;
        if open.sessions.is_empty() {
            return;
        }
        counts.next_user(run, *columns);
        for session in open.sessions.drain(..) {
            open.places[session.place] = NONE;
            let first = run.events.times[session.first];
            let totals = session.totals(run.events.times[session.last] - first);
            counts.sums.take(&totals);
            if session.page_views > 0 {
                counts.entries.add(Tally::slot(session.entry));
                counts.exits.add(Tally::slot(session.exit));
            }
            if let Some(buckets) = buckets {
                counts.sums.buckets[buckets.find(first)].add(&totals);
            }
            if let Some(column) = columns.group {
                let group =
                    &mut counts.groups[Tally::slot(run.events.columns[column][session.first])];
                counts.used_groups += usize::from(group.sessions == 0);
                group.add(&totals);
            }
        }
    }
}

const NONE: usize = usize::MAX;

/// The sessions of the user at hand.
#[derive(Default)]
struct Open {
    sessions: Vec<Session>,
    /// For the slot of each session id the place of its session; for that of the absent id the
    /// place of the newest session without one.
    places: Vec<usize>,
}

struct Session {
    /// Its index in `places`.
    place: usize,
    /// The rows of its first and its last event.
    first: usize,
    last: usize,
    events: u64,
    page_views: u64,
    /// The codes of its first and its last page, if it has any.
    entry: u32,
    exit: u32,
}

impl Open {
    fn grow(&mut self, places: usize) {
        if self.places.len() < places {
            self.places.resize(places, NONE);
        }
    }

    /// The session of the event of a row, which may be new.
    fn session_of(&mut self, id: u32, row: usize, times: &[i64], gap: Micros) -> &mut Session {
        let Self { sessions, places } = self;
        let slot = Tally::slot(id);
        let place = &mut places[slot];
        let goes_on = |session: &Session| id != ABSENT || times[row] - times[session.last] <= gap;
        if !sessions.get(*place).is_some_and(goes_on) {
            *place = sessions.len();
            sessions.push(Session::begun(slot, row));
        }
        &mut sessions[*place]
    }
}

impl Session {
    fn begun(place: usize, row: usize) -> Self {
        let (first, last) = (row, row);
        Self { place, first, last, events: 0, page_views: 0, entry: ABSENT, exit: ABSENT }
    }

    /// Takes in a page view.
    fn view(&mut self, page: u32) {
        if self.page_views == 0 {
            self.entry = page;
        }
        self.exit = page;
        self.page_views += 1;
    }

    fn totals(&self, duration: Micros) -> SessionTotals {
        SessionTotals {
            sessions: 1,
            events: self.events,
            page_views: self.page_views,
            bounces: u64::from(self.page_views == 1),
            duration: i128::from(duration),
        }
    }
}

/// What is counted of a shard, by codes.
#[derive(Default)]
struct Counts {
    sums: Sums,
    entries: Tally,
    exits: Tally,
    /// By the slot of the grouping value.
    groups: Vec<SessionTotals>,
    used_groups: usize,
}

impl Counts {
    fn of(buckets: Option<&Buckets>) -> Self {
        let buckets = vec![SessionTotals::default(); buckets.map_or(0, Buckets::len)];
        Self { sums: Sums { buckets, ..Sums::default() }, ..Self::default() }
    }

    /// Begins a user who has a session.
    fn next_user(&mut self, run: &UserRun<'_>, columns: Columns) {
        self.sums.users += 1;
        for pages in [&mut self.entries, &mut self.exits] {
            pages.next_user();
            pages.grow(run.events.dictionaries[columns.page].len() + 1);
        }
        if let Some(column) = columns.group {
            let slots = self.groups.len().max(run.events.dictionaries[column].len() + 1);
            self.groups.resize(slots, SessionTotals::default());
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            timed: self.sums.durations.len(),
            pages: self.entries.used().max(self.exits.used()),
            groups: self.used_groups,
        }
    }
}

/// Sessions and distinct users of every page.
type Pages = HashMap<String, (u64, u64)>;

/// What is known of the users of some shards.
#[derive(Default)]
struct Sums {
    users: u64,
    totals: SessionTotals,
    /// Those that are longer than 0, in no order.
    durations: Vec<Micros>,
    buckets: Vec<SessionTotals>,
    entries: Pages,
    exits: Pages,
    groups: HashMap<Option<String>, SessionTotals>,
}

impl Sums {
    /// Takes in one session.
    fn take(&mut self, session: &SessionTotals) {
        self.totals.add(session);
        if session.duration > 0 {
            self.durations.push(session.duration as Micros);
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            timed: self.durations.len(),
            pages: self.entries.len().max(self.exits.len()),
            groups: self.groups.len(),
        }
    }

    fn into_answer(mut self, buckets: Option<&Buckets>, limit: usize) -> SessionsAnswer {
        let groups = largest(self.groups, limit, |totals| totals.sessions);
        let others = groups.others.into_iter().map(|(_, totals)| totals);
        let other_groups = others.reduce(|mut sum, totals| {
            sum.add(&totals);
            sum
        });
        let bucket = |(bucket, totals)| {
            buckets.map(|buckets| SessionBucket { start: buckets.start(bucket), totals })
        };
        let group = |(value, totals)| SessionGroup { value, totals };
        let sessions = self.totals.sessions as usize;
        SessionsAnswer {
            totals: self.totals,
            users: self.users,
            median_duration: quantile(&mut self.durations, sessions, 50),
            p95_duration: quantile(&mut self.durations, sessions, 95),
            entry_pages: top_pages(self.entries, limit),
            exit_pages: top_pages(self.exits, limit),
            series: self.buckets.into_iter().enumerate().filter_map(bucket).collect(),
            groups: groups.first.into_iter().map(group).collect(),
            other_groups,
        }
    }
}

fn top_pages(pages: Pages, limit: usize) -> Vec<SessionPage> {
    let page = |(page, (sessions, users))| SessionPage { page, sessions, users };
    largest(pages, limit, |(sessions, _)| *sessions).first.into_iter().map(page).collect()
}

/// The duration with the index ⌊sessions · percent / 100⌋ of all in order, those of 0 included,
/// which `longer` leaves out.
fn quantile(longer: &mut [Micros], sessions: usize, percent: usize) -> Option<Micros> {
    let rank = sessions * percent / 100;
    if sessions == 0 {
        return None;
    }
    let zeros = sessions - longer.len();
    Some(if rank < zeros { 0 } else { *longer.select_nth_unstable(rank - zeros).1 })
}
