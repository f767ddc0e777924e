//! Which events count: the conditions of a selection and of funnel steps.
//!
//! A condition on a text is decided once per dictionary entry, never per event: every column that
//! is looked at has a table from code to the set of conditions that the text leaves standing, one
//! bit each. An event's set is the intersection over its columns.

use gristmill_model::{EventMatch, Field, Filter, Selection, limits};
use gristmill_store::{Dictionary, Scan, UserRun};

use crate::QueryError;

/// The bit of the selection itself; the bits from 0 on are those of a funnel's steps.
pub(crate) const SELECTED: u32 = 1 << 31;
const EVERY: u32 = u32::MAX;
const _: () = assert!(limits::FUNNEL_STEPS < 32);

/// A walk and the conditions on its events.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) scan: Scan,
    pub(crate) matcher: Matcher,
}

impl Plan {
    /// A walk through the selected events.
    pub(crate) fn new(selection: &Selection) -> Result<Self, QueryError> {
        let scan = Scan {
            project: selection.project.clone(),
            user: None,
            range: selection.range,
            fields: Vec::new(),
        };
        let mut plan = Self { scan, matcher: Matcher::default() };
        if !selection.event_types.is_empty() {
            plan.require(EVERY, &Field::EventType, selection.event_types.clone());
        }
        let (users, others): (Vec<_>, Vec<_>) =
            selection.filters.iter().cloned().partition(|filter| filter.field == Field::UserId);
        for filter in &users {
            plan.keep_user(&filter.equals);
        }
        plan.filter(EVERY, &others)?;
        Ok(plan)
    }

    /// Keeps one user only. The store finds the user; asking for two finds nobody.
    pub(crate) fn keep_user(&mut self, user: &str) {
        if self.scan.user.is_none() {
            self.scan.user = Some(user.to_owned());
        } else {
            self.require(EVERY, &Field::UserId, vec![user.to_owned()]);
        }
    }

    /// The place of a field's column in the runs of the walk.
    pub(crate) fn column(&mut self, field: &Field) -> usize {
        let fields = &mut self.scan.fields;
        fields.iter().position(|known| known == field).unwrap_or_else(|| {
            fields.push(field.clone());
            fields.len() - 1
        })
    }

    /// Clears `bits` from events whose field has none of the texts.
    pub(crate) fn require(&mut self, bits: u32, field: &Field, texts: Vec<String>) {
        let column = self.column(field);
        self.matcher.require(column, Condition { bits, texts });
    }

    /// Clears `bits` from events that do not match.
    pub(crate) fn keep(&mut self, bits: u32, events: &EventMatch) -> Result<(), QueryError> {
        if !events.event_types.is_empty() {
            self.require(bits, &Field::EventType, events.event_types.clone());
        }
        self.filter(bits, &events.filters)
    }

    /// Clears `bits` from events that one of the filters does not keep.
    pub(crate) fn filter(&mut self, bits: u32, filters: &[Filter]) -> Result<(), QueryError> {
        if filters.len() > limits::FILTERS {
            let most = limits::FILTERS;
            return Err(QueryError::Invalid(format!("`filters` must be at most {most}")));
        }
        for filter in filters {
            self.require(bits, &filter.field, vec![filter.equals.clone()]);
        }
        Ok(())
    }
}

/// Decides which conditions an event fulfils.
#[derive(Clone, Default)]
pub(crate) struct Matcher {
    tables: Vec<Table>,
    sets: Vec<u32>,
}

/// What the codes of one column leave standing.
#[derive(Clone)]
struct Table {
    column: usize,
    conditions: Vec<Condition>,
    sets: Vec<u32>,
    absent: u32,
}

#[derive(Clone)]
struct Condition {
    bits: u32,
    texts: Vec<String>,
}

impl Matcher {
    /// Calls `each` with every row of the run that the selection keeps, in order.
    pub(crate) fn for_each(&mut self, run: &UserRun<'_>, mut each: impl FnMut(usize)) {
        if self.tables.is_empty() {
            return (0..run.times.len()).for_each(each);
        }
        for (row, set) in self.sets(run).iter().enumerate() {
            if set & SELECTED != 0 {
                each(row);
            }
        }
    }

    /// The bits that each event of the run keeps.
    pub(crate) fn sets(&mut self, run: &UserRun<'_>) -> &[u32] {
        self.sets.clear();
        self.sets.resize(run.times.len(), EVERY);
        for table in &mut self.tables {
            table.learn(&run.dictionaries[table.column]);
            for (set, code) in self.sets.iter_mut().zip(run.columns[table.column]) {
                *set &= table.set(*code);
            }
        }
        &self.sets
    }

    fn require(&mut self, column: usize, condition: Condition) {
        let known = self.tables.iter().position(|table| table.column == column);
        let index = known.unwrap_or_else(|| {
            let (conditions, sets) = (Vec::new(), Vec::new());
            self.tables.push(Table { column, conditions, sets, absent: EVERY });
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        table.absent &= !condition.bits;
        table.conditions.push(condition);
    }
}

impl Table {
    /// No condition on a field holds for an event without it, whose code is above all others.
    fn set(&self, code: u32) -> u32 {
        self.sets.get(code as usize).copied().unwrap_or(self.absent)
    }

    fn learn(&mut self, dictionary: &Dictionary) {
        for code in self.sets.len()..dictionary.len() {
            let set = dictionary.text(code as u32).map_or(self.absent, |text| self.set_of(text));
            self.sets.push(set);
        }
    }

    fn set_of(&self, text: &str) -> u32 {
        let failed = self.conditions.iter().filter(|c| c.texts.iter().all(|wanted| wanted != text));
        failed.fold(EVERY, |set, condition| set & !condition.bits)
    }
}
