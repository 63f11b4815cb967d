//! The queue between two islands: one lock, taken once a chunk on either side.

mod consumer;
mod producer;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::bell::Bell;
use super::buffer::{Buffer, WhenFull};
use super::link::Link;
use crate::chunk::Queue;
use crate::operator::{Held, Stage};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, lock, spin_lock};
pub(crate) use consumer::RingSource;
pub(crate) use producer::RingSink;

struct Shared<T> {
    buffer: Buffer,
    state: Mutex<State<T>>,
    /// Elements in `state.queue`, and elements the consumer has taken out and not handed on: kept
    /// apart, each written by its own side alone, to be read without the lock.
    queued: AtomicU64,
    taken: AtomicU64,
    /// Places that are not free, as of the last time the lock was held.
    used: AtomicU64,
    /// Marks in `state.queue`, as of the last time the lock was held.
    marks: AtomicU64,
    /// There is something the producer must look at: a message, or that the consumer left.
    attention: AtomicBool,
    /// The consumer is about to take the lock: a producer that never waits stands back for it.
    consumer_near: AtomicBool,
}

struct State<T> {
    queue: Queue<T>,
    /// What the consumer had taken when it last had the lock: these places are not free yet.
    taken: usize,
    taken_bytes: u64,
    link: Link,
}

impl<T> Shared<T> {
    fn free(&self, state: &State<T>) -> usize {
        self.buffer
            .items
            .saturating_sub(state.queue.len() + state.taken)
    }

    fn free_bytes(&self, state: &State<T>) -> u64 {
        if self.buffer.bytes == u64::MAX {
            return u64::MAX;
        }
        self.buffer
            .bytes
            .saturating_sub(state.queue.bytes() + state.taken_bytes)
    }

    fn publish(&self, state: &State<T>) {
        let queued = state.queue.len();
        self.queued.store(queued as u64, Ordering::Relaxed);
        self.marks
            .store(state.queue.marks() as u64, Ordering::Release);
        self.used
            .store((queued + state.taken) as u64, Ordering::Release);
    }

    /// Free places, without the lock: there may be more by now, never fewer, for the one producer.
    fn credit(&self) -> usize {
        let used = self.used.load(Ordering::Acquire) as usize;
        self.buffer.items.saturating_sub(used)
    }

    /// Takes the lock, ahead of a producer that never waits.
    fn approach(&self) -> MutexGuard<'_, State<T>> {
        if self.buffer.when_full == WhenFull::Backpressure {
            return lock(&self.state);
        }
        self.consumer_near.store(true, Ordering::Relaxed);
        let state = spin_lock(&self.state);
        self.consumer_near.store(false, Ordering::Relaxed);
        state
    }

    /// Lets go of the lock, and tells the producer of free places once half of them are free.
    fn replenish(&self, mut state: MutexGuard<'_, State<T>>, producer: &mut Bell) {
        let half = (self.buffer.items / 2).max(1);
        let enough = self.free(&state) >= half && self.free_bytes(&state) > 0;
        let waits = enough && producer.is_waited_at(&mut state.link.producer);
        drop(state);
        if waits {
            producer.ring();
        }
    }

    fn held(&self) -> Held {
        let items = self.queued.load(Ordering::Relaxed) + self.taken.load(Ordering::Relaxed);
        Held::items(items as usize)
    }
}

/// A boundary: what the island before it ends in, and what the island after it starts with.
pub(crate) fn ring<T: Send + 'static>(
    buffer: Buffer,
    stage: &Arc<Stage>,
) -> (RingSink<T>, RingSource<T>) {
    let shared = Arc::new(Shared {
        buffer,
        state: Mutex::new(State {
            queue: Queue::default(),
            taken: 0,
            taken_bytes: 0,
            link: Link::default(),
        }),
        queued: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        used: AtomicU64::new(0),
        marks: AtomicU64::new(0),
        attention: AtomicBool::new(false),
        consumer_near: AtomicBool::new(false),
    });
    let probe = Arc::downgrade(&shared);
    stage.ledger.probe(move || {
        probe
            .upgrade()
            .map_or(0, |shared| shared.held().items as u64)
    });
    (RingSink::new(Arc::clone(&shared)), RingSource::new(shared))
}
