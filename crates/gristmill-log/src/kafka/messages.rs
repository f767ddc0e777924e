//! Messages of a partition as they came, decoded when they are asked for.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use gristmill_model::{Event, Partition, Timestamp};
use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::foreign::{ForeignRecord, ForeignRecords};
use super::record;
use crate::{BadRecord, LogBatch, Payload, Record};

/// The header that says that a record is one of ours, and in which version of the format.
pub(super) const FORMAT_HEADER: &str = "gristmill";
/// The version that is written.
pub(super) const FORMAT: &str = "1";

/// Messages of one partition, in order.
#[derive(Clone)]
pub struct Messages {
    source: Source,
    gathered: Arc<Gathered>,
}

/// Where messages come from, and who understands those of others.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) topic: Arc<str>,
    pub(super) foreign: Arc<dyn ForeignRecords>,
}

#[derive(Default)]
struct Gathered {
    /// The keys and values, one after the other.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    offset: u64,
    time: Timestamp,
    writer: Writer,
    key: Range<usize>,
    /// `None` is Kafka's way to say that a key is deleted.
    value: Option<Range<usize>>,
}

enum Writer {
    Ours,
    OursLater,
    Other,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("count", &self.gathered.items.len()).finish()
    }
}

impl Messages {
    /// How many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        self.gathered.bytes.len() + self.gathered.items.len() * size_of::<Item>()
    }

    /// The records that they are.
    pub(crate) fn records(&self, partition: Partition) -> impl Iterator<Item = Record<'_>> {
        self.gathered
            .items
            .iter()
            .map(move |item| Record { offset: item.offset, payload: self.read(partition, item) })
    }

    /// The value of the message at an offset.
    pub(crate) fn value(&self, offset: u64) -> Option<&[u8]> {
        self.value_of(self.item(offset)?)
    }

    /// The key of the message at an offset.
    pub(crate) fn key(&self, offset: u64) -> Option<&[u8]> {
        self.gathered.bytes.get(self.item(offset)?.key.clone())
    }

    fn item(&self, offset: u64) -> Option<&Item> {
        let items = &self.gathered.items;
        items.get(items.binary_search_by_key(&offset, |item| item.offset).ok()?)
    }

    fn value_of(&self, item: &Item) -> Option<&[u8]> {
        self.gathered.bytes.get(item.value.clone()?)
    }

    fn read<'a>(&'a self, partition: Partition, item: &Item) -> Result<Payload<'a>, BadRecord<'a>> {
        let Some(value) = self.value_of(item) else {
            let reason = "the record has no value: it deletes a key, and events are not deleted so";
            return Err(BadRecord { reason: reason.into(), bytes: &[] });
        };
        let event: Result<Event<'a>, String> = match item.writer {
            Writer::Ours => record::read(value),
            Writer::OursLater => {
                Err("the record was written by a newer version of gristmill".to_owned())
            }
            Writer::Other => self.source.foreign.read(&ForeignRecord {
                topic: &self.source.topic,
                partition: partition.0,
                offset: item.offset,
                time: item.time,
                value,
            }),
        };
        match event {
            Ok(event) => Ok(Payload::Event(event)),
            Err(reason) => Err(BadRecord { reason: reason.into(), bytes: value }),
        }
    }
}

/// Messages of one partition that are being gathered.
pub(super) struct Gathering {
    partition: Partition,
    gathered: Gathered,
}

impl Gathering {
    pub(super) fn new(partition: Partition) -> Self {
        Self { partition, gathered: Gathered::default() }
    }

    /// How many bytes of keys and values there are.
    pub(super) fn bytes(&self) -> usize {
        self.gathered.bytes.len()
    }

    pub(super) fn push(&mut self, offset: u64, message: &BorrowedMessage<'_>) {
        let mut keep = |bytes: &[u8]| {
            let start = self.gathered.bytes.len();
            self.gathered.bytes.extend_from_slice(bytes);
            start..self.gathered.bytes.len()
        };
        let key = keep(message.key().unwrap_or_default());
        let value = message.payload().map(keep);
        let millis = message.timestamp().to_millis().unwrap_or_default();
        let time = Timestamp(millis.saturating_mul(1_000));
        self.gathered.items.push(Item { offset, time, writer: writer_of(message), key, value });
    }

    /// The batch of what was gathered, if that is anything.
    pub(super) fn finish(mut self, source: &Source) -> Option<LogBatch> {
        let (first, last) = (self.gathered.items.first()?, self.gathered.items.last()?);
        let (first_offset, next_offset) = (first.offset, last.offset + 1);
        let count = self.gathered.items.len() as u32;
        self.gathered.bytes.shrink_to_fit();
        Some(batch(self.partition, first_offset..next_offset, count, source, self.gathered))
    }
}

/// A batch without records, which passes over a gap.
pub(super) fn gap(partition: Partition, offsets: Range<u64>, source: &Source) -> LogBatch {
    batch(partition, offsets, 0, source, Gathered::default())
}

fn batch(
    partition: Partition,
    offsets: Range<u64>,
    count: u32,
    source: &Source,
    gathered: Gathered,
) -> LogBatch {
    let messages = Messages { source: source.clone(), gathered: Arc::new(gathered) };
    let block = crate::Block::Messages(messages);
    LogBatch { partition, first_offset: offsets.start, next_offset: offsets.end, count, block }
}

fn writer_of(message: &BorrowedMessage<'_>) -> Writer {
    let format = message.headers().and_then(|headers| {
        headers.iter().find(|header| header.key == FORMAT_HEADER).map(|header| header.value)
    });
    match format {
        None => Writer::Other,
        Some(version) if version == Some(FORMAT.as_bytes()) => Writer::Ours,
        Some(_) => Writer::OursLater,
    }
}
