//! How users come, stay, go and come back.

use crate::{Interval, Selection, Timestamp};

/// How many users are new, returning, resurrecting and dormant, bucket by bucket.
///
/// A user is active in a bucket with a selected event of theirs. Buckets are whole: the range
/// begins with the bucket of its start. Events before it are looked at too, as they tell who is
/// new.
#[derive(Clone, Debug)]
pub struct LifecycleQuery {
    /// Which events.
    pub selection: Selection,
    /// How wide a bucket is.
    pub interval: Interval,
    /// The IANA time zone in which buckets are cut.
    pub zone: String,
}

/// Answers a `LifecycleQuery`: one entry per bucket, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleAnswer {
    /// The buckets, also those without anybody.
    pub buckets: Vec<LifecycleBucket>,
}

/// The users of one bucket. Those who are active in it are new, returning or resurrecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifecycleBucket {
    /// The first moment of the bucket.
    pub start: Timestamp,
    /// How many are active for the first time ever.
    pub new: u64,
    /// How many are active and were so in the bucket before.
    pub returning: u64,
    /// How many are active, were not so in the bucket before, but earlier.
    pub resurrecting: u64,
    /// How many are not active and were so in the bucket before.
    pub dormant: u64,
}
