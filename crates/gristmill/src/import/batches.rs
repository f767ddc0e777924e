//! Batches: events of one file, ready to be posted, with the lines they come from.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::rows::{RowError, Rows};
use super::{Input, InputFormat, Mapping, MappingFlags, Place};

/// How large a batch may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Rows, good and bad.
    pub(crate) rows: usize,
    /// Bytes of events, which one event may exceed.
    pub(crate) bytes: usize,
}

/// Some consecutive rows of one file.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Counts batches from 0, over all files.
    pub(crate) sequence: u64,
    /// Where the batch ends.
    pub(crate) end: Place,
    /// The events as NDJSON.
    pub(crate) body: Bytes,
    /// The line of each event.
    pub(crate) lines: Vec<u64>,
    /// The rows that are no events, by line, and why.
    pub(crate) bad: Vec<(u64, String)>,
}

/// Reads all inputs from `from` on and sends their batches in order. Blocks; ends early if nobody
/// receives any more. Adds the bytes read to `read`.
pub(crate) fn read_batches(
    inputs: &[Input],
    format: Option<InputFormat>,
    flags: &MappingFlags,
    limits: BatchLimits,
    from: Place,
    read: &Arc<AtomicU64>,
    send: &mpsc::Sender<Batch>,
) -> anyhow::Result<()> {
    let mut sequence = 0;
    for (file, input) in inputs.iter().enumerate().skip(from.file) {
        let open = input.open(format, Arc::clone(read))?;
        let mapping = Mapping::new(flags, open.format);
        let mut rows = Rows::new(open.format, open.reader).with_context(|| input.name())?;
        if let Some(columns) = rows.columns()
            && let Err(reason) = mapping.check_columns(columns)
        {
            bail!("{}: {reason}", input.name());
        }
        let skip = if file == from.file { from.rows } else { 0 };
        let mut start = Place { file, rows: 0 };
        loop {
            let pending = collect(&mut rows, &mapping, limits, skip, start)
                .with_context(|| format!("cannot read on in {}", input.name()))?;
            let Some(batch) = pending else { break };
            start = batch.end;
            let empty = batch.lines.is_empty() && batch.bad.is_empty();
            if !empty {
                if send.blocking_send(Batch { sequence, ..batch }).is_err() {
                    return Ok(());
                }
                sequence += 1;
            }
        }
    }
    Ok(())
}

/// The next batch of a file; `None` at its end. The first `skip` rows of the file are passed over.
fn collect(
    rows: &mut Rows,
    mapping: &Mapping,
    limits: BatchLimits,
    skip: u64,
    start: Place,
) -> anyhow::Result<Option<Batch>> {
    let mut body = Vec::with_capacity(64 * 1024);
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    let mut end = start;
    while lines.len() + bad.len() < limits.rows && body.len() < limits.bytes {
        let (line, reason) = match rows.next() {
            Ok(None) => break,
            Ok(Some(_)) if end.rows < skip => {
                end.rows += 1;
                continue;
            }
            Ok(Some(row)) => {
                let length = body.len();
                match mapping.write_event(&row, &mut body) {
                    Ok(()) => {
                        body.push(b'\n');
                        lines.push(row.line);
                        end.rows += 1;
                        continue;
                    }
                    Err(reason) => {
                        body.truncate(length);
                        (row.line, reason)
                    }
                }
            }
            Err(RowError::Bad { line, reason }) => (line, reason),
            Err(RowError::Io(error)) => return Err(error.into()),
        };
        if end.rows >= skip {
            bad.push((line, reason));
        }
        end.rows += 1;
    }
    let more = end.rows > start.rows;
    Ok(more.then(|| Batch { sequence: 0, end, body: body.into(), lines, bad }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches of files, read from a place on.
    fn batches(files: &[&str], limits: BatchLimits, from: Place) -> anyhow::Result<Vec<Batch>> {
        let dir = tempfile::tempdir()?;
        let mut inputs = Vec::new();
        for (number, text) in files.iter().enumerate() {
            let path = dir.path().join(format!("{number}.ndjson"));
            std::fs::write(&path, text)?;
            inputs.push(Input::new(&path)?);
        }
        let (send, mut receive) = mpsc::channel(100);
        let read = Arc::new(AtomicU64::new(0));
        let flags = MappingFlags::default();
        read_batches(&inputs, None, &flags, limits, from, &read, &send)?;
        drop(send);
        Ok(std::iter::from_fn(|| receive.try_recv().ok()).collect())
    }

    fn lines(batches: &[Batch]) -> Vec<(Vec<u64>, Vec<u64>)> {
        let bad = |batch: &Batch| batch.bad.iter().map(|(line, _)| *line).collect();
        batches.iter().map(|batch| (batch.lines.clone(), bad(batch))).collect()
    }

    const GOOD: &str = "{\"ts\":1,\"type\":\"t\"}\n";
    const LIMITS: BatchLimits = BatchLimits { rows: 2, bytes: 1 << 20 };

    #[test]
    fn rows_become_batches_that_end_with_their_file_and_tell_bad_lines() {
        let first = format!("{GOOD}\nno\n{GOOD}");
        let found = batches(&[&first, GOOD], LIMITS, Place::default()).unwrap();
        assert_eq!(lines(&found), [(vec![1], vec![3]), (vec![4], vec![]), (vec![1], vec![])]);
        let ends: Vec<_> = found.iter().map(|batch| (batch.end.file, batch.end.rows)).collect();
        assert_eq!(ends, [(0, 2), (0, 3), (1, 1)]);
        assert_eq!(found.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(found[0].body.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn reading_goes_on_where_it_stopped_with_the_same_events() {
        let text = GOOD.repeat(5);
        let all = batches(&[&text], BatchLimits { rows: 100, ..LIMITS }, Place::default()).unwrap();
        let rest = batches(&[&text], LIMITS, Place { file: 0, rows: 3 }).unwrap();
        assert_eq!(lines(&rest), [(vec![4, 5], vec![])]);
        assert!(all[0].body.ends_with(&rest[0].body));
        assert_eq!(rest[0].end, Place { file: 0, rows: 5 });
        assert!(batches(&[&text], LIMITS, Place { file: 0, rows: 5 }).unwrap().is_empty());
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_too() {
        let limits = BatchLimits { rows: 100, bytes: 1 };
        let found = batches(&[&GOOD.repeat(3)], limits, Place::default()).unwrap();
        assert_eq!(lines(&found), [(vec![1], vec![]), (vec![2], vec![]), (vec![3], vec![])]);
    }
}
