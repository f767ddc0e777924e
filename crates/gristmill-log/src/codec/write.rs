//! Events into a block.

use gristmill_model::{Event, SessionId};

use super::wire::{fill_varint, put_varint, uuid_bytes, varint_len, zigzag};
use super::{
    HAS_PROJECT, HAS_PROPERTIES, HAS_RECEIVED, HAS_SESSION, ID_IS_UUID, KIND_EVENT, PLAIN,
    SESSION_IS_USER,
};

/// Appends the block of `events` to `out`. Nothing is written for no events.
pub fn encode(events: &[Event<'_>], out: &mut Vec<u8>) {
    let Some(first) = events.first() else { return };
    let mut block = Block { start: out.len(), out, literals: [Literal::NONE; SLOTS], first };
    block.out.push(PLAIN);
    block.text(first.project.as_str());
    block.out.extend_from_slice(&first.received.0.to_le_bytes());
    for event in events {
        block.record(event);
    }
}

/// How many bytes a block of `events` takes at most.
pub(crate) fn size_bound(events: &[Event<'_>]) -> usize {
    let first = events.first().map_or(0, |event| event.project.as_str().len());
    64 + first + events.iter().map(|event| LENGTH_BYTES + record_bound(event)).sum::<usize>()
}

/// The most bytes of a record's length.
const LENGTH_BYTES: usize = 5;
/// How many texts are remembered for references. A slot is taken over by a newer text, so a block
/// of many different texts costs no memory and only loses references.
const SLOTS: usize = 64;
/// A reference takes two or three bytes, so a shorter text is better repeated.
const SHORTEST_LITERAL: usize = 3;

/// A text that was written out, by its place in the block.
#[derive(Clone, Copy)]
struct Literal {
    /// Where its ref stands; 0, the block's version, for none.
    position: u32,
    /// Where its text starts.
    text: u32,
    /// How long it is.
    length: u32,
}

impl Literal {
    const NONE: Literal = Literal { position: 0, text: 0, length: 0 };
}

struct Block<'a> {
    out: &'a mut Vec<u8>,
    /// Where the block starts in `out`.
    start: usize,
    literals: [Literal; SLOTS],
    first: &'a Event<'a>,
}

impl Block<'_> {
    fn record(&mut self, event: &Event<'_>) {
        let width = varint_len(record_bound(event) as u64);
        let length_at = self.out.len();
        self.out.resize(length_at + width, 0);
        self.fields(event);
        let body = length_at + width;
        let length = self.out.len() - body;
        if let Some(space) = self.out.get_mut(length_at..body) {
            fill_varint(space, length as u64);
        }
    }

    fn fields(&mut self, event: &Event<'_>) {
        let id = event.id.as_str();
        let uuid = uuid_bytes(id);
        let user = event.user.as_str();
        let session = event.session.as_ref().map(SessionId::as_str);
        let other_project = event.project != self.first.project;
        let other_received = event.received != self.first.received;
        let has_properties = event.properties != Event::NO_PROPERTIES;
        let flags = flag(ID_IS_UUID, uuid.is_some())
            | flag(HAS_SESSION, session.is_some())
            | flag(SESSION_IS_USER, session == Some(user))
            | flag(HAS_PROJECT, other_project)
            | flag(HAS_RECEIVED, other_received)
            | flag(HAS_PROPERTIES, has_properties);

        self.out.extend_from_slice(&[KIND_EVENT, flags, event.origin.number()]);
        if other_project {
            self.text(event.project.as_str());
        }
        if other_received {
            self.delta(self.first.received.0, event.received.0);
        }
        match uuid {
            Some(bytes) => self.out.extend_from_slice(&bytes),
            None => self.text(id),
        }
        self.text(user);
        if let Some(session) = session.filter(|session| *session != user) {
            self.text(session);
        }
        self.delta(event.received.0, event.time.0);
        self.reference(&event.event_type);
        self.reference(&event.source);
        self.reference(&event.page_url);
        if has_properties {
            self.out.extend_from_slice(event.properties.as_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        put_varint(self.out, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn delta(&mut self, base: i64, value: i64) {
        put_varint(self.out, zigzag(value.wrapping_sub(base)));
    }

    /// Writes a text, or where the block has it already.
    fn reference(&mut self, text: &str) {
        if text.len() < SHORTEST_LITERAL {
            return self.literal(text);
        }
        let slot = slot_of(text);
        let known = self.literals[slot];
        if known.position != 0 && self.literal_bytes(known) == text.as_bytes() {
            return put_varint(self.out, u64::from(known.position) * 2 + 1);
        }
        let position = self.out.len() - self.start;
        self.literal(text);
        let start = self.out.len() - self.start - text.len();
        self.literals[slot] =
            Literal { position: position as u32, text: start as u32, length: text.len() as u32 };
    }

    fn literal(&mut self, text: &str) {
        put_varint(self.out, text.len() as u64 * 2);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn literal_bytes(&self, literal: Literal) -> &[u8] {
        let start = self.start + literal.text as usize;
        self.out.get(start..start + literal.length as usize).unwrap_or_default()
    }
}

fn flag(bit: u8, is_set: bool) -> u8 {
    if is_set { bit } else { 0 }
}

/// No record is longer than this, whatever is referred to.
fn record_bound(event: &Event<'_>) -> usize {
    const FIXED: usize = 80;
    FIXED
        + event.project.as_str().len()
        + event.id.as_str().len()
        + event.user.as_str().len()
        + event.session.as_ref().map_or(0, |session| session.as_str().len())
        + event.event_type.len()
        + event.source.len()
        + event.page_url.len()
        + event.properties.len()
}

/// Mixes the length and the last eight bytes: pages differ at their ends. A poor mix only costs
/// references, never correctness.
fn slot_of(text: &str) -> usize {
    let bytes = text.as_bytes();
    let tail = match bytes.last_chunk::<8>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => bytes.iter().fold(0, |mixed, byte| (mixed << 8) | u64::from(*byte)),
    };
    let mixed = (tail ^ (bytes.len() as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize
}
