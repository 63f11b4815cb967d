//! The consumer's side of a boundary: an operator.

use std::mem;
use std::sync::Arc;
use std::task::Waker;

use super::Shared;
use crate::boundary::bell::Bell;
use crate::boundary::buffer::WhenFull;
use crate::chunk::{Chunk, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator};
use crate::outcome::{Outcome, Reason};
use crate::sync::{Ordering, lock};

/// Takes what is queued, and hands it on as asked for.
pub(crate) struct RingSource<T> {
    shared: Arc<Shared<T>>,
    /// Taken out of the queue in one step, handed on as asked for.
    local: Queue<T>,
    /// What `State::taken` says: the part of `local` the producer believes not to be free.
    noted: usize,
    producer: Bell,
    /// The waker that `State::consumer` holds.
    registered: Option<Waker>,
}

impl<T: Send + 'static> RingSource<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> RingSource<T> {
        RingSource {
            shared,
            local: Queue::default(),
            noted: 0,
            producer: Bell::default(),
            registered: None,
        }
    }

    fn is_known(&self, waker: &Waker) -> bool {
        let known = self.registered.as_ref();
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// A mark that no element lies before, which needs no demand.
    fn poll_mark(&mut self, cx: &mut Context<'_, '_>) -> Option<Mark> {
        if !self.local.is_blank() {
            return self.local.pop_mark();
        }
        let known = self.is_known(cx.waker());
        if known && self.shared.marks.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut state = lock(&self.shared.state);
        if !known {
            state.consumer.register(cx.waker());
            self.registered = Some(cx.waker().clone());
        }
        let mark = state.queue.pop_mark();
        self.shared.publish(&state);
        mark
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
        self.shared.publish(&state);
        self.shared.replenish(state, &mut self.producer);
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
            return Ok(self.poll_mark(cx).map_or(Fill::Pending, Fill::Mark));
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
                state.consumer.wait(cx.waker());
                if !self.is_known(cx.waker()) {
                    self.registered = Some(cx.waker().clone());
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
        self.shared.replenish(state, &mut self.producer);
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
        self.producer.follow(&state.producer);
        drop(state);
        self.producer.ring();
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
        self.producer.follow(&state.producer);
        drop(state);
        self.producer.ring();
    }
}
