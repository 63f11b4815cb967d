//! The consumer's side of a boundary by class: an operator.

use std::sync::Arc;

use super::{ClassQueueView, Leaves, Shared, State, bytes_of};
use crate::boundary::bell::Bell;
use crate::chunk::Chunk;
use crate::control::Deferral;
use crate::error::Stop;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator};
use crate::outcome::{Outcome, Reason};
use crate::sync::{MutexGuard, Ordering, lock};
use crate::time::{Sleep, Time, poll_until};

/// Takes what is served next.
pub(crate) struct ClassSource<T> {
    shared: Arc<Shared<T>>,
    producer: Bell,
    leaves: Leaves<T>,
    timer: Option<Sleep>,
    view: ClassQueueView,
}

impl<T: Send + 'static> ClassSource<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, view: ClassQueueView) -> ClassSource<T> {
        ClassSource {
            shared,
            producer: Bell::default(),
            leaves: Leaves::default(),
            timer: None,
            view,
        }
    }

    /// Serves what is asked for.
    fn serve(
        state: &mut State<T>,
        now: Time,
        out: &mut Chunk<T>,
        want: Demand,
        leaves: &mut Leaves<T>,
    ) {
        let mut left = want.bytes;
        while out.len() < want.items {
            if want.bytes != u64::MAX {
                let Some(next) = state.queue.peek(now) else {
                    return;
                };
                if next.bytes > left && !out.is_empty() {
                    return;
                }
            }
            let Some(served) = state.queue.pop(now) else {
                return;
            };
            let (offer, element) = (served.entry.offer, served.entry.payload);
            let wait = now.since(offer.since);
            let stale = state
                .codel
                .as_mut()
                .is_some_and(|codel| codel[offer.class.index()].is_stale(now, wait));
            if element.meta.deadline <= state.served_by(now) {
                leaves.settle(element, Outcome::Expired);
            } else if stale && !state.queue.holds_below(offer.class) {
                leaves.settle(element, Outcome::Shed(Reason::QueueDelay));
            } else {
                left = left.saturating_sub(bytes_of(&element));
                out.push(element);
            }
        }
    }

    /// Lets go of the lock, and tells the producer if it waits for room and there is more of it, or if
    /// something is to go to the side output.
    fn release(
        shared: &Shared<T>,
        mut state: MutexGuard<'_, State<T>>,
        producer: &mut Bell,
        freed: bool,
    ) {
        shared.publish(&state);
        let spills = !state.spilled.is_empty();
        if spills {
            producer.follow(&state.link.producer);
        }
        let waits = freed && producer.is_waited_at(&mut state.link.producer);
        drop(state);
        if waits || spills {
            producer.ring();
        }
    }

    /// Is woken when something that was put aside must be looked at.
    fn set_timer(&mut self, cx: &mut Context<'_, '_>, at: Option<Time>) {
        let Some(at) = at.filter(|at| *at != Time::MAX) else {
            self.timer = None;
            return;
        };
        if poll_until(&mut self.timer, at, cx.task()).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: Send + 'static> Operator<T> for ClassSource<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let now = cx.clock();
        let mut state = lock(&self.shared.state);
        if let Some(stop) = state.link.stop.take() {
            state.remove(
                None,
                Outcome::Cancelled(Reason::RunFailed),
                &mut self.leaves,
            );
            state.link.cancel(None);
            self.shared.attention.store(true, Ordering::Release);
            Self::release(&self.shared, state, &mut self.producer, true);
            self.leaves.settle_all(cx);
            return Err(stop);
        }
        if !state.marks.is_empty() {
            let mark = state.marks.remove(0);
            Self::release(&self.shared, state, &mut self.producer, true);
            return Ok(Fill::Mark(mark));
        }
        let before = state.held();
        state.reoffer(now, &mut self.leaves);
        if !want.is_none() {
            Self::serve(&mut state, now, out, want, &mut self.leaves);
        }
        let mut timer = None;
        let fill = if !out.is_empty() {
            Fill::More
        } else if state.link.done && state.is_empty() {
            Fill::Done
        } else {
            // What was put aside comes up at its own time, or when there is room again.
            timer = state.deferral.as_ref().and_then(Deferral::next_at);
            if want.is_none() {
                state.link.consumer.register(cx.waker());
            } else {
                state.link.consumer.wait(cx.waker());
            }
            Fill::Pending
        };
        let freed = state.held() < before;
        Self::release(&self.shared, state, &mut self.producer, freed);
        self.leaves.settle_all(cx);
        self.set_timer(cx, timer.filter(|at| *at > now));
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let mut state = lock(&self.shared.state);
        if signal == Control::Cancel {
            state.link.cancel(cx.cancelled_for());
            let outcome = cx.leftover();
            state.remove(None, outcome, &mut self.leaves);
        } else {
            state.link.send(signal);
        }
        self.shared.publish(&state);
        self.shared.attention.store(true, Ordering::Release);
        self.producer.follow(&state.link.producer);
        drop(state);
        self.producer.ring();
        self.leaves.settle_all(cx);
    }

    fn held(&self) -> Held {
        self.shared.held()
    }
}

impl<T> Drop for ClassSource<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.link.cancel(None);
        self.shared.attention.store(true, Ordering::Release);
        self.producer.follow(&state.link.producer);
        let last = state.snapshot();
        drop(state);
        self.view.set(move || Some(last));
        self.producer.ring();
    }
}
