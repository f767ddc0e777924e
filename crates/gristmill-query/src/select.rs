//! Which events count: the conditions of a selection and of funnel steps.
//!
//! A condition on a text is decided once per dictionary entry, never per event: every column that
//! is looked at has a table from code to the set of conditions that the text leaves standing, one
//! bit each. An event's set is the intersection over its columns.

use gristmill_model::{Field, Filter, Selection, limits};
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
}

#[derive(Clone)]
struct Table {
    column: usize,
    conditions: Vec<Condition>,
    sets: Vec<u32>,
}

#[derive(Clone)]
struct Condition {
    bits: u32,
    texts: Vec<String>,
}

impl Matcher {
    /// Calls `each` with every row of the run that the selection keeps, in order.
    pub(crate) fn for_each(&mut self, run: &UserRun<'_>, mut each: impl FnMut(usize)) {
        self.learn(run.dictionaries);
        match self.tables.as_slice() {
            [] => (0..run.times.len()).for_each(each),
            [table] => {
                for (row, code) in run.columns[table.column].iter().enumerate() {
                    if table.set(*code) & SELECTED != 0 {
                        each(row);
                    }
                }
            }
            _ => {
                for row in 0..run.times.len() {
                    if self.set(run, row) & SELECTED != 0 {
                        each(row);
                    }
                }
            }
        }
    }

    /// Takes in new dictionary entries. Needed once per run, before [`set`](Self::set).
    pub(crate) fn learn(&mut self, dictionaries: &[Dictionary]) {
        for table in &mut self.tables {
            table.learn(&dictionaries[table.column]);
        }
    }

    /// The bits that the event in `row` keeps.
    pub(crate) fn set(&self, run: &UserRun<'_>, row: usize) -> u32 {
        let sets = self.tables.iter().map(|table| table.set(run.columns[table.column][row]));
        sets.fold(EVERY, |all, set| all & set)
    }

    fn require(&mut self, column: usize, condition: Condition) {
        match self.tables.iter_mut().find(|table| table.column == column) {
            Some(table) => table.conditions.push(condition),
            None => {
                let conditions = vec![condition];
                self.tables.push(Table { column, conditions, sets: Vec::new() });
            }
        }
    }
}

impl Table {
    /// No condition on a field holds for an event without it, whose code is above all others.
    fn set(&self, code: u32) -> u32 {
        self.sets.get(code as usize).copied().unwrap_or_else(|| self.set_of(None))
    }

    fn learn(&mut self, dictionary: &Dictionary) {
        for code in self.sets.len()..dictionary.len() {
            self.sets.push(self.set_of(dictionary.text(code as u32)));
        }
    }

    fn set_of(&self, text: Option<&str>) -> u32 {
        let holds = |condition: &Condition| {
            text.is_some_and(|text| condition.texts.iter().any(|wanted| wanted == text))
        };
        let failed = self.conditions.iter().filter(|condition| !holds(condition));
        failed.fold(EVERY, |set, condition| set & !condition.bits)
    }
}
