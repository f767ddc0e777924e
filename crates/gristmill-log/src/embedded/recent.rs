//! The newest frames in memory, so that readers who keep up never touch a file.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::{self, FrameHeader};
use super::reader::{Cursor, Location, Read};

/// What a frame takes besides its body.
const FRAME_BYTES: usize = 256;

/// A bounded queue of durable data frames, in order.
#[derive(Debug)]
pub(super) struct Recent {
    frames: VecDeque<RecentFrame>,
    bytes: usize,
    limit: usize,
    /// All data frames from this number on are here.
    oldest: u64,
}

/// A data frame that is on stable storage.
#[derive(Debug)]
pub(super) struct RecentFrame {
    pub(super) header: FrameHeader,
    pub(super) body: Bytes,
    /// Where the frame after it lies.
    pub(super) end: Location,
}

impl RecentFrame {
    fn bytes(&self) -> usize {
        self.body.len() + FRAME_BYTES
    }
}

impl Recent {
    /// Empty, standing at the frame `sequence`.
    pub(super) fn new(limit: usize, sequence: u64) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit, oldest: sequence }
    }

    pub(super) fn push(&mut self, frame: RecentFrame) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
        while self.bytes > self.limit {
            let Some(forgotten) = self.frames.pop_front() else { break };
            self.bytes -= forgotten.bytes();
            self.oldest = forgotten.header.sequence + 1;
        }
    }

    /// Reads on from `cursor`, at least one frame below `until` if there is one; `None` if the
    /// frame is not here any more.
    pub(super) fn read(&self, cursor: &Cursor, until: u64, max_bytes: usize) -> Option<Read> {
        if cursor.sequence < self.oldest {
            return None;
        }
        let first = self.frames.partition_point(|f| f.header.sequence < cursor.sequence);
        let mut read = Read::new(cursor.clone());
        let frames = self.frames.range(first..);
        for recent in frames.take_while(|recent| recent.header.sequence < until) {
            let header = &recent.header;
            let next = read.cursor.next(header.partition);
            let body = recent.body.clone();
            // The writer made this body, so it is as its header says.
            let bytes = frame::split_body(header, body, next, &mut read.batches).unwrap_or(0);
            read.cursor.pass(header, recent.end);
            read.bytes += bytes;
            if read.bytes >= max_bytes {
                return Some(read);
            }
        }
        Some(read)
    }
}
