//! Records that other producers wrote to a shared log: each is one event of some dialect, which is
//! told by its fields.

use gristmill_model::{Event, Origin};

use super::json::{Kind, Reader, Syntax};
use super::{Context, activity, body_text, clicks, native, platform, sessions};

/// The event of a record's value, or in a sentence why there is none.
///
/// | dialect | told by |
/// |---|---|
/// | clicks | `event_id` or `time_stamp` |
/// | activity | `activity_type` |
/// | sessions | `sessionId`, `eventType` or `payload`, and neither `id` nor `event_type` |
/// | platform | a `timestamp` that is a number, and neither `session_id` nor `page_url` |
/// | native | whatever is none of these |
pub fn foreign<'a>(value: &'a [u8], ctx: &Context<'a>) -> Result<Event<'a>, String> {
    let text = body_text(value).map_err(|error| error.to_string())?;
    let origin = origin_of(text);
    let event = match origin {
        Origin::Clicks => clicks::one(value, ctx).map(|click| click.event).map_err(told),
        Origin::Activity => activity::one(value, ctx).map_err(told),
        Origin::Sessions => sessions::one(value, ctx).map_err(told),
        Origin::Platform => platform::one(value, ctx).map_err(told),
        Origin::Native => native::one(value, ctx).map_err(told).and_then(|posted| {
            let only = posted.events.into_iter().next();
            only.ok_or_else(|| "no event".to_owned())?.map_err(told)
        }),
    };
    event.map_err(|reason| format!("read as an event of dialect {}: {reason}", origin.as_str()))
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Tells by the keys, of a broken text by those before the break.
fn origin_of(text: &str) -> Origin {
    let [mut clicks, mut activity, mut sessions, mut platform] = [false; 4];
    let [mut has_name, mut has_number, mut is_native] = [false; 3];
    let _: Result<(), Syntax> = Reader::new(text).object(|reader, key| {
        match key.as_ref() {
            "event_id" | "time_stamp" => clicks = true,
            "activity_type" => activity = true,
            "sessionId" | "eventType" | "payload" => sessions = true,
            "id" | "event_type" => has_name = true,
            "session_id" | "page_url" => is_native = true,
            "timestamp" => has_number = reader.kind()? == Kind::Number,
            _ => {}
        }
        reader.skip().map(drop)
    });
    platform |= has_number && !is_native;
    match (clicks, activity, sessions && !has_name, platform) {
        (true, ..) => Origin::Clicks,
        (_, true, ..) => Origin::Activity,
        (_, _, true, _) => Origin::Sessions,
        (.., true) => Origin::Platform,
        _ => Origin::Native,
    }
}
