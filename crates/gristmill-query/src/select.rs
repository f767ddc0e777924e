//! Which events count: the conditions of a selection and of what a question looks for in it.
//!
//! A condition on a value is decided once per dictionary entry, never per event: every column that
//! is looked at has a table from code to the conditions that hold, one bit each. The bits of an
//! event are those of its columns together, and what follows from them for the question is worked
//! out once for each combination that occurs.

use std::collections::HashMap;

use gristmill_model::{EventMatch, Field, Filter, Selection, Test, Value, limits};
use gristmill_store::{Dictionary, Scan, UserRun};

use crate::QueryError;
use crate::value_test::ReadyTest;

/// The bit of the selection itself; the bits from 0 on are those of a funnel's steps.
pub(crate) const SELECTED: u32 = 1 << 31;
const EVERY: u32 = u32::MAX;
const _: () = assert!(limits::FUNNEL_STEPS < 32);
const _: () = assert!(limits::CONDITIONS <= u128::BITS as usize);

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
        plan.keep_types(EVERY, &selection.event_types)?;
        for filter in &selection.filters {
            match only_user(filter) {
                Some(user) => plan.keep_user(user)?,
                None => plan.keep(EVERY, filter)?,
            }
        }
        Ok(plan)
    }

    /// Keeps one user only. The store finds the user; asking for two finds nobody.
    pub(crate) fn keep_user(&mut self, user: &str) -> Result<(), QueryError> {
        if self.scan.user.is_some() {
            return self.keep(EVERY, &Filter::equals(Field::UserId, user));
        }
        self.scan.user = Some(user.to_owned());
        Ok(())
    }

    /// The place of a field's column in the runs of the walk.
    pub(crate) fn column(&mut self, field: &Field) -> usize {
        let fields = &mut self.scan.fields;
        fields.iter().position(|known| known == field).unwrap_or_else(|| {
            fields.push(field.clone());
            fields.len() - 1
        })
    }

    /// Clears `bits` from events of other types; none means that all types are kept.
    pub(crate) fn keep_types(&mut self, bits: u32, types: &[String]) -> Result<(), QueryError> {
        if types.is_empty() {
            return Ok(());
        }
        let types = types.iter().cloned().map(Value::Text).collect();
        self.keep(bits, &Filter::Where(Field::EventType, Test::In(types)))
    }

    /// Clears `bits` from events that the filter does not keep.
    pub(crate) fn keep(&mut self, bits: u32, filter: &Filter) -> Result<(), QueryError> {
        let condition = self.condition(filter, 1)?;
        self.matcher.requirements.push(Requirement { bits, condition });
        Ok(())
    }

    /// Clears `bits` from events that do not match.
    pub(crate) fn keep_matching(
        &mut self,
        bits: u32,
        events: &EventMatch,
    ) -> Result<(), QueryError> {
        self.keep_types(bits, &events.event_types)?;
        events.filters.iter().try_for_each(|filter| self.keep(bits, filter))
    }

    fn condition(&mut self, filter: &Filter, depth: usize) -> Result<Condition, QueryError> {
        let most = limits::FILTER_DEPTH;
        if depth > most {
            return Err(QueryError::Invalid(format!(
                "a filter is nested more than {most} levels deep"
            )));
        }
        let mut all = |filters: &[Filter]| -> Result<Vec<Condition>, QueryError> {
            filters.iter().map(|filter| self.condition(filter, depth + 1)).collect()
        };
        Ok(match filter {
            Filter::All(filters) => Condition::All(all(filters)?),
            Filter::Any(filters) => Condition::Any(all(filters)?),
            Filter::Not(filter) => Condition::Not(Box::new(self.condition(filter, depth + 1)?)),
            Filter::Where(field, test) => {
                let column = self.column(field);
                Condition::Bit(self.matcher.bit(column, test)?)
            }
        })
    }
}

/// The user that a filter keeps, if that is all it does.
fn only_user(filter: &Filter) -> Option<&str> {
    match filter {
        Filter::Where(Field::UserId, Test::In(values)) => match values.as_slice() {
            [Value::Text(user)] => Some(user),
            _ => None,
        },
        _ => None,
    }
}

/// Decides which conditions an event fulfils.
#[derive(Clone, Default)]
pub(crate) struct Matcher {
    tables: Vec<Table>,
    bits: usize,
    requirements: Vec<Requirement>,
    /// What follows from the combinations of bits that were met.
    known: HashMap<u128, u32>,
    words: Vec<u128>,
    sets: Vec<u32>,
}

/// The bits to clear from events for which a condition does not hold.
#[derive(Clone)]
struct Requirement {
    bits: u32,
    condition: Condition,
}

/// A condition over the bits of an event.
#[derive(Clone)]
enum Condition {
    Bit(u128),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// What the codes of one column say.
#[derive(Clone)]
struct Table {
    column: usize,
    tests: Vec<(Test, ReadyTest, u128)>,
    words: Vec<u128>,
}

impl Matcher {
    /// Calls `each` with every row of the run that the selection keeps, in order.
    pub(crate) fn for_each(&mut self, run: &UserRun<'_>, mut each: impl FnMut(usize)) {
        if self.requirements.is_empty() {
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
        self.words.clear();
        self.words.resize(run.times.len(), 0);
        for table in &mut self.tables {
            table.learn(&run.dictionaries[table.column]);
            for (word, code) in self.words.iter_mut().zip(run.columns[table.column]) {
                *word |= table.word(*code);
            }
        }
        self.sets.clear();
        // Events of one user that follow each other are often alike.
        let (mut last, mut set) = (0, None);
        for &word in &self.words {
            let new = match set {
                Some(set) if word == last => set,
                _ => {
                    let requirements = &self.requirements;
                    *self.known.entry(word).or_insert_with(|| set_of(requirements, word))
                }
            };
            (last, set) = (word, Some(new));
            self.sets.push(new);
        }
        &self.sets
    }

    /// The bit of a test on a column.
    fn bit(&mut self, column: usize, test: &Test) -> Result<u128, QueryError> {
        let known = self.tables.iter().position(|table| table.column == column);
        let index = known.unwrap_or_else(|| {
            self.tables.push(Table { column, tests: Vec::new(), words: Vec::new() });
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        if let Some((_, _, bit)) = table.tests.iter().find(|(known, _, _)| known == test) {
            return Ok(*bit);
        }
        let most = limits::CONDITIONS;
        if self.bits == most {
            return Err(QueryError::Invalid(format!(
                "the question has more than {most} different conditions"
            )));
        }
        let bit = 1 << self.bits;
        table.tests.push((test.clone(), ReadyTest::of(test)?, bit));
        self.bits += 1;
        Ok(bit)
    }
}

fn set_of(requirements: &[Requirement], word: u128) -> u32 {
    let failed = requirements.iter().filter(|requirement| !requirement.condition.holds(word));
    failed.fold(EVERY, |set, requirement| set & !requirement.bits)
}

impl Condition {
    fn holds(&self, word: u128) -> bool {
        match self {
            Condition::Bit(bit) => word & bit != 0,
            Condition::All(all) => all.iter().all(|condition| condition.holds(word)),
            Condition::Any(any) => any.iter().any(|condition| condition.holds(word)),
            Condition::Not(condition) => !condition.holds(word),
        }
    }
}

impl Table {
    /// An event without the field, whose code is above all others, passes no test.
    fn word(&self, code: u32) -> u128 {
        self.words.get(code as usize).copied().unwrap_or(0)
    }

    fn learn(&mut self, dictionary: &Dictionary) {
        for code in self.words.len()..dictionary.len() {
            let word = dictionary.text(code as u32).map_or(0, |text| self.word_of(text));
            self.words.push(word);
        }
    }

    fn word_of(&self, text: &str) -> u128 {
        let passed = self.tests.iter().filter(|(_, test, _)| test.passes(text));
        passed.fold(0, |word, (_, _, bit)| word | bit)
    }
}
