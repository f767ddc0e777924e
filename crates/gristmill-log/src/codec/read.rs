//! A block into events that borrow from it.

use std::borrow::Cow;

use gristmill_model::{Event, EventId, Origin, ProjectId, SessionId, Timestamp, UserId};

use super::wire::{Input, Reason, as_text, unzigzag, uuid_text};
use super::{
    HAS_PROJECT, HAS_PROPERTIES, HAS_RECEIVED, HAS_SESSION, ID_IS_UUID, KIND_EVENT, PLAIN,
    SESSION_IS_USER, SUFFIX,
};
use crate::{BadRecord, Payload};

/// The records of a block: always exactly `count` items. What cannot be read is a [`BadRecord`]
/// with its bytes; if the block itself cannot be read, the first item has all its bytes.
pub fn decode(block: &[u8], count: u32) -> Records<'_> {
    let (block, skip) = match visible(block) {
        Ok(visible) => visible,
        Err(reason) => return Records::unreadable(block, count, reason),
    };
    let mut input = Input::new(block);
    match Shared::read(&mut input) {
        Ok(shared) => {
            let mut records = Records { input, left: count, shared: Ok(shared) };
            (0..skip).for_each(|_| drop(records.step()));
            records
        }
        Err(reason) => Records::unreadable(block, count, reason),
    }
}

/// Yields the records of a block; made by [`decode`].
#[derive(Debug)]
pub struct Records<'a> {
    input: Input<'a>,
    left: u32,
    shared: Result<Shared<'a>, Reason>,
}

/// What the records of a block have in common.
#[derive(Clone, Copy, Debug)]
struct Shared<'a> {
    project: &'a str,
    received: i64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Payload<'a>, BadRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let shared = match self.shared {
            Ok(shared) => shared,
            Err(reason) => return Some(Err(self.give_up(reason))),
        };
        Some(self.step().and_then(|record| {
            read_event(self.input.bytes, record, shared).map_err(|reason| BadRecord {
                reason: reason.into(),
                bytes: record.bytes.get(record.at..).unwrap_or_default(),
            })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

impl<'a> Records<'a> {
    fn unreadable(block: &'a [u8], count: u32, reason: Reason) -> Self {
        Self { input: Input::new(block), left: count, shared: Err(reason) }
    }

    /// The bytes of the next record, as the part of the block that ends with it.
    fn step(&mut self) -> Result<Input<'a>, BadRecord<'a>> {
        if self.input.rest().is_empty() {
            let reason = "the block ends before this record".into();
            return Err(BadRecord { reason, bytes: &[] });
        }
        let before = self.input;
        let found = self.input.length().and_then(|length| {
            let at = self.input.at;
            self.input.take(length)?;
            let bytes = self.input.bytes.get(..self.input.at).unwrap_or_default();
            Ok(Input { bytes, at })
        });
        found.map_err(|_| {
            self.input = before;
            self.give_up("the record's length runs past the block's end")
        })
    }

    /// Nothing after this can be found.
    fn give_up(&mut self, reason: Reason) -> BadRecord<'a> {
        let bytes = self.input.rest();
        self.input.at = self.input.bytes.len();
        BadRecord { reason: reason.into(), bytes }
    }
}

impl<'a> Shared<'a> {
    fn read(input: &mut Input<'a>) -> Result<Self, Reason> {
        if input.byte()? != PLAIN {
            return Err("the block's version is not known");
        }
        let project = input.text()?;
        let received = i64::from_le_bytes(input.array()?);
        Ok(Self { project, received })
    }
}

/// The stored block, and how many of its first records are hidden.
fn visible(block: &[u8]) -> Result<(&[u8], u32), Reason> {
    if block.first() != Some(&SUFFIX) {
        return Ok((block, 0));
    }
    let mut input = Input { bytes: block, at: 1 };
    let skip = u32::from_le_bytes(input.array()?);
    let inner = input.rest();
    // Every record takes a byte, so a larger number is damage and would only take time.
    if skip as usize > inner.len() {
        return Err("the block hides more records than it has");
    }
    Ok((inner, skip))
}

fn read_event<'a>(
    block: &'a [u8],
    mut input: Input<'a>,
    shared: Shared<'a>,
) -> Result<Payload<'a>, Reason> {
    let [kind, flags, origin] = input.array()?;
    if kind != KIND_EVENT {
        return Err("the record's kind is not known");
    }
    let has = |bit: u8| flags & bit != 0;
    let project = if has(HAS_PROJECT) { input.text()? } else { shared.project };
    let received = match has(HAS_RECEIVED) {
        true => shared.received.wrapping_add(unzigzag(input.varint()?)),
        false => shared.received,
    };
    let id = match has(ID_IS_UUID) {
        true => EventId::new(uuid_text(input.array()?)?),
        false => EventId::new(input.text()?),
    };
    let user = input.text()?;
    let session = match (has(HAS_SESSION), has(SESSION_IS_USER)) {
        (false, _) => None,
        (true, true) => Some(user),
        (true, false) => Some(input.text()?),
    };
    let time = received.wrapping_add(unzigzag(input.varint()?));
    let event_type = reference(block, &mut input)?;
    let source = reference(block, &mut input)?;
    let page_url = reference(block, &mut input)?;
    let properties = match has(HAS_PROPERTIES) {
        true => as_text(input.rest())?,
        false if input.rest().is_empty() => Event::NO_PROPERTIES,
        false => return Err("bytes follow the record's last field"),
    };
    Ok(Payload::Event(Event {
        project: ProjectId::new(project),
        id,
        user: UserId::new(user),
        session: session.map(SessionId::new),
        event_type: Cow::Borrowed(event_type),
        time: Timestamp(time),
        received: Timestamp(received),
        source: Cow::Borrowed(source),
        page_url: Cow::Borrowed(page_url),
        origin: Origin::from_number(origin).ok_or("the record's origin is not known")?,
        properties: Cow::Borrowed(properties),
    }))
}

#[inline]
fn reference<'a>(block: &'a [u8], input: &mut Input<'a>) -> Result<&'a str, Reason> {
    let at = input.at;
    let head = input.varint()?;
    if head & 1 == 0 {
        return literal(input, head);
    }
    let position = usize::try_from(head >> 1).map_err(|_| "a reference is out of range")?;
    // Only backwards, and only to a text: so a reference never leads to another one.
    if position >= at {
        return Err("a reference does not lead back");
    }
    let mut target = Input { bytes: block, at: position };
    let head = target.varint()?;
    if head & 1 != 0 {
        return Err("a reference leads to another one");
    }
    literal(&mut target, head)
}

#[inline]
fn literal<'a>(input: &mut Input<'a>, head: u64) -> Result<&'a str, Reason> {
    let length = usize::try_from(head >> 1).map_err(|_| "a length is out of range")?;
    as_text(input.take(length)?)
}
