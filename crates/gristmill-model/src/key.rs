//! API keys: what one looks like, what it allows, and how much may be sent with it.
//!
//! ```text
//!   gm_write_8fQ2kXz01bTr_<44 letters and digits>_3kZ9aB
//!      scope id           secret, 256 bits        checksum
//! ```
//!
//! The prefix lets scanners find keys that got into a repository, the checksum lets a mistyped one be
//! refused without asking anybody, and the id lets one be named without being told.

use std::fmt;

use crate::{Entropy, limits};

/// What begins every key.
const KEY_PREFIX: &str = "gm_";
/// The letters and digits of ids, secrets and checksums.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 12;
/// As many digits as 128 bits need.
const HALF_SECRET_DIGITS: usize = 22;
const CHECKSUM_DIGITS: usize = 6;

/// Something that a key may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Sending events.
    Write,
    /// Asking questions and reading metrics.
    Read,
    /// Everything in its project, keys and saved cohorts included, and upkeep of the store.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Admin];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The scope of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Some scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether these allow what a scope names; [`Scope::Admin`] allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Each of them, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The word for them in a key.
    fn word(self) -> &'static str {
        match (self.allow(Scope::Admin), self.allow(Scope::Write), self.allow(Scope::Read)) {
            (true, ..) => "admin",
            (_, true, true) => "readwrite",
            (_, true, false) => "write",
            (_, false, _) => "read",
        }
    }
}

/// The words for scopes in keys.
const WORDS: [&str; 4] = ["admin", "readwrite", "write", "read"];

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// The text of a key, which is shown once and kept by nobody but its owner.
#[derive(Clone)]
pub struct KeyText(String);

impl KeyText {
    /// A new key with an id and a secret of its own.
    pub fn make(scopes: Scopes, entropy: &dyn Entropy) -> Self {
        let mut text = format!("{KEY_PREFIX}{}_", scopes.word());
        push_digits(&mut text, entropy.next_u128(), ID_DIGITS);
        text.push('_');
        push_digits(&mut text, entropy.next_u128(), HALF_SECRET_DIGITS);
        push_digits(&mut text, entropy.next_u128(), HALF_SECRET_DIGITS);
        let checksum = checksum(&text);
        text.push('_');
        text.push_str(&checksum);
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyText(..)")
    }
}

/// The id in a text that is written like a key, its checksum included. Whether there is such a key, and
/// whether this is its secret, is another question.
pub fn key_id(text: &str) -> Option<&str> {
    if text.len() > limits::KEY_BYTES {
        return None;
    }
    let (head, sum) = text.rsplit_once('_')?;
    let mut parts = head.strip_prefix(KEY_PREFIX)?.split('_');
    let (word, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_whole = parts.next().is_none()
        && WORDS.contains(&word)
        && id.len() == ID_DIGITS
        && secret.len() == 2 * HALF_SECRET_DIGITS
        && is_digits(id)
        && is_digits(secret);
    (is_whole && checksum(head) == sum).then_some(id)
}

fn checksum(text: &str) -> String {
    let mut digits = String::with_capacity(CHECKSUM_DIGITS);
    push_digits(&mut digits, crc32fast::hash(text.as_bytes()).into(), CHECKSUM_DIGITS);
    digits
}

/// The last digits of a number.
fn push_digits(text: &mut String, mut number: u128, count: usize) {
    for _ in 0..count {
        let digit = DIGITS.get((number % 62) as usize).copied().unwrap_or(b'0');
        text.push(char::from(digit));
        number /= 62;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Counting(AtomicU64);

    impl Entropy for Counting {
        fn next_u128(&self) -> u128 {
            u128::MAX / 3 - u128::from(self.0.fetch_add(1, Ordering::Relaxed))
        }
    }

    fn make(scopes: &[Scope]) -> KeyText {
        KeyText::make(scopes.iter().copied().collect(), &Counting(AtomicU64::new(0)))
    }

    #[test]
    fn keys_say_their_scopes_and_have_an_id() {
        for (scopes, word) in [
            (&[Scope::Write][..], "write"),
            (&[Scope::Read], "read"),
            (&[Scope::Write, Scope::Read], "readwrite"),
            (&[Scope::Read, Scope::Admin], "admin"),
        ] {
            let key = make(scopes);
            assert!(key.as_str().starts_with(&format!("gm_{word}_")), "{}", key.as_str());
            assert!(key.as_str().len() <= limits::KEY_BYTES);
            let id = key_id(key.as_str()).unwrap();
            assert_eq!(key.as_str().split('_').nth(2), Some(id));
            assert!(!format!("{key:?}").contains(id));
        }
    }

    #[test]
    fn every_typing_error_is_noticed() {
        let key = make(&[Scope::Write]);
        let text = key.as_str();
        for index in 0..text.len() {
            let mut other = text.to_owned().into_bytes();
            other[index] = if other[index] == b'x' { b'y' } else { b'x' };
            assert_eq!(key_id(std::str::from_utf8(&other).unwrap()), None, "at {index}");
            assert_eq!(key_id(&text[..index]), None, "{index} bytes");
        }
        let long = format!("{text}{}", "x".repeat(10_000));
        for other in ["", "gm_", "your-api-key", &format!(" {text}"), &format!("{text}\n"), &long] {
            assert_eq!(key_id(other), None, "{other:?}");
        }
    }

    #[test]
    fn admin_allows_everything_and_others_themselves() {
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        let write: Scopes = [Scope::Write].into_iter().collect();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allow(scope)));
        assert_eq!(write.iter().collect::<Vec<_>>(), [Scope::Write]);
        assert!(write.allow(Scope::Write) && !write.allow(Scope::Read));
        assert!(Scope::ALL.into_iter().all(|scope| Scope::of_name(scope.name()) == Some(scope)));
    }
}
