//! The bytes of a block: the events of one append.
//!
//! ```text
//! block    version u8 = 1 | project text | received i64 | records
//! record   length varint | kind u8 | flags u8 | origin u8
//!          | [project text] | [received delta]        where they differ from the block's
//!          | id: 16 bytes or text | user text | [session text]
//!          | time delta | type ref | source ref | page ref | [properties: the rest]
//! text     length varint | UTF-8
//! ref      varint 2n: n bytes of UTF-8 follow; varint 2p + 1: the ref at byte p of the block
//! delta    zigzag varint: microseconds after the block's (received) or the record's (time)
//!          received time
//! ```
//!
//! Numbers are little-endian. A record refers back by byte position, so it can be read without
//! those before it, and a bad one spoils no other. Kind 1 is an event; 2 is kept for control
//! records. Flags: 1 the id is a UUID as 16 bytes, 2 has a session, 4 the session is the user,
//! 8 has a project, 16 has a received time, 32 has properties other than `{}`.
//!
//! Version 2 is never stored: `version u8 = 2 | skip u32 | block` is a block without its first
//! `skip` records, made by `suffix` for a reader that starts inside an append.

mod read;
mod wire;
mod write;

pub use read::{Records, decode};
pub use write::encode;
pub(crate) use write::size_bound;

use bytes::Bytes;

/// The version of a stored block.
const PLAIN: u8 = 1;
/// The version of a block that hides its first records.
const SUFFIX: u8 = 2;

/// A record that is an event.
const KIND_EVENT: u8 = 1;

const ID_IS_UUID: u8 = 1;
const HAS_SESSION: u8 = 2;
const SESSION_IS_USER: u8 = 4;
const HAS_PROJECT: u8 = 8;
const HAS_RECEIVED: u8 = 16;
const HAS_PROPERTIES: u8 = 32;

/// The block without its first `skip` records.
pub(crate) fn suffix(block: &Bytes, skip: u32) -> Bytes {
    let mut bytes = Vec::with_capacity(5 + block.len());
    bytes.push(SUFFIX);
    bytes.extend_from_slice(&skip.to_le_bytes());
    bytes.extend_from_slice(block);
    bytes.into()
}

#[cfg(test)]
mod tests;
