//! Names for requests, so that a client's report and a line of the log can be brought together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gristmill_model::Entropy;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a request's name in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest name that is taken from a client.
const LONGEST: usize = 128;

/// Makes names that no other process makes: a random number per process, and a count.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// The names of this process.
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        Self { process: entropy.next_u128() as u64, count: AtomicU64::new(0) }
    }

    /// The client's name for its request if it is visible ASCII and short enough, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(X_REQUEST_ID) {
            Some(given) if is_well_formed(given.as_bytes()) => given.clone(),
            Some(_) | None => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let count = self.count.fetch_add(1, Relaxed);
        let number = (u128::from(self.process) << 64) | u128::from(count);
        let mut text = [b'0'; 32];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            let nibble = (number >> (place * 4)) as usize & 0xf;
            *digit = DIGITS.get(nibble).copied().unwrap_or(b'0');
        }
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

fn is_well_formed(text: &[u8]) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Entropy for Fixed {
        fn next_u128(&self) -> u128 {
            0xabc
        }
    }

    #[test]
    fn good_names_are_kept_and_others_replaced() {
        let ids = RequestIds::new(&Fixed);
        let id_for = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(given).unwrap());
            ids.of(&headers)
        };
        assert_eq!(id_for("mine-1"), "mine-1");
        assert_eq!(id_for("two words"), "0000000000000abc0000000000000000");
        assert_eq!(id_for(&"x".repeat(129)), "0000000000000abc0000000000000001");
        assert_eq!(ids.of(&HeaderMap::new()), "0000000000000abc0000000000000002");
    }
}
