//! From files to events: open, split into rows, map to events, send in batches.
//!
//! Reading and mapping block and run on one thread; sending is async. Between them stands a
//! channel of a few batches, so memory does not depend on the size of the files. The same rows
//! always become the same events with the same ids: importing twice counts once.

mod access_log;
mod batches;
mod delimited;
mod input;
mod lines;
mod mapping;
mod ndjson;
mod progress;
mod resume;
mod rows;
mod tally;
mod times;

pub(crate) use batches::{Batch, BatchLimits, read_batches};
pub(crate) use input::{Input, InputFormat};
use mapping::Mapping;
pub(crate) use mapping::MappingFlags;
pub(crate) use progress::{Progress, per_second};
pub(crate) use resume::{Checkpoint, Place};
pub(crate) use tally::Tally;
