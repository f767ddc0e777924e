//! Rows: what every format of input is read as.

use std::borrow::Cow;
use std::io::{self, BufRead};

use gristmill_model::limits;
use serde_json::value::RawValue;

use super::InputFormat;
use super::access_log::AccessLogRows;
use super::delimited::DelimitedRows;
use super::ndjson::NdjsonRows;

/// One row of input: named values in the order they stand there.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The number of its first line in the file, from 1.
    pub(super) line: u64,
    /// The values; no name stands twice.
    pub(super) fields: Vec<(Cow<'a, str>, Value<'a>)>,
    /// A hash of the line number and the row's content, the same wherever the file lies.
    pub(super) digest: u128,
}

/// A value of a row.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Text, or anything from a format that knows only text.
    Text(Cow<'a, str>),
    /// A JSON value.
    Json(&'a RawValue),
    /// A whole number.
    Number(u64),
}

/// Why there is no row.
#[derive(Debug)]
pub(super) enum RowError {
    /// This row cannot be read; the next may.
    Bad { line: u64, reason: String },
    /// The input cannot be read any further.
    Io(io::Error),
}

impl From<io::Error> for RowError {
    fn from(error: io::Error) -> Self {
        RowError::Io(error)
    }
}

impl RowError {
    pub(super) fn too_long(line: u64) -> Self {
        RowError::Bad { line, reason: format!("longer than {} bytes", limits::LINE_BYTES) }
    }
}

/// The rows of an input of any format.
pub(super) enum Rows {
    Ndjson(NdjsonRows),
    Delimited(DelimitedRows),
    AccessLog(AccessLogRows),
}

impl Rows {
    pub(super) fn new(format: InputFormat, reader: Box<dyn BufRead + Send>) -> io::Result<Self> {
        Ok(match format {
            InputFormat::Ndjson => Rows::Ndjson(NdjsonRows::new(reader)),
            InputFormat::Csv => Rows::Delimited(DelimitedRows::new(reader, b',')?),
            InputFormat::Tsv => Rows::Delimited(DelimitedRows::new(reader, b'\t')?),
            InputFormat::AccessLog => Rows::AccessLog(AccessLogRows::new(reader)),
        })
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, RowError> {
        match self {
            Rows::Ndjson(rows) => rows.next(),
            Rows::Delimited(rows) => rows.next(),
            Rows::AccessLog(rows) => rows.next(),
        }
    }

    /// The names of the columns, where the format declares them.
    pub(super) fn columns(&self) -> Option<&[String]> {
        match self {
            Rows::Delimited(rows) => Some(rows.columns()),
            Rows::Ndjson(_) | Rows::AccessLog(_) => None,
        }
    }
}

/// The digest of a row that consists of these pieces.
pub(super) fn digest<'a>(line: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&line.to_le_bytes());
    for piece in pieces {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(&(piece.len() as u64).to_le_bytes());
        hasher.update(piece);
    }
    hasher.digest128()
}
