//! Properties that have a column of their own, so that a filter or a breakdown on them reads codes
//! instead of JSON.
//!
//! Such a column holds for every row just what [`property`](crate::property) says, so which
//! properties have one never shows in an answer. Parts get them when they are merged, which is
//! when there is time for it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::texts::Texts;
use crate::property::{members, text_of};

/// How many properties of a part have a column at most.
const COLUMNS: usize = 16;
/// A property must be in one row of so many: columns of few values take next to no room.
const ROWS_PER_VALUE: usize = 64;
/// And on average each of its values must be in so many rows, for others gain nothing by codes;
/// unless they are numbers, which are added up.
const ROWS_PER_TEXT: usize = 4;
/// The longest name of a column, in bytes, and how many names are looked at.
const NAME_BYTES: usize = 64;
const NAMES: usize = 1024;

/// Finds out which properties are worth a column from some of the rows.
#[derive(Default)]
pub(super) struct Census {
    rows: usize,
    seen: HashMap<String, Seen>,
}

#[derive(Default)]
struct Seen {
    rows: usize,
    numbers: usize,
    texts: HashSet<u64>,
}

impl Census {
    /// Counts the properties of one row.
    pub(super) fn add(&mut self, properties: &str) {
        self.rows += 1;
        for (key, value) in members(properties) {
            // A dot may also stand for a property of a property.
            if value.starts_with(['{', '[', 'n']) || key.contains('.') || key.len() > NAME_BYTES {
                continue;
            }
            if !self.seen.contains_key(key.as_ref()) {
                if self.seen.len() == NAMES {
                    continue;
                }
                self.seen.insert(key.clone().into_owned(), Seen::default());
            }
            if let Some(seen) = self.seen.get_mut(key.as_ref()) {
                seen.rows += 1;
                seen.numbers += usize::from(value.starts_with(is_of_number));
                seen.texts.insert(xxh3_64(value.as_bytes()));
            }
        }
    }

    /// The properties that are worth a column, in order of their names. Those that repeat come before
    /// numbers if there are too many.
    pub(super) fn finish(self) -> Vec<String> {
        let repeats = |seen: &Seen| seen.rows >= seen.texts.len() * ROWS_PER_TEXT;
        let is_number = |seen: &Seen| seen.numbers == seen.rows && seen.rows >= ROWS_PER_TEXT;
        let is_frequent = |seen: &Seen| seen.rows * ROWS_PER_VALUE >= self.rows;
        let is_worth = |seen: &Seen| is_frequent(seen) && (repeats(seen) || is_number(seen));
        let mut worth: Vec<_> = self.seen.iter().filter(|(_, seen)| is_worth(seen)).collect();
        worth.sort_by_key(|&(name, seen)| (!repeats(seen), Reverse(seen.rows), name));
        let mut names: Vec<_> =
            worth.into_iter().take(COLUMNS).map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

/// Whether a number of JSON may begin with it.
fn is_of_number(first: char) -> bool {
    first == '-' || first.is_ascii_digit()
}

/// The columns of some properties: one column for each name.
pub(super) fn shred(names: &[String], properties: &Texts) -> Vec<Texts> {
    let rows = properties.len();
    let mut columns: Vec<_> = names.iter().map(|_| Texts::with_capacity(rows, rows * 8)).collect();
    let mut values = vec![None; names.len()];
    for row in 0..rows {
        values.fill(None);
        let mut missing = names.len();
        let mut members = members(properties.text(row));
        while missing > 0
            && let Some((key, value)) = members.next()
        {
            let place = names.iter().position(|name| *name == key);
            // Of repeated keys the first counts.
            if let Some(place) = place.filter(|&place| values[place].is_none()) {
                values[place] = Some(value);
                missing -= 1;
            }
        }
        for (column, value) in columns.iter_mut().zip(&values) {
            column.push_option(value.and_then(text_of).as_deref());
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::property;

    #[test]
    fn a_column_is_worth_it_for_repeated_scalars_and_numbers() {
        let mut census = Census::default();
        for row in 0..640 {
            let seldom = if row % 64 == 0 { r#","seldom":true"# } else { "" };
            let rare = if row % 128 == 0 { r#","rare":1"# } else { "" };
            census.add(&format!(
                r#"{{"plan":"p{}","id":"{row}","amount":-{row}.5,"mixed":{},"nested":{{"a":1}},"none":null,"a.b":1{seldom}{rare}}}"#,
                row % 3,
                if row == 7 { "true".to_owned() } else { row.to_string() },
            ));
        }
        assert_eq!(census.finish(), ["amount", "plan", "seldom"]);
        assert_eq!(Census::default().finish(), [""; 0]);
    }

    #[test]
    fn what_repeats_comes_before_numbers() {
        let mut census = Census::default();
        for row in 0..100 {
            let mut numbers: Vec<_> = (0..COLUMNS).map(|n| format!(r#""n{n:02}":{row}"#)).collect();
            if row % 2 == 0 {
                numbers.push(r#""plan":"pro""#.to_owned());
            }
            census.add(&format!("{{{}}}", numbers.join(",")));
        }
        let names = census.finish();
        assert_eq!(names.len(), COLUMNS);
        assert_eq!(names.last().map(String::as_str), Some("plan"));
    }

    #[test]
    fn of_repeated_keys_the_first_counts() {
        let mut texts = Texts::with_capacity(0, 0);
        texts.push(r#"{"a":null,"a":1,"b":1,"b":null}"#);
        let columns = shred(&["a".to_owned(), "b".to_owned()], &texts);
        assert_eq!((columns[0].option(0), columns[1].option(0)), (None, Some("1")));
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::json;
        prop_oneof![
            Just(json!(null)),
            Just(json!(["x", {"a": 1}])),
            any::<bool>().prop_map(|value| json!(value)),
            any::<i32>().prop_map(|value| json!(value)),
            ".{0,6}".prop_map(|value| json!(value)),
        ]
    }

    proptest! {
        #[test]
        fn columns_hold_what_the_json_says(
            rows in proptest::collection::vec(
                proptest::collection::btree_map("[abé\"\\\\]{0,2}", value(), 0..6), 0..20),
        ) {
            let names: Vec<String> =
                ["", "a", "b", "ab", "é", "\"", "\\a"].map(str::to_owned).to_vec();
            let mut texts = Texts::with_capacity(0, 0);
            for row in &rows {
                texts.push(&serde_json::to_string(row).unwrap());
            }
            let columns = shred(&names, &texts);
            for (name, column) in names.iter().zip(&columns) {
                for row in 0..rows.len() {
                    let said = property(texts.text(row), name);
                    prop_assert_eq!(column.option(row), said.as_deref());
                }
            }
        }
    }
}
