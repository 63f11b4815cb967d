//! The producer's side of a boundary: a sink.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Shared, State};
use crate::boundary::bell::Bell;
use crate::boundary::buffer::WhenFull;
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};
use crate::sync::{Ordering, lock};

/// Adds chunks as the buffer's policy says, as far as its credits go.
pub(crate) struct RingSink<T> {
    pub(super) shared: Arc<Shared<T>>,
    /// Free places known of; there may be more by now, never fewer.
    credit: usize,
    /// The waker that `State::producer` holds.
    registered: Option<Waker>,
    consumer: Bell,
    ended: bool,
}

impl<T: Send + 'static> RingSink<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> RingSink<T> {
        RingSink {
            shared,
            credit: 0,
            registered: None,
            consumer: Bell::default(),
            ended: false,
        }
    }

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
            if self.credit == 0 && self.shared.buffer.bytes == u64::MAX {
                self.credit = self.shared.credit();
            }
            if self.credit > 0 {
                return Poll::Ready(Some(Demand::items(self.credit)));
            }
        }
        let mut state = lock(&self.shared.state);
        if state.link.cancelled {
            return Poll::Ready(None);
        }
        if !known {
            state.link.producer.register(cx.waker());
            self.registered = Some(cx.waker().clone());
        }
        if sheds {
            return Poll::Ready(Some(Demand::items(Chunk::<T>::MAX)));
        }
        let (items, bytes) = (self.shared.free(&state), self.shared.free_bytes(&state));
        if items == 0 || bytes == 0 {
            state.link.producer.wait(cx.waker());
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
        // From here on the consumer has taken nothing that it has not handed on.
        if self.shared.buffer.bytes == u64::MAX {
            let over = (state.queue.len() + chunk.len()).saturating_sub(self.shared.buffer.items);
            if over == 0 {
                state.queue.append(chunk);
                return None;
            }
            if policy == WhenFull::DropHead {
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
                        .link
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
        if state.link.cancelled {
            let reason = state.link.cancelled_for;
            drop(state);
            let outcome = cx.cancelling(reason, |cx| cx.leftover());
            cx.settle_chunk(chunk, outcome);
            return;
        }
        let shed = self.add(&mut state, chunk);
        self.shared.publish(&state);
        let waits = self.consumer.is_waited_at(&mut state.link.consumer);
        drop(state);
        if waits {
            self.consumer.ring();
        }
        if let Some((mut shed, outcome)) = shed {
            cx.settle_chunk(&mut shed, outcome);
        }
    }

    fn mark(&mut self, _: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        let mut state = lock(&self.shared.state);
        if !state.link.cancelled {
            state.queue.push_mark(mark.clone());
        }
        self.shared.publish(&state);
        // A consumer that has no demand takes marks all the same.
        let _ = self.consumer.is_waited_at(&mut state.link.consumer);
        self.consumer.follow(&state.link.consumer);
        drop(state);
        self.consumer.ring();
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
        lock(&self.shared.state).link.cancelled_for
    }

    fn take_control(&mut self) -> Option<Control> {
        if !self.shared.attention.load(Ordering::Acquire) {
            return None;
        }
        let mut state = lock(&self.shared.state);
        let control = state.link.take_control();
        // A consumer that left keeps the attention.
        if control.is_none() && !state.link.cancelled {
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
        state.link.end(stop);
        let waits = self.consumer.is_waited_at(&mut state.link.consumer);
        drop(state);
        if waits {
            self.consumer.ring();
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
