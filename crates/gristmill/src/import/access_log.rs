//! Access logs in the common and the combined format:
//! `address ident user [time] "request" status bytes "referrer" "user agent"`.

use std::borrow::Cow;
use std::io::BufRead;

use super::lines::{Found, Lines};
use super::rows::{Row, RowError, Value, digest};

/// The rows of an access log. Empty lines are skipped.
pub(super) struct AccessLogRows {
    lines: Lines,
}

impl AccessLogRows {
    pub(super) fn new(reader: Box<dyn BufRead + Send>) -> Self {
        Self { lines: Lines::new(reader) }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, RowError> {
        loop {
            match self.lines.advance()? {
                Found::End => return Ok(None),
                Found::TooLong => return Err(RowError::too_long(self.lines.number())),
                Found::Line if self.lines.line().trim_ascii().is_empty() => {}
                Found::Line => break,
            }
        }
        let line = self.lines.number();
        let text = self.lines.line();
        let bad = |reason: &str| RowError::Bad { line, reason: reason.to_owned() };
        let fields = parse(text).map_err(bad)?;
        Ok(Some(Row { line, fields, digest: digest(line, [text]) }))
    }
}

/// Whether a line looks like an access log's.
pub(super) fn is_access_log(line: &[u8]) -> bool {
    parse(line).is_ok()
}

/// Unescaping makes texts of their own, so nothing is borrowed from the line.
type Fields = Vec<(Cow<'static, str>, Value<'static>)>;

/// The fields of a line; `-` means absent. A request that is not `method path protocol`, as
/// strangers' probes are, is kept whole as the path.
fn parse(line: &[u8]) -> Result<Fields, &'static str> {
    let mut rest = Cursor { rest: line };
    let address = rest.word().ok_or("no address")?;
    let ident = rest.word().ok_or("no identity after the address")?;
    let user = rest.word().ok_or("no user after the identity")?;
    let time = rest.between(b'[', b']').ok_or("no [time] after the user")?;
    let request = rest.between(b'"', b'"').ok_or("no \"request\" after the time")?;
    let status = rest.word().ok_or("no status after the request")?;
    let bytes = rest.word().ok_or("no size after the status")?;
    let referrer = rest.between(b'"', b'"');
    let user_agent = rest.between(b'"', b'"');

    let mut fields = Vec::with_capacity(11);
    let mut add = |name: &'static str, value: Option<Value<'static>>| {
        if let Some(value) = value {
            fields.push((Cow::Borrowed(name), value));
        }
    };
    add("address", text(address));
    add("ident", text(ident));
    add("auth_user", text(user));
    add("time", text(time));
    let parts: Vec<&[u8]> = request.split(|byte| *byte == b' ').collect();
    if let [method, path, protocol] = parts[..] {
        add("method", text(method));
        add("path", text(path));
        add("protocol", text(protocol));
    } else {
        add("path", text(request));
    }
    add("status", number(status));
    add("bytes", number(bytes));
    add("referrer", referrer.and_then(text));
    add("user_agent", user_agent.and_then(text));
    Ok(fields)
}

fn text(bytes: &[u8]) -> Option<Value<'static>> {
    (bytes != b"-").then(|| Value::Text(Cow::Owned(unescape(bytes))))
}

fn number(bytes: &[u8]) -> Option<Value<'static>> {
    let number = std::str::from_utf8(bytes).ok()?.parse().ok();
    number.map(Value::Number).or_else(|| text(bytes))
}

/// Undoes `\"`, `\\` and `\xHH`, which servers write inside quotes. What is not UTF-8 then is
/// replaced.
fn unescape(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [b'\\', b'x', high, low, after @ ..] => {
                let digits = [*high, *low];
                let code = std::str::from_utf8(&digits).ok();
                match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                    Some(byte) => plain.push(byte),
                    None => plain.extend_from_slice(&rest[..4]),
                }
                rest = after;
            }
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                plain.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                plain.push(*byte);
                rest = after;
            }
            [] => return String::from_utf8_lossy(&plain).into_owned(),
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The text up to the next space.
    fn word(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.trim_ascii_start();
        let end = start.iter().position(|byte| *byte == b' ').unwrap_or(start.len());
        let (word, rest) = start.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The text between two marks; a mark after a backslash does not count.
    fn between(&mut self, open: u8, close: u8) -> Option<&'a [u8]> {
        let inside = self.rest.trim_ascii_start().strip_prefix(&[open])?;
        let mut escaped = false;
        let end = inside.iter().position(|byte| {
            let ends = *byte == close && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        self.rest = inside.get(end + 1..).unwrap_or_default();
        inside.get(..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Vec<(String, String)> {
        let show = |value: Value<'_>| match value {
            Value::Text(text) => text.into_owned(),
            Value::Number(number) => format!("#{number}"),
            Value::Json(_) => unreachable!(),
        };
        let fields = parse(line.as_bytes()).unwrap();
        fields.into_iter().map(|(name, value)| (name.into_owned(), show(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_combined_line_is_taken_apart() {
        let line = r#"1.2.3.4 - bob [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 512 "http://x/" "A \"q\" \\ \xc3\xa9""#;
        let expected = pairs(&[
            ("address", "1.2.3.4"),
            ("auth_user", "bob"),
            ("time", "17/May/2015:10:05:03 +0000"),
            ("method", "GET"),
            ("path", "/a?b=c"),
            ("protocol", "HTTP/1.1"),
            ("status", "#200"),
            ("bytes", "#512"),
            ("referrer", "http://x/"),
            ("user_agent", "A \"q\" \\ é"),
        ]);
        assert_eq!(parsed(line), expected);
    }

    #[test]
    fn common_format_probes_and_dashes_are_understood() {
        let line = r#"h - - [17/May/2015:10:05:03 +0000] "\x16\x03" 400 -"#;
        let expected = pairs(&[
            ("address", "h"),
            ("time", "17/May/2015:10:05:03 +0000"),
            ("path", "\u{16}\u{3}"),
            ("status", "#400"),
        ]);
        assert_eq!(parsed(line), expected);
        assert!(is_access_log(line.as_bytes()));
    }

    #[test]
    fn broken_lines_say_what_is_missing() {
        for (line, reason) in [
            ("", "no address"),
            ("h - -", "no [time] after the user"),
            ("h - - [t", "no [time] after the user"),
            ("h - - [t] \"GET / HTTP/1.1", "no \"request\" after the time"),
            ("h - - [t] \"GET / HTTP/1.1\"", "no status after the request"),
            ("h - - [t] \"GET / HTTP/1.1\" 200", "no size after the status"),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err(), reason, "{line}");
        }
    }
}
