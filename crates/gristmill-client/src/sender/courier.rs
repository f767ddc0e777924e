//! Carrying lines of events to the server by requests, as often as it takes.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tokio::time::{Instant, sleep_until};

use super::Compression;
use super::piece::Piece;
use super::report::{Fate, Reason, Rejection};
use super::shared::Shared;
use crate::client::IsGzip;
use crate::{Client, ClientError, Receipt};

/// Carries lines of events to the server.
pub(super) struct Courier {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Until when; for ever if missing.
    pub(super) until: Option<Instant>,
    pub(super) refusals: Refusals,
}

/// What a refusal of the client as a whole means, such as a wrong key or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusals {
    /// The events are given back at once.
    Final,
    /// Somebody will put it right: the events are kept.
    Temporary,
}

/// Events that are still to be carried when the time is up.
pub(super) struct Stuck {
    pub(super) piece: Piece,
    pub(super) error: Arc<str>,
    pub(super) may_have_arrived: bool,
}

impl Courier {
    /// Carries events until there is an answer for each or the time is up. What became of them goes
    /// into `fate`; what did not get through is given back.
    pub(super) async fn carry(
        &self,
        piece: Piece,
        effort: Effort,
        fate: &mut Fate,
    ) -> Result<(), Stuck> {
        let mut pieces = VecDeque::from([piece]);
        while let Some(piece) = pieces.pop_front() {
            match self.carry_piece(&piece, effort, fate).await {
                Ok(None) => {}
                Ok(Some((first, second))) => {
                    pieces.push_front(second);
                    pieces.push_front(first);
                }
                Err((error, may_have_arrived)) => {
                    pieces.push_front(piece);
                    return Err(stuck(&pieces, &error, may_have_arrived));
                }
            }
        }
        Ok(())
    }

    /// Carries a piece; gives its halves if it is too large for the server.
    async fn carry_piece(
        &self,
        piece: &Piece,
        effort: Effort,
        fate: &mut Fate,
    ) -> Result<Option<(Piece, Piece)>, (String, bool)> {
        let (body, is_gzip) = self.body(&piece.lines);
        let backoff = self.shared.backoff();
        let (mut failures, mut may_have_arrived) = (0, false);
        loop {
            let (error, asked) =
                match self.attempt(&body, is_gzip, piece.events, effort.until).await {
                    Ok(receipt) => {
                        let (rejections, position) = split(receipt);
                        fate.answered(&piece.lines, piece.events, rejections, position);
                        return Ok(None);
                    }
                    Err(failure) => failure,
                };
            let text = error.to_string();
            self.shared.failed(&text);
            may_have_arrived |= error.may_have_happened();
            match verdict(&error, effort.refusals) {
                Verdict::TooLarge if piece.events > 1 => return Ok(Some(piece.halves())),
                Verdict::Again => {}
                Verdict::TooLarge | Verdict::Final => {
                    fate.lost(&piece.lines, &Reason::Refused(text.into()), may_have_arrived);
                    return Ok(None);
                }
            }
            failures += 1;
            let wait = backoff.wait(failures, asked, self.shared.entropy.next_u128());
            tracing::debug!(error = text, ?wait, "a request failed, trying again");
            let next = Instant::now() + wait;
            match effort.until {
                Some(until) if next >= until => {
                    sleep_until(until).await;
                    return Err((text, may_have_arrived));
                }
                _ => sleep_until(next).await,
            }
        }
    }

    async fn attempt(
        &self,
        body: &Bytes,
        is_gzip: IsGzip,
        events: usize,
        until: Option<Instant>,
    ) -> Result<Receipt, (ClientError, Option<Duration>)> {
        let receipt = self.client.try_ingest(body.clone(), is_gzip, until).await?;
        // Something between may answer 200 to anything; that must not count as an acknowledgement.
        let told = receipt.accepted + receipt.rejected;
        if told != events as u64 || receipt.count("rejected") != receipt.rejected {
            let reason = format!("it tells of {told} events where {events} were sent");
            let url = self.client.url().to_owned();
            return Err((ClientError::Answer { url, reason }, None));
        }
        Ok(receipt)
    }

    fn body(&self, lines: &Bytes) -> (Bytes, IsGzip) {
        match self.shared.config.compression {
            Compression::None => (lines.clone(), IsGzip::No),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
                // Writing to memory does not fail; if it did the lines would go as they are.
                match encoder.write_all(lines).and_then(|()| encoder.finish()) {
                    Ok(body) => (body.into(), IsGzip::Yes),
                    Err(_) => (lines.clone(), IsGzip::No),
                }
            }
        }
    }
}

enum Verdict {
    /// The same bytes again.
    Again,
    /// Fewer events at a time.
    TooLarge,
    /// Never.
    Final,
}

fn verdict(error: &ClientError, refusals: Refusals) -> Verdict {
    match error {
        ClientError::Refused { status: 413, .. } => Verdict::TooLarge,
        ClientError::Answer { .. } => Verdict::Again,
        error if error.is_transient() => Verdict::Again,
        ClientError::Refused { status: 400 | 415 | 422, .. } => Verdict::Final,
        _ if refusals == Refusals::Temporary => Verdict::Again,
        _ => Verdict::Final,
    }
}

fn split(receipt: Receipt) -> (Vec<Rejection>, String) {
    let rejected = receipt.results.into_iter().filter(|result| result.status == "rejected");
    let rejections = rejected.map(|result| Rejection {
        index: result.index,
        code: result.code.unwrap_or_default(),
        message: result.message.unwrap_or_default(),
    });
    (rejections.collect(), receipt.position)
}

fn stuck(pieces: &VecDeque<Piece>, error: &str, may_have_arrived: bool) -> Stuck {
    let events = pieces.iter().map(|piece| piece.events).sum();
    let lines = match pieces.front() {
        Some(only) if pieces.len() == 1 => only.lines.clone(),
        _ => {
            let mut all = BytesMut::new();
            pieces.iter().for_each(|piece| all.extend_from_slice(&piece.lines));
            all.freeze()
        }
    };
    Stuck { piece: Piece { lines, events }, error: error.into(), may_have_arrived }
}

impl Stuck {
    /// Gives the events back.
    pub(super) fn give_up(self, fate: &mut Fate) {
        fate.lost(&self.piece.lines, &Reason::GaveUp(self.error), self.may_have_arrived);
    }
}
