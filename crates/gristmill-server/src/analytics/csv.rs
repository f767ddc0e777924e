//! Tables of comma-separated values, safe to open in a spreadsheet.
//!
//! A spreadsheet takes a text that begins with one of a few characters for a formula and would
//! run it; such a text gets an apostrophe in front.

use std::fmt::Write;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};

/// What a table is as an answer.
pub(crate) const MEDIA_TYPE: &str = "text/csv; charset=utf-8";

/// A table being written.
pub(crate) struct Table(String);

impl Table {
    /// A table with a header line.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = Self(String::new());
        for column in columns {
            table.text(column);
        }
        table.end_row();
        table
    }

    /// Appends a text to the row.
    pub(crate) fn text(&mut self, text: &str) {
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if is_formula || text.contains([',', '"', '\n', '\r']) {
            self.0.push('"');
            if is_formula {
                self.0.push('\'');
            }
            self.0.push_str(&text.replace('"', "\"\""));
            self.0.push('"');
        } else {
            self.0.push_str(text);
        }
        self.0.push(',');
    }

    /// Appends a number to the row.
    pub(crate) fn number(&mut self, number: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{number},");
    }

    /// Ends the row.
    pub(crate) fn end_row(&mut self) {
        self.0.pop();
        self.0.push_str("\r\n");
    }

    /// The table as text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// The table as an answer.
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        let csv = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, csv);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn formulas_are_defused_and_separators_quoted() {
        let mut table = Table::new(&["a", "b"]);
        for (text, number) in [("=cmd|x", 1), ("say \"hi\", you", -2), ("plain", 3), ("@a", 4)] {
            table.text(text);
            table.number(number);
            table.end_row();
        }
        let wanted =
            "a,b\r\n\"'=cmd|x\",1\r\n\"say \"\"hi\"\", you\",-2\r\nplain,3\r\n\"'@a\",4\r\n";
        assert_eq!(table.0, wanted);
    }
}
