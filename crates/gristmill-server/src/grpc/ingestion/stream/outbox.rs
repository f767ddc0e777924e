//! Answers of a stream that wait for its client.

use gristmill_proto::analytics::v1::stream_events_response::Response;
use gristmill_proto::analytics::v1::{BatchAck, StreamEventsResponse};
use prost::Message;
use tonic::Status;

use super::Answer;

/// How many answers may wait, and about how many bytes of them, before nothing more is read.
const ANSWERS: usize = 2_000;
const BYTES: usize = 512 * 1024;
/// How many rejected events one acknowledgement tells.
const ACK_REJECTIONS: usize = 1_000;

/// What the client is to be sent next.
#[derive(Default)]
pub(super) struct Outbox {
    answers: Vec<Answer>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether the client must read first.
    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= ANSWERS || self.bytes >= BYTES
    }

    /// Gives everything away.
    pub(super) fn take(&mut self) -> Vec<Answer> {
        self.bytes = 0;
        std::mem::take(&mut self.answers)
    }

    /// Puts an answer behind the others.
    pub(super) fn put(&mut self, response: Response) {
        self.bytes += response.encoded_len();
        self.answers.push(Ok(StreamEventsResponse { response: Some(response) }));
    }

    /// Puts the stream's end behind all answers.
    pub(super) fn end(&mut self, status: Status) {
        self.answers.push(Err(status));
    }

    /// Puts an acknowledgement behind the others, as one with the last if that can be.
    pub(super) fn acknowledge(&mut self, mut ack: BatchAck) {
        if let Some(Ok(StreamEventsResponse { response: Some(Response::BatchAck(last)) })) =
            self.answers.last_mut()
            && last.rejected.len() + ack.rejected.len() <= ACK_REJECTIONS
        {
            self.bytes += ack.encoded_len();
            last.sequence = ack.sequence;
            last.position = ack.position;
            last.accepted += ack.accepted;
            last.credit_bytes += ack.credit_bytes;
            last.rejected.append(&mut ack.rejected);
            return;
        }
        // Many rejections take several messages, so that none is larger than clients take.
        while ack.rejected.len() > ACK_REJECTIONS {
            let rest = ack.rejected.split_off(ACK_REJECTIONS);
            let sequence = ack.sequence;
            let more = BatchAck { sequence, rejected: rest, ..BatchAck::default() };
            let more = BatchAck { position: ack.position.clone(), ..more };
            let first = std::mem::replace(&mut ack, more);
            self.put(Response::BatchAck(first));
        }
        self.put(Response::BatchAck(ack));
    }
}
