//! Which events count: the conditions of a selection and of what a question looks for in it.
//!
//! A condition on a value is decided once per dictionary entry, never per event: every column that
//! is looked at has a table from code to the conditions that hold, one bit each, and to what
//! follows from them for the question where one column decides. Where several columns decide
//! together, the bits of an event are those of its columns, and what follows from them is worked
//! out once for each combination that occurs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use gristmill_model::{EventMatch, Field, Filter, Grouping, Selection, Test, Value, limits};
use gristmill_store::{Dictionary, Events, HourRows, Precision, Scan};

use crate::QueryError;
use crate::cohort::Members;
use crate::marked::{Marked, Moments};
use crate::membership::MembershipColumn;
use crate::value_test::ReadyTest;

/// The bit of the selection itself; the bits from 0 on are those of what a question looks for,
/// such as a funnel's steps.
pub(crate) const SELECTED: u32 = 1 << 31;
const EVERY: u32 = u32::MAX;
/// How many combinations of bits are remembered.
const KNOWN: usize = 1 << 16;
const _: () = assert!(limits::FUNNEL_STEPS < 32);
const _: () = assert!(limits::CONDITIONS <= u128::BITS as usize);

/// A walk and the conditions on its events.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) scan: Scan,
    pub(crate) matcher: Matcher,
    pub(crate) memberships: Vec<MembershipColumn>,
}

impl Plan {
    /// A walk through the selected events.
    pub(crate) fn new(selection: &Selection) -> Result<Self, QueryError> {
        let scan = Scan { range: selection.range, ..Scan::of(selection.project.clone()) };
        let mut plan = Self { scan, matcher: Matcher::default(), memberships: Vec::new() };
        plan.keep_types(EVERY, &selection.event_types)?;
        selection.filters.iter().try_for_each(|filter| plan.select(filter))?;
        Ok(plan)
    }

    /// Keeps what a filter keeps; a user that it asks for is found by the store.
    fn select(&mut self, filter: &Filter) -> Result<(), QueryError> {
        match filter {
            Filter::All(filters) => filters.iter().try_for_each(|filter| self.select(filter)),
            filter => match only_user(filter) {
                Some(user) => self.keep_user(user),
                None => self.keep(EVERY, filter),
            },
        }
    }

    /// Keeps one user only. The store finds the user; asking for two finds nobody.
    pub(crate) fn keep_user(&mut self, user: &str) -> Result<(), QueryError> {
        if self.scan.user.is_some() {
            return self.keep(EVERY, &Filter::equals(Field::UserId, user));
        }
        self.scan.user = Some(user.to_owned());
        Ok(())
    }

    /// Has the walk tell hours instead of times, unless that gains nothing, and says whether it does.
    pub(crate) fn tell_hours(&mut self) -> bool {
        // The events of one user are few, and read without those of others.
        if self.scan.user.is_none() {
            self.scan.precision = Precision::Hours;
        }
        self.scan.precision == Precision::Hours
    }

    /// Has the walk tell no moments, unless that gains nothing.
    pub(crate) fn tell_no_moments(&mut self) {
        if self.scan.user.is_none() {
            self.scan.precision = Precision::Untold;
        }
    }

    /// The place of a field's column in the runs of the walk.
    pub(crate) fn column(&mut self, field: &Field) -> usize {
        let Self { scan: Scan { fields, .. }, memberships, .. } = self;
        let is_plain = |column| memberships.iter().all(|other| other.column != column);
        let is_known = |column: &usize| fields[*column] == *field && is_plain(*column);
        (0..fields.len()).find(is_known).unwrap_or_else(|| {
            fields.push(field.clone());
            fields.len() - 1
        })
    }

    /// The place of the column that holds what events are grouped by.
    pub(crate) fn grouping(&mut self, grouping: &Grouping) -> usize {
        let id = match grouping {
            Grouping::Field(field) => return self.column(field),
            Grouping::Cohort(id) => id,
        };
        if let Some(known) = self.memberships.iter().find(|known| known.cohort == *id) {
            return known.column;
        }
        let column = self.scan.fields.len();
        self.scan.fields.push(Field::UserId);
        let (cohort, members) = (id.clone(), Arc::default());
        self.memberships.push(MembershipColumn { column, cohort, members });
        column
    }

    /// The cohorts that are asked for, each with the place where its members go before the walk;
    /// clones share the place.
    pub(crate) fn cohorts(&self) -> impl Iterator<Item = (&str, &OnceLock<Arc<Members>>)> {
        let columns = self.memberships.iter();
        let columns = columns.map(|column| (column.cohort.as_str(), &*column.members));
        self.matcher.cohorts().chain(columns)
    }

    /// The place of a field's numbers in the events of the walk.
    pub(crate) fn numbers(&mut self, field: &Field) -> usize {
        let fields = &mut self.scan.numbers;
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
        self.matcher.require(bits, condition);
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
        self.matcher.parts += 1;
        let most = limits::FILTER_PARTS;
        if self.matcher.parts > most {
            return Err(QueryError::Invalid(format!(
                "the filters of the question have more than {most} parts"
            )));
        }
        let mut all = |filters: &[Filter]| -> Result<Vec<Condition>, QueryError> {
            filters.iter().map(|filter| self.condition(filter, depth + 1)).collect()
        };
        Ok(match filter {
            Filter::All(filters) => Condition::All(all(filters)?),
            Filter::Any(filters) => Condition::Any(all(filters)?),
            Filter::Not(filter) => {
                // Together these are one condition, such as `!=`.
                let deeper = usize::from(!matches!(**filter, Filter::Where(..)));
                Condition::Not(Box::new(self.condition(filter, depth + deeper)?))
            }
            Filter::Where(field, test) => {
                let column = self.column(field);
                Condition::Bit(self.matcher.bit(column, field, test)?)
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
    regexes: usize,
    parts: usize,
    /// The requirements that need several columns.
    mixed: Vec<Requirement>,
    /// What follows from some of the combinations of bits that were met.
    known: HashMap<u128, u32>,
    words: Vec<u128>,
    sets: Vec<u32>,
    /// The moments at hand where only hours are known, and the bits that they keep.
    hours: Vec<i64>,
    hour_sets: Vec<u32>,
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
    tests: Vec<(Arc<(Test, ReadyTest)>, u128)>,
    /// The requirements that need this column only.
    requirements: Vec<Requirement>,
    /// For each code, the tests that it passes, and the bits that the requirements leave.
    words: Vec<u128>,
    kept: Vec<u32>,
}

impl Matcher {
    /// Calls `each` with every row that the selection keeps, in order. Each row must be one event.
    pub(crate) fn for_each(&mut self, events: &Events<'_>, mut each: impl FnMut(usize)) {
        debug_assert!(events.counts.is_empty());
        let kept = self.kept(events);
        // There is one call only, so that it becomes a part of the loop.
        for row in 0..events.rows {
            if kept.has(row) {
                each(row);
            }
        }
    }

    /// Which events the selection keeps.
    pub(crate) fn kept<'a>(&'a mut self, events: &'a Events<'_>) -> Marked<'a> {
        let counts = events.counts;
        Marked::new(if self.keeps_all() { &[] } else { self.sets(events) }, SELECTED, counts)
    }

    /// Whether there is no condition at all.
    pub(crate) fn keeps_all(&self) -> bool {
        self.tables.is_empty() && self.mixed.is_empty()
    }

    /// The bits that each event keeps.
    pub(crate) fn sets(&mut self, events: &Events<'_>) -> &[u32] {
        self.sets.clear();
        for table in &mut self.tables {
            table.learn(&events.dictionaries[table.column]);
        }
        for table in self.tables.iter().filter(|table| !table.requirements.is_empty()) {
            let kept = events.columns[table.column].iter().map(|code| table.kept(*code));
            if self.sets.is_empty() {
                self.sets.extend(kept);
            } else {
                self.sets.iter_mut().zip(kept).for_each(|(set, kept)| *set &= kept);
            }
        }
        self.sets.resize(events.rows, EVERY);
        if !self.mixed.is_empty() {
            self.clear_mixed(events);
        }
        &self.sets
    }

    /// When the events happened, with the bits that each keeps. Where only hours are known, those of
    /// an hour are one event at its first moment, which keeps what any of them does.
    pub(crate) fn moments<'a>(&'a mut self, events: &'a Events<'_>) -> Moments<'a> {
        if events.hours.is_empty() {
            return Moments { times: events.times, sets: self.sets(events) };
        }
        self.hours.clear();
        self.hours.extend(events.hours.iter().map(HourRows::begins));
        self.hour_sets.clear();
        if self.keeps_all() {
            self.hour_sets.resize(events.hours.len(), EVERY);
        } else {
            self.sets(events);
            let of_hour = |hour: &HourRows| self.sets[hour.rows()].iter().fold(0, |a, b| a | b);
            self.hour_sets.extend(events.hours.iter().map(of_hour));
        }
        Moments { times: &self.hours, sets: &self.hour_sets }
    }

    /// The cohorts that tests ask for.
    fn cohorts(&self) -> impl Iterator<Item = (&str, &OnceLock<Arc<Members>>)> {
        let tests = self.tables.iter().flat_map(|table| &table.tests);
        tests.filter_map(|(test, _)| match test.as_ref() {
            (Test::MemberOf(id), ReadyTest::MemberOf(members)) => Some((id.as_str(), &**members)),
            _ => None,
        })
    }

    fn clear_mixed(&mut self, events: &Events<'_>) {
        self.words.clear();
        self.words.resize(events.rows, 0);
        for table in &self.tables {
            for (word, code) in self.words.iter_mut().zip(events.columns[table.column]) {
                *word |= table.word(*code);
            }
        }
        // Events of one user that follow each other are often alike.
        let (mut last, mut known) = (0, None);
        for (set, &word) in self.sets.iter_mut().zip(&self.words) {
            let kept = match known {
                Some(kept) if word == last => kept,
                _ => {
                    if self.known.len() > KNOWN {
                        self.known.clear();
                    }
                    let requirements = &self.mixed;
                    *self.known.entry(word).or_insert_with(|| kept_by(requirements, word))
                }
            };
            (last, known) = (word, Some(kept));
            *set &= kept;
        }
    }

    fn require(&mut self, bits: u32, condition: Condition) {
        let needed = condition.bits();
        let mut tables = self.tables.iter_mut().filter(|table| table.bits() & needed != 0);
        let requirement = Requirement { bits, condition };
        match (tables.next(), tables.next()) {
            (Some(table), None) => table.requirements.push(requirement),
            _ => self.mixed.push(requirement),
        }
    }

    /// The bit of a test on a column, which is that of a field.
    fn bit(&mut self, column: usize, field: &Field, test: &Test) -> Result<u128, QueryError> {
        let known = self.tables.iter().position(|table| table.column == column);
        let index = known.unwrap_or_else(|| {
            self.tables.push(Table::of(column));
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        if let Some((_, bit)) = table.tests.iter().find(|(known, _)| known.0 == *test) {
            return Ok(*bit);
        }
        let most = limits::CONDITIONS;
        if self.bits == most {
            return Err(QueryError::Invalid(format!(
                "the question has more than {most} different conditions"
            )));
        }
        let most = limits::REGEXES;
        self.regexes += usize::from(matches!(test, Test::Matches(_)));
        if self.regexes > most {
            return Err(QueryError::Invalid(format!("the question has more than {most} `regex`")));
        }
        let bit = 1 << self.bits;
        let ready = ReadyTest::of(test).map_err(|error| error.in_condition_on(field))?;
        table.tests.push((Arc::new((test.clone(), ready)), bit));
        self.bits += 1;
        Ok(bit)
    }
}

fn kept_by(requirements: &[Requirement], word: u128) -> u32 {
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

    /// All bits that it looks at.
    fn bits(&self) -> u128 {
        match self {
            Condition::Bit(bit) => *bit,
            Condition::All(conditions) | Condition::Any(conditions) => {
                conditions.iter().fold(0, |bits, condition| bits | condition.bits())
            }
            Condition::Not(condition) => condition.bits(),
        }
    }
}

impl Table {
    fn of(column: usize) -> Self {
        let (tests, requirements) = (Vec::new(), Vec::new());
        Self { column, tests, requirements, words: Vec::new(), kept: Vec::new() }
    }

    /// The bits of its tests.
    fn bits(&self) -> u128 {
        self.tests.iter().fold(0, |bits, (_, bit)| bits | bit)
    }

    /// An event without the field, whose code is above all others, passes no test.
    fn word(&self, code: u32) -> u128 {
        self.words.get(code as usize).copied().unwrap_or(0)
    }

    /// What the requirements leave of an event's bits; the last entry is for the absent value.
    fn kept(&self, code: u32) -> u32 {
        let last = self.kept.len() - 1;
        self.kept[(code as usize).min(last)]
    }

    fn learn(&mut self, dictionary: &Dictionary) {
        if self.words.len() == dictionary.len() && !self.kept.is_empty() {
            return;
        }
        self.kept.pop();
        for code in self.words.len()..dictionary.len() {
            let word = dictionary.text(code as u32).map_or(0, |text| self.word_of(text));
            self.words.push(word);
            self.kept.push(kept_by(&self.requirements, word));
        }
        self.kept.push(kept_by(&self.requirements, 0));
    }

    fn word_of(&self, text: &str) -> u128 {
        let passed = self.tests.iter().filter(|(test, _)| test.1.passes(text));
        passed.fold(0, |word, (_, bit)| word | bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::all;

    fn plan(filter: Filter) -> Result<Plan, String> {
        let selection = Selection { filters: vec![filter], ..all() };
        Plan::new(&selection).map_err(|error| error.to_string())
    }

    fn equals(field: &str, text: usize) -> Filter {
        Filter::equals(Field::from_name(field), text.to_string())
    }

    #[test]
    fn a_question_has_limits() {
        let different = |count| (0..count).map(|n| equals("a", n)).collect();
        assert!(plan(Filter::Any(different(limits::CONDITIONS))).is_ok());
        let error = plan(Filter::Any(different(limits::CONDITIONS + 1))).err().unwrap();
        assert_eq!(error, "the question has more than 128 different conditions");
        let alike = vec![equals("a", 0); limits::FILTER_PARTS];
        let error = plan(Filter::Any(alike)).err().unwrap();
        assert_eq!(error, "the filters of the question have more than 1000 parts");
        let regex = |n: usize| Filter::Where(Field::Source, Test::Matches(n.to_string()));
        let error = plan(Filter::Any((0..=limits::REGEXES).map(regex).collect())).err().unwrap();
        assert_eq!(error, "the question has more than 8 `regex`");
        let nested = |depth| {
            (1..depth)
                .fold(Filter::Not(Box::new(equals("a", 0))), |inner, _| Filter::Any(vec![inner]))
        };
        assert!(plan(nested(limits::FILTER_DEPTH)).is_ok());
        assert!(plan(nested(limits::FILTER_DEPTH + 1)).err().unwrap().contains("16 levels"));
    }

    #[test]
    fn a_user_is_found_by_the_store_also_within_and() {
        let filter = Filter::All(vec![equals("a", 0), equals("user_id", 7)]);
        let plan = plan(filter).unwrap();
        assert_eq!(plan.scan.user.as_deref(), Some("7"));
        assert_eq!(plan.scan.fields, [Field::from_name("a")]);
    }
}
