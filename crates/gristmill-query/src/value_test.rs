//! Tests of values, made ready to be asked many times.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use gristmill_model::{Comparison, Test, Value, limits};
use gristmill_store::number;
use regex::{Regex, RegexBuilder};

use crate::QueryError;
use crate::cohort::Members;

/// The memory that a regular expression may take once it is compiled, in bytes.
const REGEX_MEMORY: usize = 256 << 10;

/// A test that is ready.
#[derive(Clone, Debug)]
pub(crate) enum ReadyTest {
    Exists,
    In {
        texts: HashSet<String>,
        numbers: Vec<f64>,
    },
    CompareText(Comparison, String),
    CompareNumber(Comparison, f64),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    Matches(Regex),
    /// The members are found before the walk begins.
    MemberOf(Arc<OnceLock<Arc<Members>>>),
}

impl ReadyTest {
    /// Makes a test ready.
    pub(crate) fn of(test: &Test) -> Result<Self, QueryError> {
        Ok(match test {
            Test::Exists => ReadyTest::Exists,
            Test::In(values) => {
                let most = limits::IN_VALUES;
                if values.len() > most {
                    return Err(QueryError::Invalid(format!(
                        "`in` has {} values, more than {most}",
                        values.len()
                    )));
                }
                let mut texts = HashSet::new();
                let mut numbers = Vec::new();
                for value in values {
                    match value {
                        Value::Text(text) => drop(texts.insert(text.clone())),
                        Value::Number(number) => numbers.push(*number),
                    }
                }
                numbers.sort_by(f64::total_cmp);
                ReadyTest::In { texts, numbers }
            }
            Test::Compare(how, Value::Text(text)) => ReadyTest::CompareText(*how, text.clone()),
            Test::Compare(how, Value::Number(number)) => ReadyTest::CompareNumber(*how, *number),
            Test::Contains(text) => ReadyTest::Contains(text.clone()),
            Test::StartsWith(text) => ReadyTest::StartsWith(text.clone()),
            Test::EndsWith(text) => ReadyTest::EndsWith(text.clone()),
            Test::Matches(pattern) => ReadyTest::Matches(regex(pattern)?),
            Test::MemberOf(_) => ReadyTest::MemberOf(Arc::default()),
        })
    }

    /// Whether a value passes.
    pub(crate) fn passes(&self, text: &str) -> bool {
        match self {
            ReadyTest::Exists => true,
            ReadyTest::In { texts, numbers } => {
                texts.contains(text) || (!numbers.is_empty() && is_in(numbers, text))
            }
            ReadyTest::CompareText(how, other) => how.holds(text.cmp(other)),
            ReadyTest::CompareNumber(how, other) => {
                let ordering = number(text).and_then(|number| number.partial_cmp(other));
                ordering.is_some_and(|ordering| how.holds(ordering))
            }
            ReadyTest::Contains(part) => text.contains(part),
            ReadyTest::StartsWith(start) => text.starts_with(start),
            ReadyTest::EndsWith(end) => text.ends_with(end),
            ReadyTest::Matches(regex) => regex.is_match(text),
            ReadyTest::MemberOf(members) => {
                members.get().is_some_and(|members| members.contains(text))
            }
        }
    }
}

fn is_in(numbers: &[f64], text: &str) -> bool {
    // Adding 0 makes a negative zero an ordinary one.
    let found = number(text)
        .map(|number| numbers.binary_search_by(|other| (other + 0.0).total_cmp(&(number + 0.0))));
    matches!(found, Some(Ok(_)))
}

fn regex(pattern: &str) -> Result<Regex, QueryError> {
    let most = limits::REGEX_BYTES;
    if pattern.len() > most {
        return Err(QueryError::Invalid(format!("`regex` is longer than {most} bytes")));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(REGEX_MEMORY).dfa_size_limit(REGEX_MEMORY);
    builder.build().map_err(|error| {
        let reason = match error {
            regex::Error::CompiledTooBig(_) => "it matches too much at once".to_owned(),
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim();
                reason.strip_prefix("error: ").unwrap_or(reason).to_owned()
            }
        };
        let start: String = pattern.chars().take(50).collect();
        QueryError::Invalid(format!("`regex` cannot use {start:?}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(test: &Test, text: &str) -> bool {
        ReadyTest::of(test).unwrap().passes(text)
    }

    fn number_in(number: f64) -> Test {
        Test::In(vec![Value::Number(number), Value::Text("x".to_owned())])
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_texts_as_texts() {
        let less = |value| Test::Compare(Comparison::Less, value);
        assert!(passes(&less(Value::Number(10.0)), "9"));
        assert!(!passes(&less(Value::Text("10".to_owned())), "9"));
        assert!(!passes(&less(Value::Number(10.0)), "ten"));
        assert!(!passes(&less(Value::Number(10.0)), "-inf"));
        assert!(passes(&Test::Compare(Comparison::AtLeast, Value::Number(1.5)), "1.50"));
        assert!(passes(&number_in(1.0), "1.0"));
        assert!(passes(&number_in(0.0), "-0"));
        assert!(passes(&number_in(1.0), "x"));
        assert!(!passes(&number_in(1.0), "y"));
    }

    #[test]
    fn texts_are_searched() {
        let text = || "a.b".to_owned();
        assert!(passes(&Test::Contains(text()), "xa.by"));
        assert!(!passes(&Test::StartsWith(text()), "xa.b"));
        assert!(passes(&Test::EndsWith(text()), "xa.b"));
        assert!(passes(&Test::Matches(text()), "xaqby"));
        assert!(passes(&Test::Exists, ""));
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let error = |test| ReadyTest::of(&test).unwrap_err().to_string();
        assert!(error(Test::Matches("(".to_owned())).contains("unclosed group"));
        assert!(error(Test::Matches("((a{1000}){1000}){1000}".to_owned())).contains("too much"));
        assert!(error(Test::Matches("a".repeat(1_001))).contains("longer than 1000 bytes"));
        let many = vec![Value::Number(1.0); limits::IN_VALUES + 1];
        assert!(error(Test::In(many)).contains("more than 10000"));
    }
}
