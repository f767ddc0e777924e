//! Lines of events that stay together.

use bytes::Bytes;
use gristmill_model::ndjson;

/// Events that go in one request.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Lines of NDJSON, each with its end.
    pub(super) lines: Bytes,
    pub(super) events: usize,
}

impl Piece {
    /// The first half of the events, and the rest.
    pub(super) fn halves(&self) -> (Self, Self) {
        let half = self.events / 2;
        let middle = ndjson::lines(&self.lines).nth(half);
        let start = self.lines.as_ptr() as usize;
        let at = middle.map_or(self.lines.len(), |line| line.as_ptr() as usize - start);
        let (first, second) = (self.lines.slice(..at), self.lines.slice(at..));
        let rest = self.events - half;
        (Self { lines: first, events: half }, Self { lines: second, events: rest })
    }
}

/// Cuts lines into pieces of up to so many bytes, but for a line that is longer.
pub(super) fn cut(mut lines: Bytes, most: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while !lines.is_empty() {
        let is_end = |byte: &u8| *byte == b'\n';
        let end = match lines.get(..most) {
            None => Some(lines.len() - 1),
            Some(start) => start.iter().rposition(is_end).or_else(|| lines.iter().position(is_end)),
        };
        let piece = lines.split_to(end.map_or(lines.len(), |end| end + 1));
        let events = ndjson::lines(&piece).count();
        if events > 0 {
            pieces.push(Piece { lines: piece, events });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_ends() {
        let cut = |lines: &'static str, most| {
            let pieces = cut(Bytes::from_static(lines.as_bytes()), most).into_iter();
            pieces
                .map(|piece| (String::from_utf8_lossy(&piece.lines).into_owned(), piece.events))
                .collect::<Vec<_>>()
        };
        let of = |pieces: &[(&str, usize)]| {
            pieces.iter().map(|(lines, events)| ((*lines).to_owned(), *events)).collect::<Vec<_>>()
        };
        assert_eq!(cut("", 4), of(&[]));
        assert_eq!(cut("a\nb\n", 4), of(&[("a\nb\n", 2)]));
        assert_eq!(cut("a\nb\nc\n", 5), of(&[("a\nb\n", 2), ("c\n", 1)]));
        assert_eq!(cut("a\nlong\n\nb\n", 3), of(&[("a\n", 1), ("long\n", 1), ("\nb\n", 1)]));
        assert_eq!(cut("\n\n\na\n", 2), of(&[("a\n", 1)]));
    }
}
