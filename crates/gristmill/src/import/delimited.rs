//! CSV and TSV with a header. Every value is text; an empty cell is the empty text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufRead};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::rows::{Row, RowError, Value, digest};

/// The rows of a delimited file.
pub(super) struct DelimitedRows {
    reader: Reader<Box<dyn BufRead + Send>>,
    columns: Vec<String>,
    record: ByteRecord,
}

impl DelimitedRows {
    /// Reads the header.
    pub(super) fn new(reader: Box<dyn BufRead + Send>, delimiter: u8) -> io::Result<Self> {
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
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
