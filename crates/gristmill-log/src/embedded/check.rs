//! Verifies every acknowledged byte of a log that no process has open.

use std::path::Path;

use super::disk::Disk;
use super::error::{Damage, DiskError, OpenError};
use super::recover::{self, End};
use super::segment::{self, Segment};

/// What there is, up to the first damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How many segment files.
    pub segments: u64,
    /// How many valid frames.
    pub frames: u64,
    /// How many records.
    pub records: u64,
    /// The size of the segment files in bytes.
    pub bytes: u64,
    /// Whether an unfinished write, which nobody was told of, stands at the end with a header at
    /// least; opening the log cuts it off.
    pub has_unfinished_write: bool,
    /// The first damage, if there is any.
    pub damage: Option<Damage>,
}

/// Reads the whole log in `dir` under its lock and changes nothing. An error means that it could
/// not be looked at.
pub fn check(dir: &Path, disk: &dyn Disk) -> Result<CheckReport, OpenError> {
    let _lock = recover::lock(dir, disk)?;
    let mut report = CheckReport::default();
    match check_segments(dir, disk, &mut report) {
        Err(OpenError::Damaged(damage)) => report.damage = Some(damage),
        outcome => outcome?,
    }
    Ok(report)
}

fn check_segments(dir: &Path, disk: &dyn Disk, report: &mut CheckReport) -> Result<(), OpenError> {
    let Some(segments) = recover::read_segments(dir, disk)? else { return Ok(()) };
    let mut segments = segments.iter().peekable();
    while let Some(segment) = segments.next() {
        check_segment(dir, disk, segment, segments.peek().copied(), report)?;
    }
    Ok(())
}

fn check_segment(
    dir: &Path,
    disk: &dyn Disk,
    segment: &Segment,
    successor: Option<&Segment>,
    report: &mut CheckReport,
) -> Result<(), OpenError> {
    let path = segment::path(dir, segment.number);
    let file = disk.open(&path).map_err(DiskError::on("open", &path))?;
    let mut walk = recover::start_of(segment, &*file);
    let until = successor.map(|successor| successor.sequence);
    let scan = recover::scan(&path, &mut walk, &segment.start, until)?;
    report.segments += 1;
    report.frames += scan.frames;
    report.records += scan.records;
    report.bytes += segment.bytes;
    match (successor, scan.end) {
        (None, _) => {
            report.has_unfinished_write = recover::judge(dir, segment.number, &scan, &mut walk)?;
            Ok(())
        }
        (Some(successor), End::Successor) if scan.next == successor.start => Ok(()),
        (Some(_), End::Invalid(what)) => Err(recover::damage(&path, walk.at(), what)),
        (Some(_), End::Successor | End::Seal) => {
            let what = "the segment ends elsewhere than the next one starts";
            Err(recover::damage(&path, walk.at(), what))
        }
    }
}
