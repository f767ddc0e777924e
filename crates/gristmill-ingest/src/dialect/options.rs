//! What a request asks for beside its events: `options`.

use std::time::Duration;

use super::BodyError;
use super::json::{Kind, Reader};

/// The options of a request, as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Answer when the events are checked and queued in memory.
    pub is_async: bool,
    /// How long the client waits, in seconds; 0 leaves that to the server.
    pub timeout_seconds: i64,
    /// Check the events and keep none.
    pub validate_only: bool,
    /// Answer when the events can be queried.
    pub wait_visible: bool,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The events are checked; none is kept.
    Checked,
    /// They are queued in memory, and lost if the process ends before it is done with them.
    Queued,
    /// They are on stable storage.
    Durable,
    /// They can be queried.
    Visible,
}

impl Options {
    /// What the answer waits for; an error if two options contradict.
    pub fn until(&self) -> Result<Until, BodyError> {
        match self {
            Self { validate_only: true, .. } => Ok(Until::Checked),
            Self { is_async: true, wait_visible: true, .. } => {
                let message =
                    "`options.async` answers at once and cannot wait until events are visible";
                Err(BodyError::Invalid(message.to_owned()))
            }
            Self { is_async: true, .. } => Ok(Until::Queued),
            Self { wait_visible: true, .. } => Ok(Until::Visible),
            Self { .. } => Ok(Until::Durable),
        }
    }

    /// How long the answer may take, if the client says; an error if that is below 0.
    pub fn timeout(&self) -> Result<Option<Duration>, BodyError> {
        let seconds = u64::try_from(self.timeout_seconds).map_err(|_| {
            BodyError::Invalid("`options.timeout_seconds` must be 0 or more".to_owned())
        })?;
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    /// Reads the text of a value that was read before; one that is no object asks for nothing. Members that
    /// it does not know are ignored.
    pub(super) fn read(text: &str) -> Result<Self, BodyError> {
        let mut options = Self::default();
        if !text.starts_with('{') {
            return Ok(options);
        }
        Reader::new(text).object(|reader, key| {
            match key.as_ref() {
                "async" => options.is_async = flag(reader, "async")?,
                "validate_only" | "validateOnly" => {
                    options.validate_only = flag(reader, "validate_only")?;
                }
                "wait_visible" | "waitVisible" => {
                    options.wait_visible = flag(reader, "wait_visible")?;
                }
                "timeout_seconds" | "timeoutSeconds" => options.timeout_seconds = seconds(reader)?,
                _ => drop(reader.skip()?),
            }
            Ok::<_, BodyError>(())
        })?;
        Ok(options)
    }
}

fn flag(reader: &mut Reader<'_>, name: &str) -> Result<bool, BodyError> {
    match reader.skip()? {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(BodyError::Invalid(format!("`options.{name}` must be true or false"))),
    }
}

fn seconds(reader: &mut Reader<'_>) -> Result<i64, BodyError> {
    let text = match reader.kind()? {
        Kind::Null => return Ok(reader.skip().map(|_| 0)?),
        _ => reader.skip()?,
    };
    text.parse::<i32>().map(i64::from).map_err(|_| {
        BodyError::Invalid("`options.timeout_seconds` must be a whole number of seconds".to_owned())
    })
}
