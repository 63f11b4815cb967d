//! Who offers: open loop, each element at its time whatever became of the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::scenario::{ByClass, Fault};
use crate::schedule::Arrival;
use crate::shop::Shop;
use crate::system::System;
use crate::trace::{Fate, Trace};

/// One producer of several: it offers every n-th element.
pub(crate) struct Producer {
    trace: Arc<Trace>,
    shop: Arc<Shop>,
    system: Arc<dyn System>,
    deadlines_ns: ByClass<u64>,
    next: usize,
    /// Where the elements end that it offers.
    end: usize,
    stride: usize,
    /// When to look whether an element was served in time; only in a retry storm.
    looks: BinaryHeap<Reverse<(u64, u32)>>,
    /// When to offer an element again.
    again: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Producer {
    /// The producer of that number, of so many.
    pub(crate) fn new(
        shop: &Arc<Shop>,
        system: &Arc<dyn System>,
        deadlines_ns: ByClass<u64>,
        number: usize,
        of: usize,
    ) -> Producer {
        Producer {
            trace: Arc::clone(shop.trace()),
            shop: Arc::clone(shop),
            system: Arc::clone(system),
            deadlines_ns,
            next: number,
            end: shop.trace().scheduled(),
            stride: of.max(1),
            looks: BinaryHeap::new(),
            again: BinaryHeap::new(),
        }
    }

    /// Leaves all but the first so many elements to others.
    pub(crate) fn only(&mut self, first: usize) {
        self.end = first;
    }

    fn scheduled(&self) -> Option<u64> {
        if self.next >= self.end {
            return None;
        }
        self.trace.arrival(self.next as u32).map(|next| next.at_ns)
    }

    /// When it has something to do next.
    pub(crate) fn next_at(&self) -> Option<u64> {
        let due = |heap: &BinaryHeap<Reverse<(u64, u32)>>| heap.peek().map(|Reverse((at, _))| *at);
        [self.scheduled(), due(&self.looks), due(&self.again)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due by then.
    pub(crate) fn act(&mut self, now_ns: u64) {
        while let Some(at) = self.scheduled().filter(|at| *at <= now_ns) {
            let id = self.next as u32;
            self.next += self.stride;
            self.offer(id, at);
        }
        while let Some(Reverse((at, id))) = self.again.peek().copied()
            && at <= now_ns
        {
            self.again.pop();
            self.offer(id, at);
        }
        while let Some(Reverse((at, id))) = self.looks.peek().copied()
            && at <= now_ns
        {
            self.looks.pop();
            let in_time = self.trace.fate(id) == Fate::Done && self.trace.ended(id) <= at;
            if !in_time {
                self.once_more(id, at);
            }
        }
    }

    fn storm(&self, at_ns: u64) -> Option<(u32, u64)> {
        let faults = self.shop.timeline().faults().iter();
        faults
            .filter(|fault| fault.is_on(at_ns))
            .find_map(|fault| match fault {
                Fault::RetryStorm {
                    tries, after_ms, ..
                } => Some((*tries, (after_ms * 1e6) as u64)),
                _ => None,
            })
    }

    fn offer(&mut self, id: u32, at_ns: u64) {
        let Some(arrival) = self.trace.arrival(id) else {
            return;
        };
        let deadline = *self.deadlines_ns.of(arrival.rank);
        let Some(item) = self.trace.offer(id, deadline) else {
            return;
        };
        let refused = self.system.offer(item);
        let storm = self.storm(at_ns).is_some();
        if let Err(item) = refused {
            item.refuse();
            if storm {
                self.once_more(id, at_ns);
            }
        } else if storm {
            self.looks.push(Reverse((arrival.at_ns + deadline, id)));
        }
    }

    /// Has an element that was not served offered again, as one more.
    fn once_more(&mut self, id: u32, now_ns: u64) {
        let Some((tries, after_ns)) = self.storm(now_ns) else {
            return;
        };
        let Some(arrival) = self.trace.arrival(id).filter(|before| before.tries < tries) else {
            return;
        };
        let arrival = Arrival {
            at_ns: now_ns + after_ns,
            tries: arrival.tries + 1,
            ..arrival
        };
        if let Some(id) = self.trace.add(arrival) {
            self.again.push(Reverse((arrival.at_ns, id)));
        }
    }
}
