//! Records on their way: who is told what, and when.
//!
//! The records of a chunk are a batch. They are settled together once all of them are reported, which costs a
//! fraction of settling each by itself. A batch of which one record is reported much later than the first is
//! parted: those that are reported are settled then, and the others as their reports come.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::destinations::Destinations;
use super::record::ProducerRecord;
use crate::chunk::{Chunk, Meta};
use crate::operator::{Context, Held};
use crate::outcome::{Kind, Outcome};
use crate::time::Time;

/// How long the first record of a batch that is reported waits for the last.
const TOGETHER: Duration = Duration::from_millis(50);

/// The number of a record has its batch above, and its place in it below.
const PLACE_BITS: u32 = usize::BITS / 2;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;

/// All that are on their way.
#[derive(Default)]
pub(super) struct InFlight {
    batches: Vec<Batch>,
    /// Those that are over, to be used again.
    free: Vec<usize>,
    /// Those of which something is reported, since when.
    begun: VecDeque<(usize, Time)>,
    held: Held,
    pub(super) destinations: Destinations,
}

#[derive(Default)]
struct Batch {
    /// Of all records, until the batch is settled or parted.
    metas: Chunk<()>,
    /// Of those that are not reported, once it is parted.
    apart: BTreeMap<usize, Meta>,
    /// A bit for each record that is reported.
    reported: Vec<u64>,
    /// So many are not.
    left: usize,
    bytes: u64,
    /// The topics, each with the place behind its last record.
    topics: Vec<(u32, usize)>,
    /// Those that were reported otherwise than as delivered.
    otherwise: BTreeMap<usize, Outcome>,
    /// Those that could not be written, and are on their way to where such records go.
    elsewhere: Vec<usize>,
    /// What is written elsewhere if it cannot be written. Empty if there is no such place: the client has
    /// its own copy.
    kept: Vec<Option<ProducerRecord>>,
    begun: Option<Time>,
}

impl Batch {
    fn topic(&self, place: usize) -> u32 {
        let found = self.topics.iter().find(|(_, end)| place < *end);
        found.map_or(0, |(topic, _)| *topic)
    }

    fn outcome(&self, place: usize) -> Outcome {
        let otherwise = self.otherwise.get(&place);
        otherwise.copied().unwrap_or(Outcome::Delivered)
    }

    fn is_reported(&self, place: usize) -> bool {
        self.reported
            .get(place / 64)
            .is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    fn is_whole(&self) -> bool {
        !self.metas.is_empty()
    }

    /// Takes what so many of its records weigh, of those that it still has.
    fn lighten(&mut self, count: usize, of: usize) -> Held {
        let bytes = match of {
            0 => self.bytes,
            _ => self.bytes * count as u64 / of as u64,
        };
        self.bytes -= bytes;
        Held {
            items: count,
            bytes,
        }
    }
}

impl InFlight {
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// A batch of records that are to be added: the number of the first; the others follow.
    pub(super) fn begin(&mut self, metas: Chunk<()>, keeps: bool) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.batches.push(Batch::default());
            self.batches.len() - 1
        });
        let count = metas.len();
        self.held.items += count;
        let batch = &mut self.batches[index];
        batch.metas = metas;
        batch.left = count;
        batch.bytes = 0;
        batch.begun = None;
        batch.topics.clear();
        batch.reported.clear();
        batch.reported.resize(count.div_ceil(64), 0);
        batch.kept.clear();
        if keeps {
            batch.kept.resize_with(count, || None);
        }
        index << PLACE_BITS
    }

    /// The next record of the batch that was begun last.
    pub(super) fn add(&mut self, number: usize, record: &ProducerRecord) {
        let topic = self.destinations.number(&record.topic);
        let bytes = record.len() as u64;
        self.held.bytes += bytes;
        let end = (number & PLACE_MASK) + 1;
        let Some(batch) = self.batches.get_mut(number >> PLACE_BITS) else {
            return;
        };
        batch.bytes += bytes;
        match batch.topics.last_mut() {
            Some((last, to)) if *last == topic => *to = end,
            _ => batch.topics.push((topic, end)),
        }
    }

    pub(super) fn keep(&mut self, number: usize, record: ProducerRecord) {
        let batch = self.batches.get_mut(number >> PLACE_BITS);
        if let Some(place) = batch.and_then(|batch| batch.kept.get_mut(number & PLACE_MASK)) {
            *place = Some(record);
        }
    }

    /// What was kept of a record that is not on its way elsewhere already: from now on it is.
    pub(super) fn redirect(&mut self, number: usize) -> Option<ProducerRecord> {
        let batch = self.batches.get_mut(number >> PLACE_BITS)?;
        let place = number & PLACE_MASK;
        if batch.elsewhere.contains(&place) {
            return None;
        }
        let kept = batch.kept.get_mut(place)?.take()?;
        batch.elsewhere.push(place);
        Some(kept)
    }

    pub(super) fn is_redirected(&self, number: usize) -> bool {
        let batch = self.batches.get(number >> PLACE_BITS);
        batch.is_some_and(|batch| batch.elsewhere.contains(&(number & PLACE_MASK)))
    }

    /// A record ended like that; of each this is told once.
    pub(super) fn report(&mut self, cx: &mut Context<'_, '_>, number: usize, outcome: Outcome) {
        let (index, place) = (number >> PLACE_BITS, number & PLACE_MASK);
        let Some(batch) = self.batches.get_mut(index) else {
            return;
        };
        let Some(bits) = batch.reported.get_mut(place / 64) else {
            return;
        };
        *bits |= 1 << (place % 64);
        batch.left -= 1;
        if let Some(kept) = batch.kept.get_mut(place) {
            *kept = None;
        }
        if outcome != Outcome::Delivered {
            batch.otherwise.insert(place, outcome);
        }
        if !batch.is_whole() {
            self.settle_one(cx, index, place);
        } else if batch.left == 0 {
            self.settle(cx, index);
        } else if batch.begun.is_none() {
            let now = cx.now();
            batch.begun = Some(now);
            self.begun.push_back((index, now));
        }
        self.free(index);
    }

    /// Parts batches that have waited for long enough.
    pub(super) fn part_late(&mut self, cx: &mut Context<'_, '_>) {
        while let Some((index, since)) = self.begun.front().copied() {
            let batch = &self.batches[index];
            if batch.begun == Some(since) && batch.left > 0 && batch.is_whole() {
                if cx.now().since(since) < TOGETHER {
                    return;
                }
                self.part(cx, index);
            }
            self.begun.pop_front();
        }
    }

    /// Ends all: those that are not reported like that.
    pub(super) fn abandon(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        for index in 0..self.batches.len() {
            self.part(cx, index);
            let batch = &mut self.batches[index];
            batch.left = 0;
            for (place, meta) in std::mem::take(&mut batch.apart) {
                self.destinations
                    .count(batch.topic(place), outcome.kind(), 1);
                cx.settle(meta, outcome);
            }
        }
        *self = InFlight {
            destinations: std::mem::take(&mut self.destinations),
            ..InFlight::default()
        };
        self.destinations.tell(cx);
    }

    /// All of a batch are reported.
    fn settle(&mut self, cx: &mut Context<'_, '_>, index: usize) {
        let batch = &mut self.batches[index];
        if !batch.otherwise.is_empty() {
            self.part(cx, index);
            return;
        }
        let count = batch.metas.len();
        let mut from = 0;
        for (topic, end) in &batch.topics {
            let of_topic = (*end - from) as u64;
            self.destinations.count(*topic, Kind::Delivered, of_topic);
            from = *end;
        }
        cx.settle_chunk(&mut batch.metas, Outcome::Delivered);
        let gone = batch.lighten(count, count);
        self.lighten(gone);
    }

    /// Settles those of a batch that are reported, and keeps the others one by one.
    fn part(&mut self, cx: &mut Context<'_, '_>, index: usize) {
        let batch = &mut self.batches[index];
        if !batch.is_whole() {
            return;
        }
        let mut metas = std::mem::take(&mut batch.metas);
        let count = metas.len();
        for (place, element) in metas.drain().enumerate() {
            if batch.is_reported(place) {
                let outcome = batch.outcome(place);
                self.destinations
                    .count(batch.topic(place), outcome.kind(), 1);
                cx.settle(element.meta, outcome);
            } else {
                batch.apart.insert(place, element.meta);
            }
        }
        let done = count - batch.apart.len();
        let gone = batch.lighten(done, count);
        self.lighten(gone);
    }

    /// One of a batch that was parted.
    fn settle_one(&mut self, cx: &mut Context<'_, '_>, index: usize, place: usize) {
        let batch = &mut self.batches[index];
        let of = batch.apart.len();
        if let Some(meta) = batch.apart.remove(&place) {
            let outcome = batch.outcome(place);
            self.destinations
                .count(batch.topic(place), outcome.kind(), 1);
            cx.settle(meta, outcome);
            let gone = batch.lighten(1, of);
            self.lighten(gone);
        }
    }

    fn lighten(&mut self, gone: Held) {
        self.held.items -= gone.items;
        self.held.bytes -= gone.bytes;
    }

    /// Gives the place of a batch back that is over.
    fn free(&mut self, index: usize) {
        let batch = &mut self.batches[index];
        if batch.left == 0 {
            batch.otherwise.clear();
            batch.elsewhere.clear();
            batch.kept.clear();
            self.free.push(index);
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
#[allow(clippy::unwrap_used)]
mod tests;
