//! Tokens that lead from one page of an answer to another.
//!
//! A token is the hexadecimal text of a hash and of the payload. The hash covers the question too,
//! so that a token that was changed, or that is given with another question, is told from a right
//! one. It keeps nothing secret.

use axum::response::Response;
use http::{HeaderName, HeaderValue};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::problem::Problem;

const HASH_BYTES: usize = 8;

/// The token of a payload, for the next time that the same question is asked.
pub(super) fn encode(question: &[u8], payload: &[u8]) -> String {
    let hash = xxh3_64_with_seed(payload, xxh3_64(question)).to_be_bytes();
    hash.iter().chain(payload).map(|byte| format!("{byte:02x}")).collect()
}

/// The payload of a token that [`encode`] made for the same question.
pub(super) fn decode(question: &[u8], token: &str) -> Result<Vec<u8>, Problem> {
    let payload = bytes(token).map(|bytes| bytes.into_iter().skip(HASH_BYTES).collect::<Vec<_>>());
    payload.filter(|payload| encode(question, payload) == token).ok_or_else(wrong)
}

/// Refuses a token.
pub(super) fn wrong() -> Problem {
    Problem::argument(
        "`page_token` does not belong to this question: give a token of an answer unchanged, and \
         ask what was asked for that answer",
    )
}

/// Tells the tokens of an answer that has no other place for them.
pub(super) fn into_headers(
    response: &mut Response,
    tokens: impl IntoIterator<Item = (&'static str, Option<String>)>,
) {
    for (name, token) in tokens {
        if let Some(token) = token.and_then(|token| HeaderValue::try_from(token).ok()) {
            response.headers_mut().insert(HeaderName::from_static(name), token);
        }
    }
}

/// The bytes of a hexadecimal text.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_payload_back_to_the_same_question_only() {
        for payload in [&b""[..], b"\x00", "user\u{e9}".as_bytes()] {
            let token = encode(b"question", payload);
            assert_eq!(decode(b"question", &token).unwrap(), payload);
            assert!(decode(b"another", &token).is_err());
        }
    }

    #[test]
    fn no_change_of_a_token_passes() {
        let token = encode(b"question", b"payload");
        for at in 0..token.len() {
            for other in ['0', '1', 'f', 'A', '-'] {
                let mut changed: Vec<char> = token.chars().collect();
                changed[at] = other;
                let changed: String = changed.into_iter().collect();
                assert!(changed == token || decode(b"question", &changed).is_err(), "{changed}");
            }
            assert!(decode(b"question", &token[..at]).is_err());
        }
        for bad in [&format!("{token}0"), &format!("{token}00"), &token.to_uppercase(), "\u{e9}"] {
            let problem = decode(b"question", bad).unwrap_err();
            assert!(problem.detail().starts_with("`page_token` "), "{bad}");
        }
    }
}
