//! Dead letters: copies of records that were set aside, in a topic of their own, in the shape that an
//! older system gave them, but for the original's headers.
//!
//! ```json
//! {"original_topic":"…","original_partition":0,"original_offset":17,"original_key":"…",
//!  "original_value":"…","error":"…","timestamp":1767349320}
//! ```
//!
//! Bytes that are no UTF-8 are replaced; the store keeps them as they were. The time is that of the
//! letter, in seconds.

use gristmill_model::Timestamp;
use serde::Serialize;

use crate::SetAside;

#[derive(Serialize)]
struct Letter<'a> {
    original_topic: &'a str,
    original_partition: u32,
    original_offset: u64,
    original_key: &'a str,
    original_value: &'a str,
    error: &'a str,
    timestamp: i64,
}

/// The value of the letter about a record.
pub(super) fn letter(record: &SetAside<'_>, topic: &str, now: Timestamp) -> Vec<u8> {
    let letter = Letter {
        original_topic: topic,
        original_partition: record.partition.0,
        original_offset: record.offset,
        original_key: &String::from_utf8_lossy(record.key),
        original_value: &String::from_utf8_lossy(record.bytes),
        error: record.reason,
        timestamp: now.0.div_euclid(Timestamp::SECOND),
    };
    // Texts and numbers can always be written.
    serde_json::to_vec(&letter).unwrap_or_default()
}
