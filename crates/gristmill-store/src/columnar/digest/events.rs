//! Walks through the events of a digest, and then through those that it does not have.

use std::sync::Arc;

use gristmill_model::TimeRange;

use super::super::events::{Cut, ShardEvents};
use super::block::{Spread, cut_hours};
use super::{Digest, join};
use crate::{Dictionaries, Dictionary, EventCursor, Events, Span, StoreError};

/// The events of a digest in a range, and more.
pub(in crate::columnar) struct DigestEvents {
    digest: Arc<Digest>,
    range: TimeRange,
    next: usize,
    spread: Spread,
    /// The other events of the walk, if there are any. Their dictionaries begin as those of the digest.
    rest: Option<ShardEvents>,
    /// Rows of a block that are in range, where not all are.
    cut: Cut,
    columns: Vec<Vec<u32>>,
    numbers: Vec<Vec<f64>>,
}

impl DigestEvents {
    pub(in crate::columnar) fn of(
        digest: Arc<Digest>,
        range: TimeRange,
        rest: ShardEvents,
    ) -> Self {
        let rest = (!rest.is_empty()).then(|| rest.beginning_with(digest.dictionaries.clone()));
        let (cut, columns, numbers) = (Cut::default(), Vec::new(), Vec::new());
        Self { digest, range, next: 0, spread: Spread::default(), rest, cut, columns, numbers }
    }

    /// Goes on to the next block that may have events in range.
    fn next_block(&mut self) -> Option<usize> {
        let blocks = &self.digest.blocks;
        while blocks.get(self.next).is_some_and(|block| !block.may_be_in(&self.range)) {
            self.next += 1;
        }
        (self.next < blocks.len()).then_some(self.next)
    }

    /// The events of a block, which has times, that are in range.
    fn cut(&mut self, block: usize) -> Events<'_> {
        let Self { cut, spread, columns, numbers, digest, .. } = self;
        let block = &digest.blocks[block];
        cut.find(&block.times, &self.range);
        columns.clone_from(&spread.columns);
        numbers.clone_from(&block.numbers);
        columns.iter_mut().for_each(|column| cut.keep(column));
        numbers.iter_mut().for_each(|numbers| cut.keep(numbers));
        Events {
            rows: cut.times().len(),
            times: cut.times(),
            hours: &[],
            counts: &[],
            columns: columns.iter().map(Vec::as_slice).collect(),
            numbers: numbers.iter().map(Vec::as_slice).collect(),
            dictionaries: Dictionaries::of(&digest.dictionaries),
        }
    }

    /// The span of the hours of the block at hand that are in range.
    fn span_of_hours(&self) -> Span {
        let hours = &self.spread.hours[cut_hours(&self.spread.hours, &self.range)];
        hours.iter().map(|hour| (hour.begins(), hour.ends() - 1)).reduce(join)
    }
}

impl EventCursor for DigestEvents {
    fn next_events(&mut self) -> Result<Option<Events<'_>>, StoreError> {
        let Some(next) = self.next_block() else {
            return self.rest.as_mut().map_or(Ok(None), EventCursor::next_events);
        };
        self.next += 1;
        let block = &self.digest.blocks[next];
        self.spread.fill(block);
        if !block.times.is_empty() && !block.is_in(&self.range) {
            return Ok(Some(self.cut(next)));
        }
        let block = &self.digest.blocks[next];
        let hours = &self.spread.hours[cut_hours(&self.spread.hours, &self.range)];
        Ok(Some(block.events(&self.spread, hours, &self.digest.dictionaries)))
    }

    fn pass_over(&mut self, known: (i64, i64)) -> Result<bool, StoreError> {
        let Some(next) = self.next_block() else {
            return self.rest.as_mut().map_or(Ok(false), |rest| rest.pass_over(known));
        };
        let is_known = self.digest.blocks[next]
            .span
            .is_none_or(|(first, last)| known.0 <= first && last <= known.1);
        self.next += usize::from(is_known);
        Ok(is_known)
    }

    fn next_span(&mut self) -> Result<Option<Span>, StoreError> {
        let Some(next) = self.next_block() else {
            return self.rest.as_mut().map_or(Ok(None), EventCursor::next_span);
        };
        let block = &self.digest.blocks[next];
        if block.is_in(&self.range) {
            self.next += 1;
            return Ok(Some(block.span));
        }
        if block.times.is_empty() {
            self.next += 1;
            self.spread.fill(block);
            return Ok(Some(self.span_of_hours()));
        }
        Ok(self.next_events()?.map(|events| events.span()))
    }

    fn dictionaries(&self) -> &[Dictionary] {
        self.rest.as_ref().map_or(&self.digest.dictionaries, |rest| rest.dictionaries())
    }
}
