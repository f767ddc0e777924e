//! Verifies every byte of a store on disk.

use std::path::Path;

use super::files::Directory;
use super::identity::IdentityHasher;
use super::manifest;
use super::open::{identity_key, lock};
use super::part::Part;
use super::part_reader::PartRuns;
use super::run::shard_of;
use super::{seal, window};
use crate::StoreError;

/// What a check found in an intact store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Parts.
    pub parts: u64,
    /// Rows in parts.
    pub rows: u64,
    /// Bytes of parts.
    pub bytes: u64,
    /// Identities in window runs.
    pub identities: u64,
    /// Quarantined records.
    pub quarantined: u64,
    /// The position token of everything durable.
    pub durable: String,
}

/// Verifies a store that no process has open: checksums, order, that every row is in its shard
/// and its part's filter, and that the totals add up. Gives the first damage as an error.
pub fn check(dir: &Path) -> Result<CheckReport, StoreError> {
    let _lock = lock(dir)?;
    let directory = Directory::existing(dir);
    let (contents, _) = manifest::read(&directory.manifest())?;
    let Some(created) = &contents.created else {
        return Err(StoreError::Damaged("the manifest is empty".into()));
    };
    let hasher = IdentityHasher::new(identity_key(created)?);
    let mut report = CheckReport { durable: contents.durable.clone(), ..CheckReport::default() };
    for record in contents.parts.values() {
        let part = Part::found(&directory, record.clone());
        let rows = check_part(&part, &hasher, created.shards)?;
        report.parts += 1;
        report.rows += rows;
        report.bytes += record.bytes;
    }
    for &file in contents.windows.keys() {
        report.identities += window::read_run(&directory, file)?.len() as u64;
    }
    for &file in &contents.quarantines {
        report.quarantined += seal::read_quarantine(&directory, file)?.len() as u64;
    }
    if report.rows != contents.totals.stored || report.quarantined != contents.totals.quarantined {
        return Err(StoreError::Damaged(format!(
            "the manifest counts {} stored and {} quarantined events, the files hold {} and {}",
            contents.totals.stored, contents.totals.quarantined, report.rows, report.quarantined
        )));
    }
    Ok(report)
}

fn check_part(part: &Part, hasher: &IdentityHasher, shards: u32) -> Result<u64, StoreError> {
    let open = part.open()?;
    let name = part.record.file;
    let wrong = |what: &str| StoreError::Damaged(format!("part {name:08} {what}"));
    let runs = PartRuns::of(&open, *hasher)?;
    let mut rows = 0;
    let mut last: Option<(String, u64, String, i64)> = None;
    for run in runs {
        let run = run?;
        for user in (0..run.user_count()).map(|index| run.user(index)) {
            if shard_of(user.hash, shards) != part.record.shard {
                return Err(wrong("holds a row of another shard"));
            }
            for row in user.first_row..user.end_row {
                let time = run.rows.times[row];
                let key = (user.project.to_owned(), user.hash, user.user.to_owned(), time);
                if last.as_ref().is_some_and(|last| *last > key) {
                    return Err(wrong("is not sorted"));
                }
                if !open.filter.may_contain(run.rows.identities[row])? {
                    return Err(wrong("does not match its filter"));
                }
                last = Some(key);
                rows += 1;
            }
        }
    }
    if rows != part.record.rows {
        return Err(wrong("does not have the rows that the manifest says"));
    }
    Ok(rows)
}
