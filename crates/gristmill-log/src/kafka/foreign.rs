//! Records that others wrote.

use gristmill_model::{Event, Timestamp};

/// Understands records of the topic that this program did not write.
///
/// What it says of a record may depend on nothing but the record, so that reading it again gives
/// the same event with the same id.
pub trait ForeignRecords: Send + Sync + 'static {
    /// The event that a record tells of, or in a sentence why it tells of none.
    fn read(&self, record: &ForeignRecord<'_>) -> Result<Event<'static>, String>;
}

/// A record of another producer.
#[derive(Clone, Copy, Debug)]
pub struct ForeignRecord<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its time, as the producer or the broker stamped it; 1970 if it has none.
    pub time: Timestamp,
    /// Its value.
    pub value: &'a [u8],
}

/// Understands nothing: every record of others is set aside.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoForeignRecords;

impl ForeignRecords for NoForeignRecords {
    fn read(&self, _: &ForeignRecord<'_>) -> Result<Event<'static>, String> {
        Err("the record was not written by gristmill".to_owned())
    }
}
