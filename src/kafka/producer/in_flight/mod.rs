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
use crate::time::{self, Sleep, Time};

/// How long the first record of a batch that is reported waits for the last.
const TOGETHER: Duration = Duration::from_millis(50);
/// Batches that are over, of which the memory is kept for the next.
const SPARE: usize = 64;

/// The number of a record has its batch above, and its place in it below.
const PLACE_BITS: u32 = usize::BITS / 2;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;

/// All that are on their way.
#[derive(Default)]
pub(super) struct InFlight {
    batches: Vec<Batch>,
    /// Those that are over, to be used again.
    free: Vec<usize>,
    /// In boxes, as batches have them.
    #[allow(clippy::vec_box, reason = "a batch takes and gives back the box")]
    spare: Vec<Box<Whole>>,
    /// By number, the records of parted batches that are not reported.
    apart: BTreeMap<usize, Apart>,
    /// Batches of which something is reported, since when.
    begun: VecDeque<(usize, Time)>,
    /// When the first of them is parted.
    timer: Option<Sleep>,
    held: Held,
    pub(super) destinations: Destinations,
}

struct Batch {
    /// `None` once it is settled or parted.
    whole: Option<Box<Whole>>,
    /// So many of its records are not reported.
    left: usize,
}

/// A batch that is settled together.
#[derive(Default)]
struct Whole {
    metas: Chunk<()>,
    /// A bit for each record that is reported.
    reported: Vec<u64>,
    /// What each of them weighs.
    bytes: Vec<u64>,
    /// The topics, each with the place behind its last record.
    topics: Vec<(u32, usize)>,
    /// Those that were reported otherwise than as delivered.
    otherwise: BTreeMap<usize, Outcome>,
    /// Those that could not be written, and are on their way to where such records go.
    redirected: Vec<usize>,
    /// What is written elsewhere if it cannot be written. Empty if there is no such place: the client has
    /// its own copy.
    kept: Vec<Option<ProducerRecord>>,
    begun: Option<Time>,
}

/// A record that is settled by itself.
struct Apart {
    meta: Meta,
    bytes: u64,
    topic: u32,
    redirected: bool,
    kept: Option<ProducerRecord>,
}

impl Whole {
    fn clear(&mut self) {
        self.reported.clear();
        self.bytes.clear();
        self.topics.clear();
        self.otherwise.clear();
        self.redirected.clear();
        self.kept.clear();
        self.begun = None;
    }

    fn topic(&self, place: usize) -> u32 {
        let found = self.topics.iter().find(|(_, end)| place < *end);
        found.map_or(0, |(topic, _)| *topic)
    }

    fn is_reported(&self, place: usize) -> bool {
        let bits = self.reported.get(place / 64);
        bits.is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// False if it was reported before, or there is none.
    fn report(&mut self, place: usize, outcome: Outcome) -> bool {
        let Some(bits) = self.reported.get_mut(place / 64) else {
            return false;
        };
        let bit = 1 << (place % 64);
        if *bits & bit != 0 || place >= self.metas.len() {
            return false;
        }
        *bits |= bit;
        if outcome != Outcome::Delivered {
            self.otherwise.insert(place, outcome);
        }
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = None;
        }
        true
    }
}

impl InFlight {
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// A batch of records that are to be added: the number of the first; the others follow.
    pub(super) fn begin(&mut self, metas: Chunk<()>, keeps: bool) -> usize {
        let count = metas.len();
        self.held.items += count;
        let mut whole = self.spare.pop().unwrap_or_default();
        whole.metas = metas;
        whole.reported.resize(count.div_ceil(64), 0);
        if keeps {
            whole.kept.resize_with(count, || None);
        }
        let batch = Batch {
            whole: Some(whole),
            left: count,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.batches[index] = batch;
                index
            }
            None => {
                self.batches.push(batch);
                self.batches.len() - 1
            }
        };
        index << PLACE_BITS
    }

    fn whole(&mut self, number: usize) -> Option<&mut Whole> {
        let batch = self.batches.get_mut(number >> PLACE_BITS)?;
        batch.whole.as_deref_mut()
    }

    /// The next record of the batch that was begun last.
    pub(super) fn add(&mut self, number: usize, record: &ProducerRecord) {
        let topic = self.destinations.number(&record.topic);
        let bytes = record.len() as u64;
        let Some(whole) = self.whole(number) else {
            return;
        };
        whole.bytes.push(bytes);
        let end = (number & PLACE_MASK) + 1;
        match whole.topics.last_mut() {
            Some((last, to)) if *last == topic => *to = end,
            _ => whole.topics.push((topic, end)),
        }
        self.held.bytes += bytes;
    }

    pub(super) fn keep(&mut self, number: usize, record: ProducerRecord) {
        if let Some(apart) = self.apart.get_mut(&number) {
            apart.kept = Some(record);
        } else if let Some(whole) = self.whole(number)
            && let Some(place) = whole.kept.get_mut(number & PLACE_MASK)
        {
            *place = Some(record);
        }
    }

    /// What was kept of a record that is not on its way elsewhere already: from now on it is.
    pub(super) fn redirect(&mut self, number: usize) -> Option<ProducerRecord> {
        if self.is_redirected(number) {
            return None;
        }
        if let Some(apart) = self.apart.get_mut(&number) {
            let kept = apart.kept.take()?;
            apart.redirected = true;
            return Some(kept);
        }
        let whole = self.whole(number)?;
        let place = number & PLACE_MASK;
        let kept = whole.kept.get_mut(place)?.take()?;
        whole.redirected.push(place);
        Some(kept)
    }

    pub(super) fn is_redirected(&self, number: usize) -> bool {
        let batch = self.batches.get(number >> PLACE_BITS);
        match batch.and_then(|batch| batch.whole.as_deref()) {
            Some(whole) => whole.redirected.contains(&(number & PLACE_MASK)),
            None => {
                let apart = self.apart.get(&number);
                apart.is_some_and(|apart| apart.redirected)
            }
        }
    }

    /// A record ended like that. What is told of a record again changes nothing.
    pub(super) fn report(&mut self, cx: &mut Context<'_, '_>, number: usize, outcome: Outcome) {
        let (index, place) = (number >> PLACE_BITS, number & PLACE_MASK);
        let Some(batch) = self.batches.get_mut(index) else {
            return;
        };
        let Some(whole) = &mut batch.whole else {
            if let Some(apart) = self.apart.remove(&number) {
                batch.left -= 1;
                if batch.left == 0 {
                    self.free.push(index);
                }
                self.settle_apart(cx, apart, outcome);
            }
            return;
        };
        if !whole.report(place, outcome) {
            return;
        }
        batch.left -= 1;
        if batch.left == 0 {
            self.settle(cx, index);
        } else if whole.begun.is_none() {
            let now = cx.now();
            whole.begun = Some(now);
            self.begun.push_back((index, now));
        }
    }

    /// Parts batches that have waited for long enough, and has the stage woken when the next has.
    pub(super) fn part_late(&mut self, cx: &mut Context<'_, '_>) {
        while let Some((index, since)) = self.begun.front().copied() {
            let whole = self.batches[index].whole.as_deref();
            if whole.is_some_and(|whole| whole.begun == Some(since)) {
                let until = since + TOGETHER;
                let timer = &mut self.timer;
                if cx.now() < until && time::poll_until(timer, until, cx.task()).is_pending() {
                    return;
                }
                self.part(cx, index);
            }
            self.begun.pop_front();
        }
        self.timer = None;
    }

    /// Ends all: those that are not reported like that.
    pub(super) fn abandon(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        for index in 0..self.batches.len() {
            self.part(cx, index);
        }
        for (_, apart) in std::mem::take(&mut self.apart) {
            self.settle_apart(cx, apart, outcome);
        }
        self.destinations.tell(cx);
        *self = InFlight::default();
    }

    /// All of a batch are reported.
    fn settle(&mut self, cx: &mut Context<'_, '_>, index: usize) {
        let whole = self.batches[index].whole.as_deref();
        if whole.is_none_or(|whole| !whole.otherwise.is_empty()) {
            self.part(cx, index);
            return;
        }
        let Some(mut whole) = self.batches[index].whole.take() else {
            return;
        };
        let mut from = 0;
        for (topic, end) in &whole.topics {
            let of_topic = (*end - from) as u64;
            self.destinations.count(*topic, Kind::Delivered, of_topic);
            from = *end;
        }
        self.held.items -= whole.metas.len();
        self.held.bytes -= whole.bytes.iter().sum::<u64>();
        cx.settle_chunk(&mut whole.metas, Outcome::Delivered);
        self.spare(whole);
        self.free.push(index);
    }

    /// Settles those of a batch that are reported, and keeps the others one by one.
    fn part(&mut self, cx: &mut Context<'_, '_>, index: usize) {
        let Some(mut whole) = self.batches[index].whole.take() else {
            return;
        };
        let mut metas = std::mem::take(&mut whole.metas);
        for (place, element) in metas.drain().enumerate() {
            let apart = Apart {
                meta: element.meta,
                bytes: whole.bytes.get(place).copied().unwrap_or(0),
                topic: whole.topic(place),
                redirected: whole.redirected.contains(&place),
                kept: whole.kept.get_mut(place).and_then(Option::take),
            };
            if whole.is_reported(place) {
                let outcome = whole.otherwise.get(&place);
                let outcome = outcome.copied().unwrap_or(Outcome::Delivered);
                self.settle_apart(cx, apart, outcome);
            } else {
                self.apart.insert((index << PLACE_BITS) + place, apart);
            }
        }
        self.spare(whole);
        if self.batches[index].left == 0 {
            self.free.push(index);
        }
    }

    fn settle_apart(&mut self, cx: &mut Context<'_, '_>, apart: Apart, outcome: Outcome) {
        self.destinations.count(apart.topic, outcome.kind(), 1);
        self.held.items -= 1;
        self.held.bytes -= apart.bytes;
        cx.settle(apart.meta, outcome);
    }

    fn spare(&mut self, mut whole: Box<Whole>) {
        if self.spare.len() < SPARE {
            whole.clear();
            self.spare.push(whole);
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
#[allow(clippy::unwrap_used)]
mod tests;
