//! Lines of a text, each bounded, numbered from 1.

use std::io::{self, BufRead};

use gristmill_model::limits;

/// Reads line by line into one buffer.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    number: u64,
}

/// What [`Lines::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line; it can be read.
    Line,
    /// A line of more than [`limits::LINE_BYTES`], which was skipped.
    TooLong,
    /// The end.
    End,
}

impl Lines {
    pub(super) fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    /// Goes to the next line.
    pub(super) fn advance(&mut self) -> io::Result<Found> {
        self.buffer.clear();
        let mut length = 0_usize;
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            length += taken;
            if length <= limits::LINE_BYTES {
                self.buffer.extend_from_slice(&available[..taken]);
            }
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if length == 0 {
            return Ok(Found::End);
        }
        self.number += 1;
        Ok(if length > limits::LINE_BYTES { Found::TooLong } else { Found::Line })
    }

    /// The line, without its end and without a byte order mark.
    pub(super) fn line(&self) -> &[u8] {
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line }
    }

    /// The line's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_numbered_and_stripped() {
        let long = "x".repeat(limits::LINE_BYTES + 1);
        let text = format!("\u{feff}one\r\n\n{long}\nlast");
        let mut lines =
            Lines::new(Box::new(io::BufReader::with_capacity(7, io::Cursor::new(text))));
        let mut seen = Vec::new();
        loop {
            match lines.advance().unwrap() {
                Found::Line => {
                    seen.push((lines.number(), String::from_utf8(lines.line().to_vec()).unwrap()));
                }
                Found::TooLong => seen.push((lines.number(), "too long".to_owned())),
                Found::End => break,
            }
        }
        let expected = [(1, "one"), (2, ""), (3, "too long"), (4, "last")];
        assert_eq!(seen, expected.map(|(number, text)| (number, text.to_owned())));
    }
}
