//! Conditions on events.

use crate::Field;

/// Which events are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// The event has the field, and its value passes the test.
    Where(Field, Test),
    /// All of these hold; so does the empty list.
    All(Vec<Filter>),
    /// At least one of these holds; the empty list does not.
    Any(Vec<Filter>),
    /// This does not hold, for example because the event does not have the field.
    Not(Box<Filter>),
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is there.
    Exists,
    /// It is one of these.
    In(Vec<Value>),
    /// It stands so to another value: a number to a number, a text to a text.
    Compare(Comparison, Value),
    /// It holds this text.
    Contains(String),
    /// It starts with this text.
    StartsWith(String),
    /// It ends with this text.
    EndsWith(String),
    /// This regular expression, in the syntax of the `regex` crate, is found in it.
    Matches(String),
    /// It is a user who belongs to the saved cohort of this id.
    MemberOf(String),
}

/// How one value stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// A value in a test. Its type says how an event's value, which is a text, is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// As it is. Texts are compared byte by byte; a truth value is the text `true` or `false`.
    Text(String),
    /// As a number. What is none passes no test.
    Number(f64),
}

impl Filter {
    /// Keeps the events of the users who belong to a saved cohort.
    pub fn cohort(id: impl Into<String>) -> Self {
        Filter::Where(Field::UserId, Test::MemberOf(id.into()))
    }

    /// Keeps the events whose field has exactly this text.
    pub fn equals(field: Field, text: impl Into<String>) -> Self {
        Filter::Where(field, Test::In(vec![Value::Text(text.into())]))
    }
}

impl Comparison {
    /// Whether a value that stands so to the other one passes.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Less => ordering.is_lt(),
            Comparison::AtMost => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::AtLeast => ordering.is_ge(),
        }
    }
}
