//! Numbers, texts and UUIDs as bytes, and back without trusting any of them.

/// Why bytes make no sense, in words for the quarantine.
pub(super) type Reason = &'static str;

/// Appends a number in groups of seven bits, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] takes.
pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Fills `space` with a number, padded with empty groups; it must have [`varint_len`] bytes.
pub(super) fn fill_varint(space: &mut [u8], mut value: u64) {
    let last = space.len().saturating_sub(1);
    for (index, byte) in space.iter_mut().enumerate() {
        let more = if index < last { 0x80 } else { 0 };
        *byte = (value & 0x7f) as u8 | more;
        value >>= 7;
    }
}

/// Folds the sign into the lowest bit, so that small numbers of either sign stay small.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads a slice from `at` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The rest.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let end = self.at.checked_add(count).ok_or("a length is out of range")?;
        let taken = self.bytes.get(self.at..end).ok_or("a field runs past the record's end")?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "a field is too short")
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Reason> {
        let byte = *self.bytes.get(self.at).ok_or("a field runs past the record's end")?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Reason> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err("a number is out of range");
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is out of range")
    }

    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Reason> {
        usize::try_from(self.varint()?).map_err(|_| "a length is out of range")
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Reason> {
        let length = self.length()?;
        as_text(self.take(length)?)
    }
}

#[inline]
pub(super) fn as_text(bytes: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}

/// Where the hex digits of each byte of a UUID stand in its canonical text.
const UUID_DIGITS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];
const NO_DIGIT: u8 = 0xff;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The value of each lower-case hex digit.
const DIGIT_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        values[DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// The two hex digits of each byte.
const BYTE_DIGITS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The bytes of a text that is exactly a UUID in lower case with hyphens, else `None`.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if UUID_HYPHENS.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut seen = 0;
    for (byte, at) in bytes.iter_mut().zip(UUID_DIGITS) {
        let high = DIGIT_VALUES[usize::from(text[at])];
        let low = DIGIT_VALUES[usize::from(text[at + 1])];
        seen |= high | low;
        *byte = (high << 4) | (low & 15);
    }
    // A value is below 16, so a high bit can only come from `NO_DIGIT`.
    (seen < 16).then_some(bytes)
}

/// Undoes [`uuid_bytes`].
pub(super) fn uuid_text(bytes: [u8; 16]) -> Result<String, Reason> {
    let mut text = [b'-'; 36];
    for (byte, at) in bytes.into_iter().zip(UUID_DIGITS) {
        let [high, low] = BYTE_DIGITS[usize::from(byte)];
        text[at] = high;
        text[at + 1] = low;
    }
    as_text(&text).map(str::to_owned)
}
