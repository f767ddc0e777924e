//! UUIDs in their canonical text: 36 characters, lower case, hyphens in place.

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// Where the digits of each byte begin.
const BYTES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/// The value of a digit; no digit has a bit of `NO_DIGIT`.
static DIGITS: [u8; 256] = digits();
const NO_DIGIT: u8 = 0xf0;

/// The bytes of a canonical text; `None` for any other text, so that texts read back unchanged.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let digit = |at: usize| DIGITS[usize::from(text[at])];
    let mut seen = 0;
    let bytes = BYTES.map(|at| {
        seen |= digit(at) | digit(at + 1);
        digit(at) << 4 | digit(at + 1)
    });
    let has_hyphens = HYPHENS.iter().all(|&at| text[at] == b'-');
    (has_hyphens && seen & NO_DIGIT == 0).then_some(bytes)
}

const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let character = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        digits[character as usize] = value;
        value += 1;
    }
    digits
}

/// Appends the canonical text.
pub(super) fn write(bytes: &[u8; 16], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_texts_are_taken_and_they_read_back() {
        let canonical = "0198c2f4-aaaa-7bcd-8eef-0123456789ab";
        let mut text = String::new();
        write(&parse(canonical).unwrap(), &mut text);
        assert_eq!(text, canonical);
        for other in [
            "",
            "0198C2F4-AAAA-7BCD-8EEF-0123456789AB",
            "{0198c2f4-aaaa-7bcd-8eef-0123456789ab}",
            "0198c2f4aaaa7bcd8eef0123456789ab0000",
            "0198c2f4-aaaa-7bcd-8eef-0123456789ag",
            "0198c2f4-aaaa-7bcd-8eef_0123456789ab",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
