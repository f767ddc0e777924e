//! Strings: found at eight bytes a step, copied only if they hold an escape.

use std::borrow::Cow;

use super::{Fault, Reader, Syntax};

impl<'a> Reader<'a> {
    /// Reads a string: borrowed, or owned if it holds an escape.
    pub(in crate::dialect) fn string(&mut self) -> Result<Cow<'a, str>, Syntax> {
        let (raw, escaped) = self.raw_string()?;
        Ok(if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    /// Reads a string and gives what lies between its quotes, and whether that holds an escape.
    pub(super) fn raw_string(&mut self) -> Result<(&'a str, bool), Syntax> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at = plain_end(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((self.slice(start, self.at - 1), escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.error("a control character in a string: escape it")),
                None => return Err(self.error("a string is not closed")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Syntax> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let unit = self.unit()?;
                let followed = self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
                if is_high(unit) && followed {
                    self.at += 1;
                    let low = self.unit()?;
                    if !is_low(low) {
                        self.note(Fault::LoneSurrogate);
                    }
                } else if is_high(unit) || is_low(unit) {
                    self.note(Fault::LoneSurrogate);
                }
            }
            _ => return Err(self.error("an escape that JSON does not know")),
        }
        Ok(())
    }

    /// Reads `u` and four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, Syntax> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
        let unit = digits.and_then(hex).ok_or_else(|| self.error("`\\u` needs four hex digits"))?;
        self.at += 5;
        Ok(unit)
    }
}

/// The first place from `at` on that holds a quote, a backslash or a control character.
///
/// Each of the three masks may mark bytes above its first right one too, never below it, and the
/// lowest mark is all that is used.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        let special = control | quote | backslash;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        at += 1;
    }
    at
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

fn hex(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |unit: u16, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | value as u16)
    })
}

/// Undoes the escapes of a string that was read. Half a surrogate pair becomes U+FFFD.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let (character, length) = escaped_character(escape);
                text.push(character);
                rest = escape.get(length..).unwrap_or_default();
                continue;
            }
            Some(other) => text.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    text
}

/// The character that `uXXXX` or `uXXXX\uXXXX` stands for, and the length of that.
fn escaped_character(escape: &str) -> (char, usize) {
    let unit = |from: usize| escape.as_bytes().get(from..from + 4).and_then(hex);
    let first = unit(1).unwrap_or(0xfffd);
    let second = match escape.as_bytes().get(5..7) {
        Some(b"\\u") if is_high(first) => unit(7),
        _ => None,
    };
    let units = [first, second.unwrap_or(0)];
    let used = if second.is_some_and(is_low) { 2 } else { 1 };
    let character = char::decode_utf16(units.into_iter().take(used)).next();
    (character.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER), used * 6 - 1)
}
