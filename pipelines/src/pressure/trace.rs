//! The harness's own record of what was offered, started and ended, one slot an element. It takes no
//! system's word for anything.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forebay::time::{self, Time};

use crate::scenario::{ByClass, Rank};
use crate::schedule::Arrival;

/// How it stands with an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Fate {
    /// Not offered yet.
    Ahead,
    /// Taken in, and neither done nor dropped.
    Inside,
    /// Given back at once.
    Refused,
    /// Done; in time or late.
    Done,
    /// The work on it failed, or was given up.
    Failed,
    /// Dropped by the system while the run went on.
    Lost,
    /// Dropped by the system when the run ended.
    Cancelled,
}

impl Fate {
    const ALL: [Fate; 7] = [
        Fate::Ahead,
        Fate::Inside,
        Fate::Refused,
        Fate::Done,
        Fate::Failed,
        Fate::Lost,
        Fate::Cancelled,
    ];
}

/// No such event so far.
pub(crate) const NEVER: u64 = u64::MAX;

struct Slot {
    offered: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
    fate: AtomicU8,
    /// How many hold the element: who works on it, and who may have to try again.
    holders: AtomicU8,
    /// How often work on it was begun.
    tries: AtomicU8,
}

/// What is known of one element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) arrival: Arrival,
    /// How long after its intended start it is of use.
    pub(crate) deadline_ns: u64,
    pub(crate) offered: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) fate: Fate,
}

/// The record of a run. Its times are nanoseconds after the start of the run.
pub(crate) struct Trace {
    start_ns: AtomicU64,
    arrivals: Arc<Vec<Arrival>>,
    /// Those that were offered again, after the others.
    again: Mutex<Vec<Arrival>>,
    slots: Vec<Slot>,
    refusal_ns: u64,
    /// Processor time of refusals that no worker has paid for yet.
    debt_ns: AtomicU64,
    /// Of the elements that are inside.
    inside_bytes: AtomicU64,
    closing: AtomicBool,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("arrivals", &self.arrivals.len())
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Room for the arrivals, and for so many that are offered again. `refusal_ns` is what workers
    /// pay for an element that is refused or given up.
    pub(crate) fn new(arrivals: Arc<Vec<Arrival>>, again: usize, refusal_ns: u64) -> Arc<Trace> {
        let slot = || Slot {
            offered: AtomicU64::new(NEVER),
            started: AtomicU64::new(NEVER),
            ended: AtomicU64::new(NEVER),
            fate: AtomicU8::new(Fate::Ahead as u8),
            holders: AtomicU8::new(0),
            tries: AtomicU8::new(0),
        };
        let count = arrivals.len() + again;
        Arc::new(Trace {
            start_ns: AtomicU64::new(0),
            arrivals,
            again: Mutex::new(Vec::with_capacity(again)),
            slots: std::iter::repeat_with(slot).take(count).collect(),
            refusal_ns,
            debt_ns: AtomicU64::new(0),
            inside_bytes: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        })
    }

    /// The run starts then.
    pub(crate) fn begin(&self, at: Time) {
        self.start_ns.store(at.as_nanos(), Ordering::Release);
    }

    /// The run ends: what is dropped from now on is cancelled.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn now(&self) -> u64 {
        time::now()
            .as_nanos()
            .saturating_sub(self.start_ns.load(Ordering::Acquire))
    }

    /// The time on the clock that long after the start.
    pub(crate) fn clock(&self, at_ns: u64) -> Time {
        Time::from_nanos(self.start_ns.load(Ordering::Acquire).saturating_add(at_ns))
    }

    pub(crate) fn scheduled(&self) -> usize {
        self.arrivals.len()
    }

    pub(crate) fn arrival(&self, id: u32) -> Option<Arrival> {
        let index = id as usize;
        if let Some(arrival) = self.arrivals.get(index) {
            return Some(*arrival);
        }
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.get(index - self.arrivals.len()).copied()
    }

    /// One more arrival, if there is room for it.
    pub(crate) fn add(&self, arrival: Arrival) -> Option<u32> {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.arrivals.len() + again.len();
        if index >= self.slots.len() {
            return None;
        }
        again.push(arrival);
        u32::try_from(index).ok()
    }

    /// The bytes that were offered and neither given back, done nor dropped.
    pub(crate) fn inside_bytes(&self) -> u64 {
        self.inside_bytes.load(Ordering::Relaxed)
    }

    fn end(&self, id: u32, bytes: u64, fate: Fate) {
        if let Some(slot) = self.slots.get(id as usize) {
            self.inside_bytes.fetch_sub(bytes, Ordering::Relaxed);
            slot.ended.store(self.now(), Ordering::Release);
            slot.fate.store(fate as u8, Ordering::Release);
        }
    }

    /// The element as it is offered now.
    pub(crate) fn offer(self: &Arc<Self>, id: u32, deadline_ns: u64) -> Option<Item> {
        let arrival = self.arrival(id)?;
        let slot = self.slots.get(id as usize)?;
        let now = self.now();
        slot.offered.store(now, Ordering::Release);
        slot.fate.store(Fate::Inside as u8, Ordering::Release);
        slot.holders.store(1, Ordering::Release);
        self.inside_bytes
            .fetch_add(arrival.bytes, Ordering::Relaxed);
        Some(Item {
            id,
            rank: arrival.rank,
            bytes: arrival.bytes,
            service_ns: arrival.service_ns,
            useful_ns: (arrival.at_ns.saturating_add(deadline_ns)).saturating_sub(now),
            offered_ns: now,
            trace: Arc::clone(self),
        })
    }

    /// The processor time that refusals have cost since it was last asked.
    pub(crate) fn take_debt(&self) -> u64 {
        self.debt_ns.swap(0, Ordering::Relaxed)
    }

    fn charge(&self) {
        self.debt_ns.fetch_add(self.refusal_ns, Ordering::Relaxed);
    }

    pub(crate) fn fate(&self, id: u32) -> Fate {
        let fate = self
            .slots
            .get(id as usize)
            .map_or(0, |slot| slot.fate.load(Ordering::Acquire));
        Fate::ALL[usize::from(fate) % Fate::ALL.len()]
    }

    pub(crate) fn ended(&self, id: u32) -> u64 {
        self.slots
            .get(id as usize)
            .map_or(NEVER, |slot| slot.ended.load(Ordering::Acquire))
    }

    /// All that was recorded, in the order of numbers.
    pub(crate) fn records(&self, deadlines_ns: &ByClass<u64>) -> Vec<Record> {
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let arrivals = self.arrivals.iter().chain(again.iter());
        arrivals
            .zip(&self.slots)
            .enumerate()
            .map(|(id, (arrival, slot))| Record {
                arrival: *arrival,
                deadline_ns: *deadlines_ns.of(arrival.rank),
                offered: slot.offered.load(Ordering::Acquire),
                started: slot.started.load(Ordering::Acquire),
                ended: slot.ended.load(Ordering::Acquire),
                fate: self.fate(id as u32),
            })
            .collect()
    }
}

/// An element in the hands of a system; clones are the same one. Whoever drops the last has lost it,
/// unless it was finished.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: u32,
    pub(crate) rank: Rank,
    pub(crate) bytes: u64,
    pub(crate) service_ns: u64,
    /// How long after its offer it is of use.
    pub(crate) useful_ns: u64,
    offered_ns: u64,
    trace: Arc<Trace>,
}

impl Item {
    fn slot(&self) -> Option<&Slot> {
        self.trace.slots.get(self.id as usize)
    }

    /// Work on it begins. If it is dropped from now on, the call was given up, and failed.
    pub(crate) fn begin(&self) {
        if let Some(slot) = self.slot() {
            slot.tries.fetch_add(1, Ordering::AcqRel);
            if slot.started.load(Ordering::Acquire) == NEVER {
                slot.started.store(self.trace.now(), Ordering::Release);
            }
        }
    }

    /// How often work on it was begun.
    pub(crate) fn tries(&self) -> u32 {
        self.slot()
            .map_or(0, |slot| u32::from(slot.tries.load(Ordering::Acquire)))
    }

    pub(crate) fn finish(self, fate: Fate) {
        self.trace.end(self.id, self.bytes, fate);
    }

    /// The work on it failed. If somebody still holds it, it may be tried again.
    pub(crate) fn fail(self) {
        let holders = self.slot().map(|slot| slot.holders.load(Ordering::Acquire));
        if holders == Some(1) {
            self.finish(Fate::Failed);
        }
    }

    /// How long it is of use yet.
    pub(crate) fn left_ns(&self) -> u64 {
        let until_ns = self.offered_ns.saturating_add(self.useful_ns);
        until_ns.saturating_sub(self.trace.now())
    }

    /// It was given back at the offer.
    pub(crate) fn refuse(self) {
        self.trace.charge();
        self.finish(Fate::Refused);
    }
}

impl Clone for Item {
    fn clone(&self) -> Item {
        if let Some(slot) = self.slot() {
            slot.holders.fetch_add(1, Ordering::AcqRel);
        }
        Item {
            trace: Arc::clone(&self.trace),
            ..*self
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        let Some(slot) = self.slot() else { return };
        let is_last = slot.holders.fetch_sub(1, Ordering::AcqRel) == 1;
        if !is_last || slot.fate.load(Ordering::Acquire) != Fate::Inside as u8 {
            return;
        }
        let fate = if self.trace.closing.load(Ordering::Acquire) {
            Fate::Cancelled
        } else if slot.started.load(Ordering::Acquire) != NEVER {
            Fate::Failed
        } else {
            self.trace.charge();
            Fate::Lost
        };
        self.trace.end(self.id, self.bytes, fate);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn trace() -> Arc<Trace> {
        let arrival = Arrival {
            at_ns: 0,
            service_ns: 1,
            bytes: 10,
            rank: Rank::High,
            tries: 0,
        };
        Trace::new(Arc::new(vec![arrival]), 0, 0)
    }

    #[test]
    fn an_element_that_failed_may_be_tried_again_by_who_still_holds_it() {
        let trace = trace();
        let item = trace.offer(0, 100).unwrap();
        let kept = item.clone();
        item.begin();
        item.fail();
        assert_eq!((trace.fate(0), trace.inside_bytes()), (Fate::Inside, 10));
        kept.begin();
        assert_eq!(kept.tries(), 2);
        kept.finish(Fate::Done);
        assert_eq!((trace.fate(0), trace.inside_bytes()), (Fate::Done, 0));
    }

    #[test]
    fn whoever_drops_the_last_has_lost_it() {
        for (begins, fate) in [(true, Fate::Failed), (false, Fate::Lost)] {
            let trace = trace();
            let item = trace.offer(0, 100).unwrap();
            if begins {
                item.begin();
            }
            drop(item.clone());
            assert_eq!(trace.fate(0), Fate::Inside);
            drop(item);
            assert_eq!((trace.fate(0), trace.inside_bytes()), (fate, 0));
        }
    }
}
