//! A JSON reader that goes over a text once and borrows from it.
//!
//! Two kinds of fault are kept apart. After a [`Syntax`] error nothing more can be read. A
//! [`Fault`] is a value that is well-formed and must not be taken (a key twice, a lone surrogate,
//! an infinite number, an object of too many keys): the first one is noted and reading goes on, so
//! that one bad event of a batch does not hide the others.

mod text;
mod write;

use std::borrow::Cow;

use gristmill_model::ErrorCode;
use gristmill_model::limits::{JSON_DEPTH, PROPERTY_KEY_BYTES, PROPERTY_KEYS};
use thiserror::Error;

pub(super) use write::quote;

/// Where and why a text is not JSON.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("invalid JSON at byte {at}: {why}")]
pub(super) struct Syntax {
    pub(super) at: usize,
    pub(super) why: &'static str,
}

/// Why a well-formed value must not be taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("the key `{0}` stands twice in one object")]
    DuplicateKey(String),
    #[error("a string holds half of a surrogate pair, which no UTF-8 text can hold")]
    LoneSurrogate,
    #[error("a number is not finite")]
    InfiniteNumber,
    #[error("an object holds more than {PROPERTY_KEYS} keys")]
    TooManyKeys,
    #[error("a key is longer than {PROPERTY_KEY_BYTES} bytes")]
    LongKey,
}

impl Fault {
    /// Whether the JSON itself is at fault, or the event that it describes.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Fault::DuplicateKey(_) | Fault::LoneSurrogate | Fault::InfiniteNumber => {
                ErrorCode::InvalidBody
            }
            Fault::TooManyKeys | Fault::LongKey => ErrorCode::InvalidEvent,
        }
    }
}

/// What a value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// Up to so many keys are compared each with each.
const FEW_KEYS: usize = 16;

/// Stands at a place of a text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    fault: Option<Fault>,
    /// The keys of the data objects that are open, the outermost object's first.
    keys: Vec<Key<'a>>,
}

/// The key of a member. Keys are ordered by the mark first, which nearly always tells two of them
/// apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    /// The length (of 256, 0) and three of the bytes.
    mark: u32,
    text: Cow<'a, str>,
}

impl<'a> Key<'a> {
    fn new(text: Cow<'a, str>) -> Self {
        let bytes = text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let (middle, last) = (bytes.len() / 2, bytes.len().saturating_sub(1));
        let mark = u32::from_le_bytes([bytes.len() as u8, byte(0), byte(middle), byte(last)]);
        Self { mark, text }
    }
}

impl<'a> Reader<'a> {
    /// Stands at the start of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, fault: None, keys: Vec::with_capacity(FEW_KEYS) }
    }

    /// Stands at the start of the text of a member, whose depth counts from the object that it is to stand
    /// in.
    pub(super) fn of_member(text: &'a str) -> Self {
        Self { depth: 1, ..Self::new(text) }
    }

    /// Goes to the start of another text and forgets everything about the last.
    pub(super) fn turn_to(&mut self, text: &'a str) {
        self.keys.clear();
        (self.text, self.at, self.depth, self.fault) = (text, 0, 0, None);
    }

    /// Takes the fault noted since it was last taken.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// The place in the text, for [`Reader::back_to`].
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// Goes back to a place where a value started.
    pub(super) fn back_to(&mut self, place: usize) {
        self.at = place;
    }

    /// The text from a place up to here.
    pub(super) fn text_since(&self, place: usize) -> &'a str {
        self.slice(place, self.at)
    }

    /// Reads a value whose depth is counted from here, so that it does not matter how deep in an
    /// envelope it lies.
    pub(super) fn rooted<T, E>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let outer = std::mem::take(&mut self.depth);
        let value = read(self)?;
        self.depth = outer;
        Ok(value)
    }

    /// What the next value is.
    pub(super) fn kind(&mut self) -> Result<Kind, Syntax> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the text ends where a value should start")),
        }
    }

    /// Makes sure that the next value is an object; `why` tells what to send.
    pub(super) fn expect_object(&mut self, why: &'static str) -> Result<(), Syntax> {
        if self.kind()? == Kind::Object { Ok(()) } else { Err(self.error(why)) }
    }

    /// Reads an object; `member` is called at each value and must read it.
    pub(super) fn object<E: From<Syntax>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.open(b'{', b'}', "expected an object")? {
            return Ok(());
        }
        loop {
            self.whitespace();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in double quotes").into());
            }
            let key = self.string()?;
            self.whitespace();
            if self.peek() != Some(b':') {
                return Err(self.error("expected `:` after a key").into());
            }
            self.at += 1;
            member(self, key)?;
            if self.closes(b'}', "expected `,` or `}`")? {
                return Ok(());
            }
        }
    }

    /// Reads an object of free content: as [`Reader::object`], and notes a fault if it has a key
    /// twice, a long key or too many keys.
    pub(super) fn data_object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), Syntax>,
    ) -> Result<(), Syntax> {
        let base = self.keys.len();
        self.object(|reader, key| {
            member(reader, &key)?;
            reader.note_key(base, key);
            Ok::<_, Syntax>(())
        })?;
        self.check_keys(base);
        Ok(())
    }

    /// Reads an array; `element` is called at each value and must read it.
    pub(super) fn array<E: From<Syntax>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.open(b'[', b']', "expected an array")? {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.closes(b']', "expected `,` or `]`")? {
                return Ok(());
            }
        }
    }

    /// Reads any value and gives its text. Everything in it is checked.
    pub(super) fn skip(&mut self) -> Result<&'a str, Syntax> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::Object => self.data_object(|reader, _| reader.skip().map(drop))?,
            Kind::Array => self.array(|reader| reader.skip().map(drop))?,
            Kind::String => {
                self.raw_string()?;
            }
            Kind::Number => {
                self.number()?;
            }
            Kind::Bool | Kind::Null => self.literal()?,
        }
        Ok(self.text_since(start))
    }

    /// Reads a number, of any size, and gives its text.
    pub(super) fn number(&mut self) -> Result<&'a str, Syntax> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = self.text_since(start);
        // The largest finite number has 309 digits.
        let may_be_infinite = has_exponent || number.len() > 308;
        if may_be_infinite && !number.parse().is_ok_and(f64::is_finite) {
            self.note(Fault::InfiniteNumber);
        }
        Ok(number)
    }

    /// Makes sure that nothing but whitespace is left.
    pub(super) fn end(&mut self) -> Result<(), Syntax> {
        self.whitespace();
        match self.peek() {
            Some(_) => Err(self.error("there is more after the end of the value")),
            None => Ok(()),
        }
    }

    /// Notes a fault, unless there is one.
    pub(super) fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    pub(super) fn error(&self, why: &'static str) -> Syntax {
        Syntax { at: self.at, why }
    }

    fn literal(&mut self) -> Result<(), Syntax> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        for word in ["true", "false", "null"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(());
            }
        }
        Err(self.error("expected a value"))
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    /// Goes into an object or array and tells whether it is empty, and then out of it again.
    fn open(&mut self, open: u8, close: u8, why: &'static str) -> Result<bool, Syntax> {
        self.whitespace();
        if self.peek() != Some(open) {
            return Err(self.error(why));
        }
        if self.depth == JSON_DEPTH {
            return Err(self.error("objects and arrays are nested too deep"));
        }
        self.at += 1;
        self.whitespace();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        self.depth += 1;
        Ok(false)
    }

    /// Goes over what follows a member and tells whether it was the last.
    fn closes(&mut self, close: u8, why: &'static str) -> Result<bool, Syntax> {
        self.whitespace();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(true)
            }
            _ => Err(self.error(why)),
        }
    }

    fn note_key(&mut self, base: usize, key: Cow<'a, str>) {
        if key.len() > PROPERTY_KEY_BYTES {
            self.note(Fault::LongKey);
        } else if self.keys.len() - base < PROPERTY_KEYS {
            self.keys.push(Key::new(key));
        } else {
            self.note(Fault::TooManyKeys);
        }
    }

    /// Looks for a key that stands twice: few keys each with each, many after sorting them, so
    /// that no object costs quadratic time.
    fn check_keys(&mut self, base: usize) {
        let keys = self.keys.get_mut(base..).unwrap_or_default();
        let twice = if keys.len() <= FEW_KEYS {
            keys.iter()
                .enumerate()
                .find(|(at, key)| keys.iter().take(*at).any(|other| other == *key))
        } else {
            keys.sort_unstable();
            keys.iter().skip(1).enumerate().find(|(before, key)| keys.get(*before) == Some(*key))
        };
        if let Some((_, key)) = twice {
            let fault = Fault::DuplicateKey(key.text.to_string());
            self.note(fault);
        }
        self.keys.truncate(base);
    }

    fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// A part of the text between two places that are ends of tokens, hence of characters.
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
