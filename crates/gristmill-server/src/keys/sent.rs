//! What a client says of a key that it wants.

use std::fmt::Display;

use gristmill_model::{ErrorCode, Micros, Scope, Scopes, Timestamp, limits};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::limits::Limits;
use crate::analytics::{duration_of, time_of};
use crate::problem::Problem;

/// For how long a key goes on that was rotated, if nobody says: a day.
pub(super) const OVERLAP: &str = "24h";

/// A key that is to be made.
pub(super) struct NewKey {
    pub(super) project: Option<String>,
    pub(super) scopes: Scopes,
    pub(super) name: String,
    pub(super) expires: Option<Timestamp>,
    pub(super) limits: Limits,
}

/// How a key is to be rotated.
pub(super) struct Rotation {
    pub(super) overlap: Micros,
    pub(super) expires: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    project: Option<String>,
    scopes: Option<Vec<String>>,
    name: Option<String>,
    expires_at: Option<Value>,
    ttl: Option<String>,
    limits: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotationBody {
    overlap: Option<String>,
    expires_at: Option<Value>,
    ttl: Option<String>,
}

impl NewKey {
    /// Reads a body.
    pub(super) fn read(text: &[u8], now: Timestamp) -> Result<Self, Problem> {
        let body: Body = serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
        if let Some(project) = &body.project {
            check_project(project)?;
        }
        let name = body.name.unwrap_or_default();
        let most = limits::KEY_NAME_BYTES;
        if name.len() > most || name.contains('\0') {
            let detail = format!("`name` must have at most {most} bytes and no NUL character");
            return Err(Problem::argument(detail));
        }
        Ok(Self {
            project: body.project,
            scopes: scopes(&body.scopes.unwrap_or_default())?,
            name,
            expires: expires(body.expires_at, body.ttl, now)?,
            limits: limits_of(body.limits.unwrap_or_default())?,
        })
    }
}

impl Rotation {
    /// Reads a body.
    pub(super) fn read(text: &[u8], now: Timestamp) -> Result<Self, Problem> {
        let body: RotationBody =
            serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
        let overlap = match body.overlap.as_deref().unwrap_or(OVERLAP) {
            "0s" | "0" => 0,
            text => duration_of("overlap", text)?,
        };
        Ok(Self { overlap, expires: expires(body.expires_at, body.ttl, now)? })
    }
}

/// What is kept and told may have limits of later versions; what is sent may not.
fn limits_of(members: Map<String, Value>) -> Result<Limits, Problem> {
    if let Some(unknown) = members.keys().find(|name| !Limits::NAMES.contains(&name.as_str())) {
        let detail = format!("`limits` has the unknown member `{unknown}`");
        return Err(unreadable(&detail));
    }
    let limits: Limits = serde_json::from_value(members.into()).map_err(|e| unreadable(&e))?;
    limits.check()
}

fn unreadable(error: &impl Display) -> Problem {
    let detail = format!("the body is not what is expected here: {error}");
    Problem::new(ErrorCode::InvalidBody, detail)
}

fn check_project(project: &str) -> Result<(), Problem> {
    let most = limits::PROJECT_ID_BYTES;
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=most).contains(&project.len()) && project.bytes().all(is_of_id) {
        return Ok(());
    }
    let detail =
        format!("`project` must be 1 to {most} letters, digits, `-`, `_` and `.` of ASCII");
    Err(Problem::argument(detail))
}

fn scopes(names: &[String]) -> Result<Scopes, Problem> {
    let wrong = || {
        let names = Scope::ALL.map(Scope::name).join("`, `");
        Problem::argument(format!("`scopes` must be a list of one or more of `{names}`"))
    };
    let most = Scope::ALL.len();
    if names.is_empty() || names.len() > most {
        return Err(wrong());
    }
    let scopes = names.iter().map(|name| Scope::of_name(name)).collect::<Option<Scopes>>();
    scopes.ok_or_else(wrong)
}

/// When the key ends, if ever.
fn expires(
    at: Option<Value>,
    ttl: Option<String>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let end = match (at, ttl) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Problem::argument("`expires_at` and `ttl` are both given: give one"));
        }
        (None, Some(ttl)) => now.plus(duration_of("ttl", &ttl)?),
        (Some(Value::String(text)), None) => time_of("expires_at", &text)?,
        (Some(value), None) => time_of("expires_at", &value.to_string())?,
    };
    if end <= now {
        return Err(Problem::argument("`expires_at` must lie in the future"));
    }
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

    #[test]
    fn what_is_wanted_is_read() {
        let text = br#"{"project": "shop", "scopes": ["write", "read"], "name": "web",
            "ttl": "30d", "limits": {"events_per_second": 5}}"#;
        let new = NewKey::read(text, NOW).unwrap();
        assert_eq!((new.project.as_deref(), new.name.as_str()), (Some("shop"), "web"));
        assert_eq!(new.scopes.iter().collect::<Vec<_>>(), [Scope::Write, Scope::Read]);
        assert_eq!(new.expires, Some(NOW.plus(30 * Timestamp::DAY)));
        assert_eq!(new.limits.events_per_second, Some(5));
        let rotation = Rotation::read(b"{}", NOW).unwrap();
        assert_eq!((rotation.overlap, rotation.expires), (Timestamp::DAY, None));
        assert_eq!(Rotation::read(br#"{"overlap": "0s"}"#, NOW).unwrap().overlap, 0);
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"scopes": []}"#,
            r#"{"scopes": ["all"]}"#,
            r#"{"scopes": ["read"], "project": ""}"#,
            r#"{"scopes": ["read"], "project": "a b"}"#,
            r#"{"scopes": ["read"], "more": 1}"#,
            r#"{"scopes": ["read"], "ttl": "1d", "expires_at": "2030-01-01T00:00:00Z"}"#,
            r#"{"scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}"#,
            r#"{"scopes": ["read"], "limits": {"events_per_day": 0}}"#,
            r#"{"scopes": ["read"], "limits": {"more": 1}}"#,
        ] {
            assert!(NewKey::read(text.as_bytes(), NOW).is_err(), "{text}");
        }
    }
}
