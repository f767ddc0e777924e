//! Mapping: which field of a row becomes which field of an event.
//!
//! What no flag names is found by its usual name; what is left over becomes properties.

use std::borrow::Cow;
use std::io::Write as _;

use serde_json::value::RawValue;

use super::InputFormat;
use super::ndjson::Object;
use super::rows::{Row, Value};
use super::times::read_time;

/// How rows become events. Each takes a field's NAME (of an object within, `outer.inner`), a
/// constant `=TEXT`, or a template like `https://example.com/{repo}`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Mapping (NAME of a field, =CONSTANT, or a template with {NAME})")]
pub(crate) struct MappingFlags {
    /// Event id [default: id or event_id, else derived from the line number and the row]
    #[arg(long, value_name = "FROM")]
    id: Option<Expression>,
    /// Time: RFC 3339, epoch s/ms/us, or an access log's [default: timestamp, time, time_stamp,
    /// created_at, ts]
    #[arg(long, value_name = "FROM")]
    time: Option<Expression>,
    /// User [default: user_id, user; of an access log address]
    #[arg(long, value_name = "FROM")]
    user: Option<Expression>,
    /// Session [default: session_id, session]
    #[arg(long, value_name = "FROM")]
    session: Option<Expression>,
    /// Event type [default: event_type, type, event; of an access log =request]
    #[arg(long = "type", value_name = "FROM")]
    event_type: Option<Expression>,
    /// Page [default: page_url, url; of an access log path]
    #[arg(long, value_name = "FROM")]
    page_url: Option<Expression>,
    /// Application that the events come from [default: source; of an access log =access_log]
    #[arg(long, value_name = "FROM")]
    source: Option<Expression>,
    /// Properties; without it, all fields that are not used above
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "no_rest")]
    properties: Option<Vec<String>>,
    /// No properties
    #[arg(long)]
    no_rest: bool,
    /// Turn CSV cells that are numbers, true or false into JSON numbers and booleans
    #[arg(long)]
    infer: bool,
}

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Field(String),
    Template(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field(String),
}

impl std::str::FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(constant) = text.strip_prefix('=') {
            return Ok(Expression::Template(vec![Piece::Literal(constant.to_owned())]));
        }
        if text.is_empty() {
            return Err("give the name of a field, =CONSTANT or a template".to_owned());
        }
        if !text.contains('{') {
            return Ok(Expression::Field(text.to_owned()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a `{` is not closed by a `}`")?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            pieces.push(Piece::Field(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Expression::Template(pieces))
    }
}

/// One field of an event: the first of its candidates that a row has.
#[derive(Clone, Debug)]
struct Slot {
    flag: &'static str,
    /// The candidate comes from the flag and is not a default.
    given: bool,
    candidates: Vec<Expression>,
}

/// Which fields become properties.
#[derive(Clone, Debug)]
enum Properties {
    Rest,
    Chosen(Vec<String>),
    None,
}

/// Turns rows into events.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    id: Slot,
    time: Slot,
    user: Slot,
    session: Slot,
    event_type: Slot,
    page_url: Slot,
    source: Slot,
    properties: Properties,
    infer: bool,
}

impl Mapping {
    /// The mapping that flags mean for files of a format.
    pub(crate) fn new(flags: &MappingFlags, format: InputFormat) -> Self {
        let slot = |flag, given: &Option<Expression>, names: &[&str]| {
            let default = || names.iter().filter_map(|name| name.parse().ok()).collect();
            let candidates = given.as_ref().map_or_else(default, |given| vec![given.clone()]);
            Slot { flag, given: given.is_some(), candidates }
        };
        let log = format == InputFormat::AccessLog;
        let pick = |for_logs: &'static [&'static str], otherwise: &'static [&'static str]| {
            if log { for_logs } else { otherwise }
        };
        let log_properties = ["method", "status", "bytes", "referrer", "user_agent"];
        let properties = match &flags.properties {
            _ if flags.no_rest => Properties::None,
            Some(chosen) => Properties::Chosen(chosen.clone()),
            None if log => Properties::Chosen(log_properties.map(str::to_owned).to_vec()),
            None => Properties::Rest,
        };
        let times = ["timestamp", "time", "time_stamp", "created_at", "ts"];
        Self {
            id: slot("--id", &flags.id, pick(&[], &["id", "event_id"])),
            time: slot("--time", &flags.time, &times),
            user: slot("--user", &flags.user, pick(&["address"], &["user_id", "user"])),
            session: slot("--session", &flags.session, pick(&[], &["session_id", "session"])),
            event_type: slot(
                "--type",
                &flags.event_type,
                pick(&["=request"], &["event_type", "type", "event"]),
            ),
            page_url: slot("--page-url", &flags.page_url, pick(&["path"], &["page_url", "url"])),
            source: slot("--source", &flags.source, pick(&["=access_log"], &["source"])),
            properties,
            infer: flags.infer,
        }
    }

    /// Checks that every field which a flag names is among the columns of a file.
    pub(crate) fn check_columns(&self, columns: &[String]) -> Result<(), String> {
        let missing = |name: &str| !columns.iter().any(|column| column == name);
        let unknown = |flag: &str, name: &str| {
            Err(format!("{flag}: there is no column `{name}`; there are {}", columns.join(", ")))
        };
        for slot in self.slots().into_iter().filter(|slot| slot.given) {
            let names = slot.candidates.iter().flat_map(Expression::names);
            if let Some(name) = names.into_iter().find(|name| missing(name)) {
                return unknown(slot.flag, name);
            }
        }
        if let Properties::Chosen(names) = &self.properties
            && let Some(name) = names.iter().find(|name| missing(name))
        {
            return unknown("--properties", name);
        }
        Ok(())
    }

    fn slots(&self) -> [&Slot; 7] {
        let Self { id, time, user, session, event_type, page_url, source, .. } = self;
        [id, time, user, session, event_type, page_url, source]
    }

    /// Writes a row as one event in JSON, or says what is wrong with the row.
    pub(super) fn write_event(&self, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let mut used = vec![false; row.fields.len()];
        let time = self.time.required(row, &mut used, "time")?;
        let time = read_time(&time).map_err(|reason| format!("{reason}, see --time"))?;
        let event_type = self.event_type.required(row, &mut used, "event type")?;
        let id = self.id.text(row, &mut used).filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| Cow::Owned(format!("{:032x}", row.digest)));
        let session = self.session.text(row, &mut used).filter(|session| !session.is_empty());

        out.extend_from_slice(b"{\"id\":");
        write_text(out, &id);
        write_member(out, "user_id", self.user.text(row, &mut used).as_deref());
        write_member(out, "session_id", session.as_deref());
        write_member(out, "event_type", Some(&event_type));
        write_member(out, "timestamp", Some(&time.to_string()));
        write_member(out, "source", self.source.text(row, &mut used).as_deref());
        write_member(out, "page_url", self.page_url.text(row, &mut used).as_deref());
        self.write_properties(row, &used, out);
        out.push(b'}');
        Ok(())
    }

    fn write_properties(&self, row: &Row<'_>, used: &[bool], out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"properties\":{");
        let before = out.len();
        let mut add = |name: &str, value: &Value<'_>| {
            if out.len() > before {
                out.push(b',');
            }
            write_text(out, name);
            out.push(b':');
            write_value(out, value, self.infer);
        };
        match &self.properties {
            Properties::Rest => {
                for ((name, value), _) in row.fields.iter().zip(used).filter(|(_, used)| !**used) {
                    match members_of_properties(name, value) {
                        Some(Object(members)) => {
                            members.iter().for_each(|(name, value)| add(name, &Value::Json(value)));
                        }
                        None => add(name, value),
                    }
                }
            }
            Properties::Chosen(names) => {
                for name in names {
                    if let Some((value, _)) = find(row, name) {
                        add(name, &value);
                    }
                }
            }
            Properties::None => {}
        }
        out.push(b'}');
    }
}

impl Slot {
    /// The text of the first candidate that the row has; marks the fields it is made of.
    fn text<'a>(&self, row: &'a Row<'_>, used: &mut [bool]) -> Option<Cow<'a, str>> {
        self.candidates.iter().find_map(|candidate| candidate.text(row, used))
    }

    fn required<'a>(
        &self,
        row: &'a Row<'_>,
        used: &mut [bool],
        what: &str,
    ) -> Result<Cow<'a, str>, String> {
        self.text(row, used).filter(|text| !text.is_empty()).ok_or_else(|| {
            let names: Vec<&str> = self.candidates.iter().flat_map(Expression::names).collect();
            format!("no {what} (looked for {}), see {}", names.join(", "), self.flag)
        })
    }
}

impl Expression {
    fn names(&self) -> Vec<&str> {
        match self {
            Expression::Field(name) => vec![name],
            Expression::Template(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Field(name) => Some(name.as_str()),
                    Piece::Literal(_) => None,
                })
                .collect(),
        }
    }

    /// The text for a row; absent if a field is. Constants are always there.
    fn text<'a>(&self, row: &'a Row<'_>, used: &mut [bool]) -> Option<Cow<'a, str>> {
        match self {
            Expression::Field(name) => field_text(row, name, used),
            Expression::Template(pieces) => {
                let mut whole = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => whole.push_str(text),
                        Piece::Field(name) => whole.push_str(&field_text(row, name, used)?),
                    }
                }
                Some(Cow::Owned(whole))
            }
        }
    }
}

fn field_text<'a>(row: &'a Row<'_>, name: &str, used: &mut [bool]) -> Option<Cow<'a, str>> {
    let (value, index) = find(row, name)?;
    if let Some(used) = index.and_then(|index| used.get_mut(index)) {
        *used = true;
    }
    match value {
        Value::Text(text) => Some(text),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Json(json) if json.get() == "null" => None,
        Value::Json(json) if json.get().starts_with('"') => {
            serde_json::from_str::<String>(json.get()).ok().map(Cow::Owned)
        }
        Value::Json(json) => Some(Cow::Borrowed(json.get())),
    }
}

/// A value by its name, with its index; or by its path through objects, then without an index,
/// because the object around it is not used up.
fn find<'a>(row: &'a Row<'_>, name: &str) -> Option<(Value<'a>, Option<usize>)> {
    let position = |name: &str| row.fields.iter().position(|(known, _)| known == name);
    if let Some(index) = position(name) {
        return Some((row.fields[index].1.clone(), Some(index)));
    }
    let (outer, mut path) = name.split_once('.')?;
    let Value::Json(mut json) = row.fields[position(outer)?].1 else { return None };
    loop {
        let members: Object<'a> = serde_json::from_str(json.get()).ok()?;
        let member = |name: &str| members.0.iter().find(|(known, _)| known == name);
        if let Some((_, value)) = member(path) {
            return Some((Value::Json(value), None));
        }
        let (inner, rest) = path.split_once('.')?;
        (json, path) = (member(inner)?.1, rest);
    }
}

/// The members of an object that is called `properties`, as it is in events that were written as
/// the API takes them: it is not nested once more.
fn members_of_properties<'a>(name: &str, value: &Value<'a>) -> Option<Object<'a>> {
    match value {
        Value::Json(json) if name == "properties" => serde_json::from_str(json.get()).ok(),
        _ => None,
    }
}

fn write_member(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_text(out, text);
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing a text into memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_value(out: &mut Vec<u8>, value: &Value<'_>, infer: bool) {
    match value {
        Value::Json(json) => out.extend_from_slice(json.get().as_bytes()),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Text(text) if infer && is_plain_json(text) => out.extend_from_slice(text.as_bytes()),
        Value::Text(text) => write_text(out, text),
    }
}

/// Whether a text is a boolean, or a number that every reader of JSON reads as it stands: short enough for a
/// double, no leading zero, which makes it an id, and nothing around it, such as the line break of an event.
fn is_plain_json(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let starts = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    let is_whole = |json: &RawValue| json.get() == text;
    let is_number = || serde_json::from_str::<&RawValue>(text).is_ok_and(is_whole);
    matches!(text, "true" | "false") || (starts && digits <= 15 && is_number())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::rows::Rows;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: MappingFlags,
    }

    /// The events that text of a format becomes under flags; of a bad row the reason.
    fn events(format: InputFormat, flags: &str, text: &str) -> Vec<serde_json::Value> {
        let words = std::iter::once("import").chain(flags.split_whitespace());
        let flags = Line::parse_from(words).flags;
        let mapping = Mapping::new(&flags, format);
        let reader = Box::new(std::io::Cursor::new(text.to_owned()));
        let mut rows = Rows::new(format, reader).unwrap();
        let mut events = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let mut out = Vec::new();
            events.push(match mapping.write_event(&row, &mut out) {
                Ok(()) => serde_json::from_slice(&out).unwrap(),
                Err(reason) => serde_json::Value::String(reason),
            });
        }
        events
    }

    #[test]
    fn templates_constants_and_the_rest() {
        let flags =
            "--id id --time dt --user actor --page-url https://github.com/{repo} --source =gh";
        let line = r#"{"id":"7","dt":"2015-02-22T21:00:00Z","repo":"o/n","type":"push","actor":"u","commits":1,"note":null}"#;
        let expected = serde_json::json!({
            "id": "7", "user_id": "u", "event_type": "push", "timestamp": "2015-02-22T21:00:00Z",
            "source": "gh", "page_url": "https://github.com/o/n",
            "properties": {"commits": 1, "note": null},
        });
        assert_eq!(events(InputFormat::Ndjson, flags, line), [expected]);
    }

    #[test]
    fn equal_rows_on_different_lines_are_different_events_and_stay_the_same() {
        let text = "timestamp,type,user,region\n1,VIEW,a,\n1,VIEW,a,\n";
        let first = events(InputFormat::Csv, "", text);
        assert_eq!(first, events(InputFormat::Csv, "", text));
        assert_ne!(first[0]["id"], first[1]["id"]);
        assert_eq!(first[0]["id"].as_str().map(str::len), Some(32));
        assert_eq!(first[0]["properties"], serde_json::json!({"region": ""}));
        assert_eq!(first[0]["timestamp"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn cells_stay_texts_unless_types_are_inferred() {
        let text = "ts,type,a,b,c,d\n1,x,12,-3499919498720038879,true,007\n";
        let plain =
            serde_json::json!({"a": "12", "b": "-3499919498720038879", "c": "true", "d": "007"});
        assert_eq!(events(InputFormat::Csv, "", text)[0]["properties"], plain);
        let typed =
            serde_json::json!({"a": 12, "b": "-3499919498720038879", "c": true, "d": "007"});
        assert_eq!(events(InputFormat::Csv, "--infer", text)[0]["properties"], typed);
        let broken = &events(InputFormat::Csv, "--infer", "ts,type,a\n1,x,\"12\n\"\n")[0];
        assert_eq!(broken["properties"]["a"], "12\n");
    }

    #[test]
    fn fields_within_objects_are_named_by_their_path() {
        let line = r#"{"ts":1,"type":"t","actor":{"login":{"name":"bob"},"x.y":2}}"#;
        let event =
            &events(InputFormat::Ndjson, "--user actor.login.name --session actor.x.y", line)[0];
        assert_eq!((&event["user_id"], &event["session_id"]), (&"bob".into(), &"2".into()));
        assert_eq!(event["properties"]["actor"]["login"]["name"], "bob");
    }

    #[test]
    fn an_object_of_properties_is_not_nested_once_more() {
        let line = r#"{"ts":1,"type":"t","properties":{"a":1,"b":{"c":2}},"d":3}"#;
        let expected = serde_json::json!({"a": 1, "b": {"c": 2}, "d": 3});
        assert_eq!(events(InputFormat::Ndjson, "", line)[0]["properties"], expected);
    }

    #[test]
    fn properties_may_be_chosen_or_left_out() {
        let line = r#"{"ts":1,"type":"t","a":1,"b":2}"#;
        let properties = |flags| events(InputFormat::Ndjson, flags, line)[0]["properties"].clone();
        assert_eq!(properties("--properties b,type,zz"), serde_json::json!({"b": 2, "type": "t"}));
        assert_eq!(properties("--no-rest"), serde_json::json!({}));
    }

    #[test]
    fn an_access_log_needs_no_flags() {
        let line = r#"v1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "curl""#;
        let mut event = events(InputFormat::AccessLog, "", line).remove(0);
        event.as_object_mut().unwrap().remove("id");
        let expected = serde_json::json!({
            "user_id": "v1", "event_type": "request", "timestamp": "2015-05-17T10:05:03Z",
            "source": "access_log", "page_url": "/a",
            "properties": {"method": "GET", "status": 200, "bytes": 5, "user_agent": "curl"},
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn what_is_missing_is_named_with_its_flag() {
        let reason = |line| events(InputFormat::Ndjson, "", line)[0].as_str().unwrap().to_owned();
        assert!(reason(r#"{"type":"t"}"#).contains("--time"));
        assert!(reason(r#"{"ts":null,"type":"t"}"#).contains("--time"));
        assert!(reason(r#"{"ts":"soon","type":"t"}"#).contains("soon"));
        assert!(reason(r#"{"ts":1,"type":""}"#).contains("--type"));
        let mapping = |flags: &str| {
            let words = std::iter::once("import").chain(flags.split_whitespace());
            Mapping::new(&Line::parse_from(words).flags, InputFormat::Csv)
        };
        let columns = ["ts".to_owned(), "type".to_owned()];
        assert_eq!(mapping("").check_columns(&columns), Ok(()));
        let error = mapping("--user who").check_columns(&columns).unwrap_err();
        assert!(error.contains("--user") && error.contains("`who`"), "{error}");
        assert!(mapping("--properties zz").check_columns(&columns).is_err());
    }
}
