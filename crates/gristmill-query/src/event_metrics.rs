//! What the metrics come to that custom events carry: the values in `custom_event.metrics`, an array of
//! `{"name", "value", "unit"}`, by name and unit.
//!
//! An array is read once for each dictionary entry that a selected event has. A value that is missing is
//! 0, which JSON made of protobuf leaves out; one that is no number does not count, and neither does an
//! element without a name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_model::{
    Aggregate, EventMetric, EventMetricsAnswer, EventMetricsQuery, Field, Reduction, Timestamp,
    limits,
};
use gristmill_store::{ABSENT, Dictionaries, Events, elements, number, property};

use crate::QueryError;
use crate::fold::{EventFold, Fold, View};
use crate::select::{Matcher, Plan};
use crate::series::cell::index_of;
use crate::series::sum::Sum;
use crate::tally::grow;

/// Where events have their metrics.
const METRICS: &str = "custom_event.metrics";

pub(crate) async fn answer(
    view: &View,
    query: &EventMetricsQuery,
) -> Result<EventMetricsAnswer, QueryError> {
    let mut plan = Plan::new(&query.selection)?;
    let column = plan.column(&Field::Property(METRICS.to_owned()));
    let (names, reduction) = (query.names.clone(), query.reduction);
    let wanted = Arc::new(Wanted { names, reduction, numbers: AtomicUsize::new(0) });
    let start = || MetricsFold {
        matcher: plan.matcher.clone(),
        column,
        gathering: Gathering::new(Arc::clone(&wanted)),
    };
    let found = view.fold_events(&plan, start).await?;
    view.compute(move || ranked(found, reduction)).await
}

/// The metrics in order.
fn ranked(found: HashMap<Key, Gathered>, reduction: Reduction) -> EventMetricsAnswer {
    let metric = |(key, mut gathered): (Key, Gathered)| EventMetric {
        name: key.name,
        unit: key.unit,
        value: gathered.value(reduction),
        count: gathered.count,
        latest: Timestamp(gathered.latest),
    };
    let mut metrics: Vec<_> = found.into_iter().map(metric).collect();
    metrics.sort_unstable_by(|a, b| (&a.name, &a.unit).cmp(&(&b.name, &b.unit)));
    EventMetricsAnswer { metrics }
}

/// Refuses more metrics than are told apart.
fn check(metrics: usize, bytes: usize) -> Result<(), QueryError> {
    let (most, most_bytes) = (limits::EVENT_METRICS, limits::EVENT_METRICS_BYTES);
    if metrics <= most && bytes <= most_bytes {
        return Ok(());
    }
    Err(QueryError::Invalid(format!(
        "the events carry more than {most} different metrics, or {most_bytes} bytes of their names \
         and units: name some in `metric_names` or ask for a shorter range"
    )))
}

/// What is asked for, and how many numbers all walks have kept.
struct Wanted {
    names: Vec<String>,
    reduction: Reduction,
    numbers: AtomicUsize,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        !name.is_empty() && (self.names.is_empty() || self.names.iter().any(|one| one == name))
    }

    fn spend(&self, numbers: usize) -> Result<(), QueryError> {
        let most = limits::EVENT_METRIC_NUMBERS;
        if numbers == 0 || self.numbers.fetch_add(numbers, Ordering::Relaxed) + numbers <= most {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "the percentiles are of more than {most} numbers: name fewer metrics in `metric_names` or \
             ask for a shorter range"
        )))
    }
}

/// What tells metrics apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    unit: String,
}

impl Key {
    fn bytes(&self) -> usize {
        self.name.len() + self.unit.len()
    }
}

/// What the values of a metric are so far.
struct Gathered {
    values: Values,
    count: u64,
    latest: i64,
}

enum Values {
    /// They are counted only.
    Nothing,
    Sum(Sum),
    Least(f64),
    Greatest(f64),
    All(Vec<f64>),
}

impl Gathered {
    fn new(reduction: Reduction) -> Self {
        let values = match reduction {
            Reduction::Count => Values::Nothing,
            Reduction::Of(Aggregate::Sum | Aggregate::Average) => Values::Sum(Sum::default()),
            Reduction::Of(Aggregate::Minimum) => Values::Least(f64::INFINITY),
            Reduction::Of(Aggregate::Maximum) => Values::Greatest(f64::NEG_INFINITY),
            Reduction::Of(Aggregate::Percentile(_)) => Values::All(Vec::new()),
        };
        Self { values, count: 0, latest: i64::MIN }
    }

    fn add(&mut self, number: f64, time: i64) {
        self.count += 1;
        self.latest = self.latest.max(time);
        match &mut self.values {
            Values::Nothing => {}
            Values::Sum(sum) => sum.add(number),
            Values::Least(least) => *least = least.min(number),
            Values::Greatest(greatest) => *greatest = greatest.max(number),
            Values::All(numbers) => numbers.push(number),
        }
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.latest = self.latest.max(other.latest);
        match (&mut self.values, other.values) {
            (Values::Sum(sum), Values::Sum(other)) => sum.join(&other),
            (Values::Least(least), Values::Least(other)) => *least = least.min(other),
            (Values::Greatest(greatest), Values::Greatest(other)) => {
                *greatest = greatest.max(other);
            }
            (Values::All(numbers), Values::All(mut other)) => {
                if numbers.len() < other.len() {
                    std::mem::swap(numbers, &mut other);
                }
                numbers.append(&mut other);
            }
            _ => {}
        }
    }

    fn value(&mut self, reduction: Reduction) -> Option<f64> {
        match (&mut self.values, reduction) {
            (Values::Nothing, _) => Some(self.count as f64),
            (Values::Sum(sum), Reduction::Of(Aggregate::Average)) => {
                Some(sum.value()? / self.count as f64)
            }
            (Values::Sum(sum), _) => sum.value(),
            (Values::Least(extreme) | Values::Greatest(extreme), _) => Some(*extreme),
            (Values::All(numbers), Reduction::Of(Aggregate::Percentile(percent))) => {
                let index = index_of(percent, numbers.len())?;
                Some(*numbers.select_nth_unstable_by(index, f64::total_cmp).1)
            }
            (Values::All(_), _) => None,
        }
    }
}

struct MetricsFold {
    matcher: Matcher,
    column: usize,
    gathering: Gathering,
}

/// The metrics of one walk.
struct Gathering {
    wanted: Arc<Wanted>,
    /// Of each code that an event had, where its values are.
    read: Vec<Option<Range<usize>>>,
    /// Values with the place of their metric.
    values: Vec<(usize, f64)>,
    places: HashMap<Key, usize>,
    bytes: usize,
    metrics: Vec<Gathered>,
}

impl Gathering {
    fn new(wanted: Arc<Wanted>) -> Self {
        let (read, values, metrics) = (Vec::new(), Vec::new(), Vec::new());
        Self { wanted, read, values, places: HashMap::new(), bytes: 0, metrics }
    }

    /// Takes in an event that carries the array of a code, and tells how many values that has. There
    /// must be room for the code.
    fn add(&mut self, code: u32, array: &str, time: i64) -> Result<usize, QueryError> {
        let values = match &self.read[code as usize] {
            Some(values) => values.clone(),
            None => {
                let values = self.read(array)?;
                self.read[code as usize] = Some(values.clone());
                values
            }
        };
        for (place, number) in &self.values[values.clone()] {
            self.metrics[*place].add(*number, time);
        }
        Ok(values.len())
    }

    /// Reads the values of an array.
    fn read(&mut self, array: &str) -> Result<Range<usize>, QueryError> {
        let first = self.values.len();
        for element in elements(array) {
            let Some(name) = property(element, "name") else { continue };
            let value = property(element, "value");
            // Adding 0 makes a negative zero an ordinary one.
            let value = value.map_or(Some(0.0), |text| number(&text)).map(|value| value + 0.0);
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            if self.wanted.has(&name) {
                let unit = property(element, "unit").unwrap_or_default().into_owned();
                let place = self.place(Key { name: name.into_owned(), unit })?;
                self.values.push((place, value));
            }
        }
        Ok(first..self.values.len())
    }

    fn place(&mut self, key: Key) -> Result<usize, QueryError> {
        let bytes = self.bytes + key.bytes();
        match self.places.entry(key) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(new) => {
                self.bytes = bytes;
                self.metrics.push(Gathered::new(self.wanted.reduction));
                check(self.metrics.len(), bytes)?;
                Ok(*new.insert(self.metrics.len() - 1))
            }
        }
    }
}

impl Fold for MetricsFold {
    type Partial = HashMap<Key, Gathered>;

    fn finish(self, _: Dictionaries<'_>) -> Self::Partial {
        let Gathering { places, metrics, .. } = self.gathering;
        let mut metrics: Vec<_> = metrics.into_iter().map(Some).collect();
        let metric = |(key, place): (Key, usize)| Some((key, metrics.get_mut(place)?.take()?));
        places.into_iter().filter_map(metric).collect()
    }

    fn merge(into: &mut Self::Partial, mut other: Self::Partial) {
        if into.len() < other.len() {
            std::mem::swap(into, &mut other);
        }
        for (key, gathered) in other {
            match into.entry(key) {
                Entry::Occupied(mut known) => known.get_mut().join(gathered),
                Entry::Vacant(new) => drop(new.insert(gathered)),
            }
        }
    }

    fn check(found: &Self::Partial) -> Result<(), QueryError> {
        check(found.len(), found.keys().map(Key::bytes).sum())
    }
}

impl EventFold for MetricsFold {
    fn events(&mut self, events: &Events<'_>) -> Result<(), QueryError> {
        let Self { matcher, column, gathering } = self;
        let (arrays, codes) = (&events.dictionaries[*column], events.columns[*column]);
        grow(&mut gathering.read, arrays.len());
        let kept = matcher.kept(events);
        let mut numbers = 0;
        for (row, code) in codes.iter().enumerate() {
            if *code == ABSENT || !kept.has(row) {
                continue;
            }
            if let Some(array) = arrays.text(*code) {
                numbers += gathering.add(*code, array, events.times[row])?;
            }
        }
        match gathering.wanted.reduction {
            Reduction::Of(Aggregate::Percentile(_)) => gathering.wanted.spend(numbers),
            Reduction::Count | Reduction::Of(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
