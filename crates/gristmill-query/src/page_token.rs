//! Tokens that say where the next page of an answer begins.
//!
//! A token is the text after which the page goes on, in hexadecimal, behind a checksum of it and
//! of the question. So one that was changed, or was given for another question, is found out. It
//! is no secret: whoever can ask may read what it says.

use std::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::QueryError;

/// How many digits the checksum has.
const CHECKSUM_DIGITS: usize = 16;

/// The token of the page after `place`. Two questions are the same if they print the same.
pub(crate) fn seal(question: &impl Debug, place: &str) -> String {
    let digits: String = place.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{:016x}{digits}", checksum(question, place))
}

/// The place that the token of a page says.
pub(crate) fn open(question: &impl Debug, token: &str) -> Result<String, QueryError> {
    let place = token.get(CHECKSUM_DIGITS..).and_then(text_of).filter(|place| {
        // Writing it again finds every change, also of a letter's case.
        seal(question, place) == token
    });
    place.ok_or_else(|| {
        QueryError::Invalid(
            "`page_token` is damaged or of another question: leave it out to begin again"
                .to_owned(),
        )
    })
}

fn checksum(question: &impl Debug, place: &str) -> u64 {
    let seed = xxh3_64_with_seed(format!("{question:?}").as_bytes(), 0);
    xxh3_64_with_seed(place.as_bytes(), seed)
}

/// The text whose bytes these digits are.
fn text_of(digits: &str) -> Option<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_a_token_is_found_out() {
        for place in ["", "a", "zoë 😀"] {
            let token = seal(&1, place);
            assert_eq!(open(&1, &token).unwrap(), place);
            assert!(open(&2, &token).is_err());
            for at in 0..token.len() {
                for digit in ["0", "7", "f", "F", "+", "é", ""] {
                    let mut changed = token.clone();
                    changed.replace_range(at..=at, digit);
                    assert!(changed == token || open(&1, &changed).is_err(), "{changed}");
                }
            }
            assert!(open(&1, &format!("{token}0")).is_err());
            assert!(open(&1, &format!("{token}61")).is_err());
        }
        let error = open(&1, "").unwrap_err().to_string();
        assert!(error.starts_with("`page_token` is damaged"), "{error}");
    }
}
