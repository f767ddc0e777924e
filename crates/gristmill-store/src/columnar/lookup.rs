//! The look-up of old events: whether a part holds an identity that the window no longer knows.
//!
//! An event is looked for in the parts that cover its time and hold a row accepted before the
//! window's start: first in the part's filter, then in the row groups its user can be in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gristmill_model::Timestamp;

use super::identity::{Identity, IdentityHasher};
use super::part::{OpenPart, Part, UserKey};
use super::part_reader;
use super::run::shard_of;
use crate::StoreError;

/// How many identities of row groups are kept in memory.
const CACHED_IDENTITIES: usize = 1 << 19;

/// One event to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) identity: Identity,
    pub(super) project: &'a str,
    pub(super) user_hash: u64,
    pub(super) time: i64,
}

/// Whether a part can hold an event of this time that the window does not know.
pub(super) fn is_old_and_covers(part: &Part, time: i64, window_start: Timestamp) -> bool {
    let record = &part.record;
    record.first_received < window_start.0 && record.first_time <= time && time <= record.last_time
}

/// Looks for events in parts, and remembers what it read last.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    groups: HashMap<(u64, usize), CachedGroup>,
    identities: usize,
    clock: u64,
}

#[derive(Debug)]
struct CachedGroup {
    identities: HashSet<Identity>,
    used: u64,
}

impl Lookup {
    /// Which of the wanted events are in parts.
    pub(super) fn find(
        &mut self,
        wanted: &[Wanted<'_>],
        parts: &[Arc<Part>],
        window_start: Timestamp,
        hasher: &IdentityHasher,
        shards: u32,
    ) -> Result<HashSet<Identity>, StoreError> {
        let mut found = HashSet::new();
        for part in parts {
            let in_part = |event: &&Wanted<'_>| {
                shard_of(event.user_hash, shards) == part.record.shard
                    && is_old_and_covers(part, event.time, window_start)
            };
            let mut wanted: Vec<_> = wanted.iter().filter(in_part).collect();
            if wanted.is_empty() {
                continue;
            }
            // In the order of the part, so that each row group is read once.
            wanted.sort_unstable_by_key(|event| (event.project, event.user_hash));
            let open = part.open()?;
            for event in wanted {
                if open.filter.may_contain(event.identity)?
                    && self.is_in(part.record.file, &open, event, hasher)?
                {
                    found.insert(event.identity);
                }
            }
        }
        Ok(found)
    }

    fn is_in(
        &mut self,
        file: u64,
        part: &OpenPart,
        event: &Wanted<'_>,
        hasher: &IdentityHasher,
    ) -> Result<bool, StoreError> {
        let key = UserKey { project: event.project.to_owned(), hash: event.user_hash };
        for group in part.groups_of(&key, &key) {
            if self.group(file, part, group, hasher)?.contains(&event.identity) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn group(
        &mut self,
        file: u64,
        part: &OpenPart,
        group: usize,
        hasher: &IdentityHasher,
    ) -> Result<&HashSet<Identity>, StoreError> {
        self.clock += 1;
        let (key, used) = ((file, group), self.clock);
        if !self.groups.contains_key(&key) {
            let rows = part.group(group);
            let identities: HashSet<_> =
                part_reader::identities(part, rows, hasher)?.into_iter().collect();
            self.make_room(identities.len());
            self.identities += identities.len();
            self.groups.insert(key, CachedGroup { identities, used });
        }
        let empty = || CachedGroup { identities: HashSet::new(), used };
        let cached = self.groups.entry(key).or_insert_with(empty);
        cached.used = used;
        Ok(&cached.identities)
    }

    /// Forgets the row groups that were not used for longest.
    fn make_room(&mut self, identities: usize) {
        while self.identities + identities > CACHED_IDENTITIES {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.used);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            if let Some(group) = self.groups.remove(&key) {
                self.identities -= group.identities.len();
            }
        }
    }
}
