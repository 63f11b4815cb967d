//! The consumer's side of a boundary by class: an operator.

use std::sync::Arc;

use super::{ClassQueueView, Leaves, Shared, State};
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
    pub(super) fn serve(
        state: &mut State<T>,
        now: Time,
        out: &mut Chunk<T>,
        want: Demand,
        leaves: &mut Leaves<T>,
    ) {
        let served_by = state.served_by(now);
        let mut left = want.bytes;
        while out.len() < want.items {
            let most = want.items - out.len();
            let stretch = state.queue.stretch(now, most);
            let Some(stretch) = stretch.filter(|_| want.bytes == u64::MAX) else {
                if !Self::serve_one(state, now, served_by, &mut left, out, leaves) {
                    return;
                }
                continue;
            };
            let (deadline, same) = stretch.lane.first_deadline();
            let (turn, wait) = (stretch.turn, now.since(stretch.since));
            let count = stretch.count.min(same);
            let (stale, count) = state.judge(now, turn.class, wait, count);
            let to = if deadline <= served_by {
                &mut leaves.expired
            } else if stale {
                &mut leaves.stale
            } else {
                &mut *out
            };
            state.queue.serve(turn, count, |lane| lane.take(count, to));
        }
    }

    /// Serves one element, if it has no more than so many bytes or is the first. Its class may have to
    /// be judged by how long it waited. False if there is none.
    fn serve_one(
        state: &mut State<T>,
        now: Time,
        served_by: Time,
        left: &mut u64,
        out: &mut Chunk<T>,
        leaves: &mut Leaves<T>,
    ) -> bool {
        if *left != u64::MAX && !out.is_empty() {
            let next = state.queue.peek(now);
            if next.is_none_or(|next| next.bytes > *left) {
                return false;
            }
        }
        let Some(served) = state.queue.pop(now) else {
            return false;
        };
        let (offer, element) = (served.entry.offer, served.entry.payload);
        let wait = now.since(offer.since);
        let (stale, _) = state.judge(now, offer.class, wait, 1);
        if element.meta.deadline <= served_by {
            leaves.settle(element, Outcome::Expired);
        } else if stale {
            leaves.settle(element, Outcome::Shed(Reason::QueueDelay));
        } else {
            if *left != u64::MAX {
                *left = left.saturating_sub(offer.bytes);
            }
            out.push(element);
        }
        true
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
        // The next that is put aside is the first again.
        state.aside &= !state.has_none_aside();
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
