//! CSV and TSV with a header. Every value is text; an empty cell is the empty text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufRead, Read};

use csv::{ByteRecord, Reader, ReaderBuilder};
use gristmill_model::limits;

use super::rows::{Row, RowError, Value, digest};

/// The rows of a delimited file.
pub(super) struct DelimitedRows {
    reader: Reader<Bounded>,
    columns: Vec<String>,
    record: ByteRecord,
}

impl DelimitedRows {
    /// Reads the header.
    pub(super) fn new(reader: Box<dyn BufRead + Send>, delimiter: u8) -> io::Result<Self> {
        let mut reader =
            ReaderBuilder::new().delimiter(delimiter).from_reader(Bounded::new(reader));
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut names = HashSet::new();
        if let Some(twice) = columns.iter().find(|name| !names.insert(name.as_str())) {
            return Err(io::Error::other(format!("the header names the column `{twice}` twice")));
        }
        Ok(Self { reader, columns, record: ByteRecord::new() })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, RowError> {
        self.reader.get_mut().left = limits::LINE_BYTES;
        let read = self.reader.read_byte_record(&mut self.record);
        let line = self.record.position().map_or(0, csv::Position::line);
        match read {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(row_error(error, line)),
        }
        let text = |cell| {
            std::str::from_utf8(cell)
                .map(|text| Value::Text(Cow::Borrowed(text)))
                .map_err(|_| RowError::Bad { line, reason: "not valid UTF-8".to_owned() })
        };
        let names = self.columns.iter().map(|name| Cow::Borrowed(name.as_str()));
        let fields = names
            .zip(self.record.iter())
            .map(|(name, cell)| Ok((name, text(cell)?)))
            .collect::<Result<_, RowError>>()?;
        Ok(Some(Row { line, fields, digest: digest(line, self.record.iter()) }))
    }
}

/// A text of which only so much is read until somebody allows more: a quote that never ends would make a row
/// of all that follows.
struct Bounded {
    inner: Box<dyn BufRead + Send>,
    left: usize,
}

impl Bounded {
    fn new(inner: Box<dyn BufRead + Send>) -> Self {
        Self { inner, left: limits::LINE_BYTES }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let most = limits::LINE_BYTES;
            let reason =
                format!("a row has more than {most} bytes: is there a quote that never ends?");
            return Err(io::Error::other(reason));
        }
        let room = buffer.len().min(self.left);
        let read = self.inner.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.left -= read;
        Ok(read)
    }
}

/// A row of another length than the header is bad, and the reader goes on; a failing device ends.
fn row_error(error: csv::Error, line: u64) -> RowError {
    let reason = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => RowError::Io(error),
        csv::ErrorKind::UnequalLengths { expected_len, len, pos } => RowError::Bad {
            line: pos.map_or(line, |pos| pos.line()),
            reason: format!("{len} cells where the header has {expected_len}"),
        },
        _ => RowError::Bad { line, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_row_that_never_ends_is_not_read_for_ever() {
        let text = b"a,b\n1,2\n\"".chain(io::repeat(b'x'));
        let mut rows = DelimitedRows::new(Box::new(BufReader::new(text)), b',').unwrap();
        assert!(rows.next().is_ok_and(|row| row.is_some()));
        let Err(RowError::Io(error)) = rows.next() else { panic!("the row has an end") };
        assert!(error.to_string().contains("a quote that never ends"), "{error}");
    }

    #[test]
    fn many_rows_may_be_longer_than_one() {
        let row = format!("1,{}\n", "x".repeat(limits::LINE_BYTES / 3));
        let text = format!("a,b\n{}", row.repeat(10));
        let mut rows = DelimitedRows::new(Box::new(io::Cursor::new(text)), b',').unwrap();
        let mut count = 0;
        while rows.next().is_ok_and(|row| row.is_some()) {
            count += 1;
        }
        assert_eq!(count, 10);
    }
}
