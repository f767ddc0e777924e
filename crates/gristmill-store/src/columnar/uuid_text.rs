//! UUIDs in their canonical text: 36 characters, lower case, hyphens in place.

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The bytes of a canonical text; `None` for any other text, so that texts read back unchanged.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for byte in &mut bytes {
        if HYPHENS.contains(&at) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
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

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
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
