//! Which state of a store an answer is about, so that it can be kept for as long as that lasts.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_model::Partition;
use thiserror::Error;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How many records may have come since the last look for it to be worth reading whose they are.
const MISSED_RECORDS: u64 = 5_000;
/// How many changes are remembered.
const CHANGES: usize = 65_536;

/// One partition of one of the logs whose events a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feed {
    /// The log's number within the store.
    pub log: u32,
    /// The partition of the log.
    pub partition: Partition,
}

/// The state of everything committed, whichever process committed it: how far each feed has been
/// taken in. Two equal versions answer every question alike.
///
/// The lineage tells apart what looks alike by its positions, but is another store, or the same
/// one after an older state of it was restored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    lineage: u64,
    next: BTreeMap<Feed, u64>,
}

impl Version {
    /// A version of these positions; feeds that are not named stand at 0.
    pub fn new(lineage: u64, next: impl IntoIterator<Item = (Feed, u64)>) -> Self {
        Self { lineage, next: next.into_iter().filter(|(_, next)| *next > 0).collect() }
    }

    /// What two versions must have in common to be compared.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// How many records it includes. Of two versions of a lineage the later one includes more.
    pub fn records(&self) -> u64 {
        self.next.values().sum()
    }

    /// Whether it includes everything that `other` includes.
    pub fn covers(&self, other: &Version) -> bool {
        self.lineage == other.lineage
            && other.next.iter().all(|(feed, next)| self.next(*feed) >= *next)
    }

    fn next(&self, feed: Feed) -> u64 {
        self.next.get(&feed).copied().unwrap_or(0)
    }
}

/// The text begins with the lineage and the number of records, so that a program that knows
/// nothing else of it can tell which of two is later: `00000000000000a1:7:1.0.5,1.1.2`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}:", self.lineage, self.records())?;
        for (number, (feed, next)) in self.next.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            write!(f, "{separator}{}.{}.{next}", feed.log, feed.partition.0)?;
        }
        Ok(())
    }
}

/// A text that is no version.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a version of a store")]
pub struct VersionParseError;

impl FromStr for Version {
    type Err = VersionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (lineage, rest) = text.split_once(':')?;
            let (records, feeds) = rest.split_once(':')?;
            let lineage = u64::from_str_radix(lineage, 16).ok()?;
            let feeds = feeds.split(',').filter(|feed| !feed.is_empty());
            let next = feeds.map(feed_of).collect::<Option<BTreeMap<_, _>>>()?;
            // What others wrote may add up to more than a number holds.
            let sum = next.values().try_fold(0_u64, |sum, next| sum.checked_add(*next))?;
            (records.parse() == Ok(sum)).then_some(Self { lineage, next })
        };
        parse().ok_or(VersionParseError)
    }
}

fn feed_of(text: &str) -> Option<(Feed, u64)> {
    let mut numbers = text.splitn(3, '.');
    let log = numbers.next()?.parse().ok()?;
    let partition = Partition(numbers.next()?.parse().ok()?);
    Some((Feed { log, partition }, numbers.next()?.parse().ok()?))
}

/// What a store is like at a moment, and what is known of how it came there.
#[derive(Clone, Debug)]
pub struct Present {
    version: Version,
    changes: Arc<Mutex<Changes>>,
}

impl Present {
    /// The present of changes that have been brought up to date.
    pub(crate) fn new(version: Version, changes: Arc<Mutex<Changes>>) -> Self {
        Self { version, changes }
    }

    /// The state of everything.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Whether a user's events on a page were certainly the same at an earlier version as they are
    /// now. That much is remembered of recent versions only.
    pub fn is_unchanged(&self, user: &str, page_url: &str, since: &Version) -> bool {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.version.covers(since) && changes.has_none(Visits::of(user, page_url), since)
    }
}

/// The events of a user on a page, by a hash of both. Two that share one are changed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Visits(u64);

impl Visits {
    pub(crate) fn of(user: &str, page_url: &str) -> Self {
        Self::of_hashed(xxh3_64(user.as_bytes()), page_url)
    }

    /// The same, given the XXH3 of the user.
    pub(crate) fn of_hashed(user: u64, page_url: &str) -> Self {
        Self(xxh3_64_with_seed(page_url.as_bytes(), user))
    }
}

/// What has changed lately. What is told of a present may include later changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// What has been looked at; every change between the two is remembered.
    since: Option<Version>,
    until: Option<Version>,
    /// The newest record of each in each feed that has any.
    newest: HashMap<(Visits, Feed), u64>,
    feeds: Vec<Feed>,
}

/// What has come since changes were last brought up to date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The records of feeds between two offsets each.
    Records(Vec<(Feed, u64, u64)>),
    /// Too much to look at, or nobody can tell.
    TooMuch,
}

impl Changes {
    /// What would have to be looked at to be up to date with a version.
    pub(crate) fn missed(&self, now: &Version) -> Missed {
        let Some(until) = self.until.as_ref().filter(|until| now.covers(until)) else {
            return Missed::TooMuch;
        };
        if now.records() - until.records() > MISSED_RECORDS {
            return Missed::TooMuch;
        }
        let span = |(feed, next): (&Feed, &u64)| (*feed, until.next(*feed), *next);
        Missed::Records(now.next.iter().map(span).filter(|(_, from, to)| from < to).collect())
    }

    /// Notes what has come up to a version: whose, the feed, the offset of the newest record.
    pub(crate) fn note(
        &mut self,
        came: impl IntoIterator<Item = (Visits, Feed, u64)>,
        now: Version,
    ) {
        for (visits, feed, newest) in came {
            let held = self.newest.entry((visits, feed)).or_default();
            *held = newest.max(*held);
            if !self.feeds.contains(&feed) {
                self.feeds.push(feed);
            }
        }
        if self.newest.len() > CHANGES {
            self.begin(now);
        } else {
            self.until = Some(now);
        }
    }

    /// Knows of nothing before a version.
    pub(crate) fn begin(&mut self, now: Version) {
        *self = Self { since: Some(now.clone()), until: Some(now), ..Self::default() };
    }

    fn has_none(&self, visits: Visits, since: &Version) -> bool {
        let is_before = |feed: &Feed| {
            let newest = self.newest.get(&(visits, *feed));
            newest.is_none_or(|newest| *newest < since.next(*feed))
        };
        self.since.as_ref().is_some_and(|known| since.covers(known))
            && self.feeds.iter().all(is_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: Feed = Feed { log: 1, partition: Partition(0) };
    const OTHER: Feed = Feed { log: 2, partition: Partition(3) };

    fn version(feed: u64, other: u64) -> Version {
        Version::new(7, [(FEED, feed), (OTHER, other)])
    }

    #[test]
    fn the_text_reads_back_and_begins_with_the_order() {
        for (version, text) in [
            (version(5, 2), "0000000000000007:7:1.0.5,2.3.2"),
            (version(0, 2), "0000000000000007:2:2.3.2"),
            (version(0, 0), "0000000000000007:0:"),
        ] {
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse(), Ok(version));
        }
        let vast = format!("7:1:1.0.{},2.0.2", u64::MAX);
        let wrong =
            ["", "x:0:", "7:1:", "7:3:1.0.2", "7:1:1.0", "7:1:1.-1.1", "7:1:1.0.1.1", &vast];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Version>(), Err(VersionParseError), "{wrong}");
        }
    }

    #[test]
    fn versions_of_one_lineage_are_compared_feed_by_feed() {
        assert!(version(5, 2).covers(&version(5, 0)));
        assert!(!version(5, 0).covers(&version(4, 1)));
        assert!(!version(5, 2).covers(&Version::new(8, [])));
    }

    fn present(changes: Changes, version: Version) -> Present {
        Present::new(version, Arc::new(Mutex::new(changes)))
    }

    #[test]
    fn visits_are_unchanged_where_all_records_are_included() {
        let mut changes = Changes::default();
        assert_eq!(changes.missed(&version(5, 0)), Missed::TooMuch);
        changes.begin(version(5, 0));
        assert_eq!(changes.missed(&version(5, 0)), Missed::Records(Vec::new()));
        let came = Missed::Records(vec![(FEED, 5, 8), (OTHER, 0, 1)]);
        assert_eq!(changes.missed(&version(8, 1)), came);
        let (ada, bob) = (Visits::of("ada", "/"), Visits::of("bob", "/"));
        changes.note([(ada, FEED, 6), (ada, OTHER, 0), (bob, FEED, 7)], version(8, 1));
        let present = present(changes, version(8, 1));
        for (user, page, since, expected) in [
            ("ada", "/", version(8, 1), true),
            ("ada", "/", version(7, 1), true),
            ("ada", "/", version(6, 1), false),
            ("ada", "/", version(8, 0), false),
            ("ada", "/a", version(5, 0), true),
            ("bob", "/", version(7, 1), false),
            ("eve", "/", version(5, 0), true),
            // What was before is not known, and what comes later has not been.
            ("eve", "/", version(4, 0), false),
            ("eve", "/", version(9, 1), false),
            ("eve", "/", Version::new(8, [(FEED, 8), (OTHER, 1)]), false),
        ] {
            let is_unchanged = present.is_unchanged(user, page, &since);
            assert_eq!(is_unchanged, expected, "{user} {page} {since}");
        }
    }

    #[test]
    fn only_so_much_is_looked_at_and_remembered() {
        let mut changes = Changes::default();
        changes.begin(version(5, 0));
        assert_eq!(changes.missed(&version(6 + MISSED_RECORDS, 0)), Missed::TooMuch);
        assert_eq!(changes.missed(&version(4, 9)), Missed::TooMuch, "a feed went back");
        let many = (0..=CHANGES as u64).map(|user| (Visits::of_hashed(user, "/"), FEED, 5));
        changes.note(many, version(6, 0));
        assert!(changes.newest.is_empty());
        let eve = Visits::of("eve", "/");
        assert!(!changes.has_none(eve, &version(5, 0)));
        assert!(changes.has_none(eve, &version(6, 0)));
    }
}
