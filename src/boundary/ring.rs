//! The queue between two islands: one lock, taken once a chunk on either side.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::buffer::{Buffer, WhenFull};
use crate::chunk::{Chunk, Queue};
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator, Sink, Stage};
use crate::outcome::{Outcome, Reason};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, lock, spin_lock};

struct Shared<T> {
    buffer: Buffer,
    state: Mutex<State<T>>,
    /// Elements in `state.queue`, and elements the consumer has taken out and not handed on: kept
    /// apart, each written by its own side alone, to be read without the lock.
    queued: AtomicU64,
    taken: AtomicU64,
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
    /// The producer waits for credits.
    producer: Option<Waker>,
    /// The producer, whatever it waits for: it must learn of a message or a consumer that left.
    upstream: Option<Waker>,
    /// The consumer waits for elements.
    consumer: Option<Waker>,
    /// No more will come.
    done: bool,
    /// The consumer wants no more.
    cancelled: bool,
    /// Why, where there is more to say than that it was not wanted.
    cancelled_for: Option<Reason>,
    stop: Option<Stop>,
    /// Messages for upstream.
    controls: VecDeque<Control>,
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
        self.queued
            .store(state.queue.len() as u64, Ordering::Relaxed);
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
            producer: None,
            upstream: None,
            consumer: None,
            done: false,
            cancelled: false,
            cancelled_for: None,
            stop: None,
            controls: VecDeque::new(),
        }),
        queued: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        attention: AtomicBool::new(false),
        consumer_near: AtomicBool::new(false),
    });
    let probe = Arc::downgrade(&shared);
    stage.ledger.probe(move || {
        probe
            .upgrade()
            .map_or(0, |shared| shared.held().items as u64)
    });
    (
        RingSink {
            shared: Arc::clone(&shared),
            credit: 0,
            registered: None,
            ended: false,
        },
        RingSource {
            shared,
            local: Queue::default(),
            noted: 0,
        },
    )
}

/// The producer's side: a sink.
pub(crate) struct RingSink<T> {
    shared: Arc<Shared<T>>,
    /// Free places known of; there may be more by now, never fewer.
    credit: usize,
    /// The waker that `State::upstream` holds.
    registered: Option<Waker>,
    ended: bool,
}

impl<T: Send + 'static> RingSink<T> {
    /// The free places, or pending until there are some; `None` once the consumer wants no more.
    fn poll_credit(&mut self, cx: &mut Context<'_, '_>) -> Poll<Option<Demand>> {
        let sheds = self.shared.buffer.when_full != WhenFull::Backpressure;
        let known = self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if known && !self.shared.attention.load(Ordering::Acquire) {
            if sheds {
                return Poll::Ready(Some(Demand::items(Chunk::<T>::MAX)));
            }
            if self.credit > 0 {
                return Poll::Ready(Some(Demand::items(self.credit)));
            }
        }
        let mut state = lock(&self.shared.state);
        if state.cancelled {
            return Poll::Ready(None);
        }
        if !known {
            state.upstream = Some(cx.waker().clone());
            self.registered = Some(cx.waker().clone());
        }
        if sheds {
            return Poll::Ready(Some(Demand::items(Chunk::<T>::MAX)));
        }
        let (items, bytes) = (self.shared.free(&state), self.shared.free_bytes(&state));
        if items == 0 || bytes == 0 {
            if state
                .producer
                .as_ref()
                .is_none_or(|waker| !waker.will_wake(cx.waker()))
            {
                state.producer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        // Bytes are looked at each time: only the lock tells how many are free.
        self.credit = if bytes == u64::MAX { items } else { 0 };
        Poll::Ready(Some(Demand { items, bytes }))
    }

    /// Lets the consumer have the lock. A producer that never waits would take it again before a
    /// consumer that sleeps on it has woken, and leave it next to nothing of what is queued.
    fn stand_back(&self) {
        for _ in 0..1024 {
            if !self.shared.consumer_near.load(Ordering::Relaxed) {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Adds a chunk as the policy says. Returns what is given up, with its outcome.
    fn add(&self, state: &mut State<T>, chunk: &mut Chunk<T>) -> Option<(Chunk<T>, Outcome)> {
        let policy = self.shared.buffer.when_full;
        if policy == WhenFull::Backpressure {
            state.queue.append(chunk);
            return None;
        }
        let mut shed = Chunk::default();
        let outcome = Outcome::Shed(policy.reason());
        if self.shared.buffer.bytes == u64::MAX {
            let over = (state.queue.len() + state.taken + chunk.len())
                .saturating_sub(self.shared.buffer.items);
            if over == 0 {
                state.queue.append(chunk);
                return None;
            }
            if policy == WhenFull::DropHead && state.taken == 0 {
                state.queue.append(chunk);
                state.queue.shed_front(over, &mut shed);
                return Some((shed, outcome));
            }
        }
        for element in chunk.drain() {
            let full = |state: &State<T>| {
                self.shared.free(state) == 0
                    || (self.shared.free_bytes(state) < element.meta.bytes
                        && !state.queue.is_empty())
            };
            if !full(state) {
                state.queue.push(element);
                continue;
            }
            match policy {
                WhenFull::DropHead => {
                    while full(state) && !state.queue.is_empty() {
                        state.queue.shed_front(1, &mut shed);
                    }
                    state.queue.push(element);
                }
                WhenFull::DropTail => {
                    if let Some(youngest) = state.queue.pop_back() {
                        shed.push(youngest);
                    }
                    state.queue.push(element);
                }
                WhenFull::DropBuffer => {
                    let all = state.queue.len();
                    state.queue.shed_front(all, &mut shed);
                    state.queue.push(element);
                }
                WhenFull::DropNew => shed.push(element),
                WhenFull::Fail | WhenFull::Backpressure => {
                    let capacity = self.shared.buffer.items;
                    state
                        .stop
                        .get_or_insert(Stop::cause(Cause::Overflow { capacity }));
                    shed.push(element);
                }
            }
        }
        let outcome = match policy {
            WhenFull::Fail => Outcome::Failed(Reason::Overflow),
            _ => outcome,
        };
        Some((shed, outcome))
    }

    fn wake_consumer(state: &mut State<T>) -> Option<Waker> {
        state.consumer.take()
    }
}

impl<T: Send + 'static> Sink<T> for RingSink<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.poll_credit(cx).map(Ok)
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        if self.shared.buffer.when_full != WhenFull::Backpressure {
            self.stand_back();
        }
        self.credit = self.credit.saturating_sub(chunk.len());
        let mut state = lock(&self.shared.state);
        if state.cancelled {
            let reason = state.cancelled_for;
            drop(state);
            let outcome = cx.cancelling(reason, |cx| cx.leftover());
            cx.settle_chunk(chunk, outcome);
            return;
        }
        let shed = self.add(&mut state, chunk);
        self.shared.publish(&state);
        let waker = Self::wake_consumer(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some((mut shed, outcome)) = shed {
            cx.settle_chunk(&mut shed, outcome);
        }
    }

    fn mark(&mut self, _: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        let mut state = lock(&self.shared.state);
        if !state.cancelled {
            state.queue.push_mark(mark.clone());
        }
        let waker = Self::wake_consumer(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.end(None);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, _: &mut Context<'_, '_>, stop: Option<&Stop>) {
        self.end(Some(stop.cloned().unwrap_or(Stop::cause(Cause::Broken))));
    }

    fn cancelled_for(&self) -> Option<Reason> {
        lock(&self.shared.state).cancelled_for
    }

    fn take_control(&mut self) -> Option<Control> {
        if !self.shared.attention.load(Ordering::Acquire) {
            return None;
        }
        let mut state = lock(&self.shared.state);
        let control = state.controls.pop_front();
        // A consumer that left keeps the attention.
        if control.is_none() && !state.cancelled {
            self.shared.attention.store(false, Ordering::Release);
        }
        control
    }

    fn held(&self) -> Held {
        self.shared.held()
    }
}

impl<T> RingSink<T> {
    fn end(&mut self, stop: Option<Stop>) {
        self.ended = true;
        let mut state = lock(&self.shared.state);
        state.done = true;
        if let Some(stop) = stop {
            state.stop.get_or_insert(stop);
        }
        let waker = state.consumer.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for RingSink<T> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some(Stop::cause(Cause::Broken)));
        }
    }
}

/// The consumer's side: an operator.
pub(crate) struct RingSource<T> {
    shared: Arc<Shared<T>>,
    /// Taken out of the queue in one step, handed on as asked for.
    local: Queue<T>,
    /// What `State::taken` says: the part of `local` the producer believes not to be free.
    noted: usize,
}

impl<T: Send + 'static> RingSource<T> {
    /// Tells the producer of free places once half of them are free.
    fn replenish(&self, state: &mut State<T>) -> Option<Waker> {
        let half = (self.shared.buffer.items / 2).max(1);
        let enough = self.shared.free(state) >= half && self.shared.free_bytes(state) > 0;
        if enough { state.producer.take() } else { None }
    }

    fn give_back(&mut self) {
        let before = self.noted;
        let half = (self.shared.buffer.items / 2).max(1);
        let left = self.local.len();
        if left == before || (left > 0 && (left > half || before <= half)) {
            return;
        }
        let mut state = lock(&self.shared.state);
        self.noted = left;
        state.taken = left;
        state.taken_bytes = self.local.bytes();
        let waker = self.replenish(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Operator<T> for RingSource<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if want.is_none() {
            return Ok(Fill::Pending);
        }
        if let Some(mark) = self.local.pop_mark() {
            return Ok(Fill::Mark(mark));
        }
        if !self.local.is_empty() {
            self.local.take(want, out);
            self.shared
                .taken
                .store(self.local.len() as u64, Ordering::Relaxed);
            self.give_back();
            return Ok(Fill::More);
        }
        let mut state = self.shared.approach();
        if let Some(stop) = state.stop.take() {
            let mut rest = state.queue.take_all();
            state.cancelled = true;
            self.shared.attention.store(true, Ordering::Release);
            self.shared.publish(&state);
            drop(state);
            cx.settle_chunk(&mut rest, Outcome::Cancelled(Reason::RunFailed));
            return Err(stop);
        }
        state.taken = 0;
        state.taken_bytes = 0;
        let fill = if state.queue.is_blank() {
            if state.done {
                Fill::Done
            } else {
                if state
                    .consumer
                    .as_ref()
                    .is_none_or(|waker| !waker.will_wake(cx.waker()))
                {
                    state.consumer = Some(cx.waker().clone());
                }
                Fill::Pending
            }
        } else if self.shared.buffer.when_full == WhenFull::Backpressure {
            mem::swap(&mut self.local, &mut state.queue);
            match self.local.pop_mark() {
                Some(mark) => Fill::Mark(mark),
                None => {
                    self.local.take(want, out);
                    Fill::More
                }
            }
        } else {
            match state.queue.pop_mark() {
                Some(mark) => Fill::Mark(mark),
                None => {
                    state.queue.take(want, out);
                    Fill::More
                }
            }
        };
        state.taken = self.local.len();
        self.noted = state.taken;
        state.taken_bytes = self.local.bytes();
        self.shared
            .taken
            .store(state.taken as u64, Ordering::Relaxed);
        self.shared.publish(&state);
        let waker = self.replenish(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let mut state = lock(&self.shared.state);
        let mut rest = Chunk::default();
        if signal == Control::Cancel {
            state.cancelled = true;
            state.cancelled_for = cx.cancelled_for();
            rest = self.local.take_all();
            rest.append(&mut state.queue.take_all());
            state.taken = 0;
            self.shared.taken.store(0, Ordering::Relaxed);
            self.shared.publish(&state);
        } else if state.controls.len() < 64 {
            state.controls.push_back(signal);
        }
        self.shared.attention.store(true, Ordering::Release);
        let waker = state.upstream.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        let outcome = cx.leftover();
        cx.settle_chunk(&mut rest, outcome);
    }

    fn held(&self) -> Held {
        self.shared.held()
    }
}

impl<T> Drop for RingSource<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.cancelled = true;
        self.shared.attention.store(true, Ordering::Release);
        let waker = state.upstream.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
