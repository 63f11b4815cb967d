//! The producer's side of a boundary by class: a sink.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::policy::waiting_bytes;
use super::state::Arrivals;
use super::waiting::{Waiter, Waiting};
use super::{Leaves, Shared, State, WAITING, bytes_of, class_of};
use crate::boundary::bell::Bell;
use crate::chunk::{Chunk, Element};
use crate::class::Class;
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::outlet::Outlet;
use crate::operator::{Context, Control, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};
use crate::sync::{MutexGuard, Ordering, lock};
use crate::time::{Sleep, Time, poll_until};

/// Offers elements to the queue; those that may wait do so here.
pub(crate) struct ClassSink<T> {
    shared: Arc<Shared<T>>,
    waiting: Waiting<T>,
    /// A chunk that is being parted by class: empty between two of them.
    parts: [Chunk<T>; Class::COUNT],
    timer: Option<Sleep>,
    side: Option<Outlet<T>>,
    leaves: Leaves<T>,
    /// What was put aside may have to leave by the side output.
    spills: bool,
    /// Free places are for elements of whatever class and size.
    fills: bool,
    /// Bytes that may wait here.
    waiting_bytes: u64,
    /// The waker that `Link::producer` holds.
    registered: Option<Waker>,
    consumer: Bell,
    /// How far a mark has come: the side output has it.
    marked_side: bool,
    ended: bool,
}

impl<T: Send + 'static> ClassSink<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, side: Option<Outlet<T>>) -> ClassSink<T> {
        let state = lock(&shared.state);
        let spills = side.is_some() && state.deferral.is_some();
        let fills = state.queue.settings().fits_any();
        let waiting_bytes = waiting_bytes(state.queue.settings());
        drop(state);
        ClassSink {
            shared,
            waiting: Waiting::default(),
            parts: std::array::from_fn(|_| Chunk::default()),
            timer: None,
            side,
            leaves: Leaves::default(),
            spills,
            fills,
            waiting_bytes,
            registered: None,
            consumer: Bell::default(),
            marked_side: false,
            ended: false,
        }
    }

    /// Lets go of the lock and does what was decided under it.
    fn release(
        shared: &Shared<T>,
        mut state: MutexGuard<'_, State<T>>,
        consumer: &mut Bell,
        waiting: Held,
    ) {
        state.waiting = waiting;
        shared.publish(&state);
        let serves = !state.queue.is_empty() || !state.marks.is_empty();
        let waits = serves && consumer.is_waited_at(&mut state.link.consumer);
        // The first that is put aside: the consumer has to set its timer, whether it asks or not.
        let aside = state
            .deferral
            .as_ref()
            .is_some_and(|aside| !aside.is_empty());
        // Marks are taken by a consumer that has no demand, too.
        let wakes = waits || (aside && !state.aside) || !state.marks.is_empty();
        state.aside = aside;
        if wakes {
            consumer.follow(&state.link.consumer);
        }
        drop(state);
        if wakes {
            consumer.ring();
        }
    }

    /// Offers those that wait once more. Those whose time is up leave.
    fn retry(&mut self, cx: &mut Context<'_, '_>) {
        if self.waiting.is_empty() {
            return;
        }
        let now = cx.clock();
        let mut state = lock(&self.shared.state);
        if state.link.cancelled {
            return;
        }
        let leaves = &mut self.leaves;
        self.waiting.retry(|waiter| {
            let since = waiter.since;
            let left = state.offer(now, since, waiter.element, leaves);
            left.map(|(element, until)| Waiter {
                element,
                since,
                until,
            })
        });
        if !self.waiting.is_empty() {
            state.link.producer.wait(cx.waker());
        }
        let outside = self.outside();
        Self::release(&self.shared, state, &mut self.consumer, outside);
        self.leaves.settle_all(cx);
        self.set_timer(cx);
    }

    /// What waits here, for room or for the side output.
    fn outside(&self) -> Held {
        let diverted: u64 = self.leaves.diverted.iter().map(bytes_of).sum();
        let waiting = self.waiting.held();
        Held {
            items: waiting.items + self.leaves.diverted.len(),
            bytes: waiting.bytes + diverted,
        }
    }

    /// Offers the elements of a chunk one by one. Nobody passes those of its class that wait.
    fn offer_each(
        state: &mut State<T>,
        now: Time,
        chunk: &mut Chunk<T>,
        waiting: &mut Waiting<T>,
        leaves: &mut Leaves<T>,
    ) {
        for element in chunk.drain() {
            let class = class_of(&element);
            let left = match state.queue.settings().longest_wait(class) {
                Some(longest) if waiting.holds(class) => Some((element, now + longest)),
                _ => state.offer(now, now, element, leaves),
            };
            if let Some((element, until)) = left {
                waiting.push(Waiter {
                    element,
                    since: now,
                    until,
                });
            }
        }
    }

    /// Is woken when the first of those that wait has waited enough.
    fn set_timer(&mut self, cx: &mut Context<'_, '_>) {
        let first = self.waiting.first_until();
        let Some(first) = first.filter(|at| *at != Time::MAX) else {
            self.timer = None;
            return;
        };
        if poll_until(&mut self.timer, first, cx.task()).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Hands diverted elements to the side output. True if none is left.
    fn poll_side(&mut self, cx: &mut Context<'_, '_>) -> Result<bool, Stop> {
        if self.spills {
            let mut state = lock(&self.shared.state);
            self.leaves.diverted.append(&mut state.spilled);
            state.waiting = self.outside();
        }
        if self.leaves.diverted.is_empty() {
            return Ok(true);
        }
        let free = self.divert(cx)?;
        let mut state = lock(&self.shared.state);
        state.waiting = self.outside();
        self.shared.publish(&state);
        Ok(free)
    }

    fn divert(&mut self, cx: &mut Context<'_, '_>) -> Result<bool, Stop> {
        let Some(side) = &mut self.side else {
            return Ok(true);
        };
        while !self.leaves.diverted.is_empty() {
            let room = match side.poll_ready(cx)? {
                Poll::Pending => return Ok(false),
                // A branch that has ended settles what comes.
                Poll::Ready(None) => usize::MAX,
                Poll::Ready(Some(demand)) => demand.items,
            };
            let some = room.min(self.leaves.diverted.len());
            let mut part = Chunk::default();
            for element in self.leaves.diverted.drain(..some) {
                part.push(element);
            }
            side.accept(cx, &mut part);
        }
        Ok(true)
    }

    /// Ready when nothing waits here and nothing is in the queue: a mark comes behind all of it.
    fn poll_drained(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.retry(cx);
        if !self.poll_side(cx)? || !self.waiting.is_empty() {
            return Poll::Pending;
        }
        let mut state = lock(&self.shared.state);
        if state.is_empty() || state.link.cancelled {
            return Poll::Ready(Ok(()));
        }
        if let Some(deferral) = &mut state.deferral {
            deferral.drain();
        }
        state.link.producer.wait(cx.waker());
        let waits = self.consumer.is_waited_at(&mut state.link.consumer);
        drop(state);
        if waits {
            self.consumer.ring();
        }
        Poll::Pending
    }

    /// Has all that was put aside offered again. True when there is none left.
    fn poll_nothing_aside(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let mut state = lock(&self.shared.state);
        if state.has_none_aside() && state.spilled.is_empty() {
            return true;
        }
        if let Some(deferral) = &mut state.deferral {
            deferral.drain();
        }
        state.link.producer.wait(cx.waker());
        self.consumer.follow(&state.link.consumer);
        drop(state);
        self.consumer.ring();
        false
    }

    fn end(&mut self, stop: Option<Stop>) {
        self.ended = true;
        let mut state = lock(&self.shared.state);
        state.link.end(stop);
        if let Some(deferral) = &mut state.deferral {
            deferral.drain();
        }
        state.waiting = Held::NONE;
        self.shared.publish(&state);
        let waits = self.consumer.is_waited_at(&mut state.link.consumer);
        drop(state);
        if waits {
            self.consumer.ring();
        }
    }

    /// Settles what waits here.
    fn give_up(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        self.waiting
            .remove(|_| true, |element| cx.settle(element.meta, outcome));
        for element in self.leaves.diverted.drain(..) {
            cx.settle(element.meta, outcome);
        }
    }
}

impl<T: Send + 'static> Sink<T> for ClassSink<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.retry(cx);
        let side_is_free = self.poll_side(cx)?;
        let known = self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known || self.shared.attention.load(Ordering::Acquire) {
            let mut state = lock(&self.shared.state);
            if state.link.cancelled {
                let outcome = {
                    let reason = state.link.cancelled_for;
                    state.waiting = Held::NONE;
                    self.shared.publish(&state);
                    drop(state);
                    cx.cancelling(reason, |cx| cx.leftover())
                };
                self.give_up(cx, outcome);
                return Poll::Ready(Ok(None));
            }
            if !known {
                state.link.producer.register(cx.waker());
                self.registered = Some(cx.waker().clone());
            }
        }
        if !side_is_free {
            return Poll::Pending;
        }
        let waiting = self.waiting.held();
        if waiting.items >= WAITING || waiting.bytes >= self.waiting_bytes {
            return Poll::Pending;
        }
        let ahead = Demand {
            items: WAITING - waiting.items,
            bytes: self.waiting_bytes - waiting.bytes,
        };
        let demand = match self.fills {
            _ if waiting.items > 0 => ahead,
            true => {
                let free = self.shared.free.load(Ordering::Relaxed) as usize;
                Demand::items(free.max(ahead.items))
            }
            // Where sizes count, what is free is known behind the lock alone.
            false if ahead.bytes < u64::MAX => {
                let state = lock(&self.shared.state);
                let most = state.queue.settings().max_bytes();
                let free = most.saturating_sub(state.queue.bytes());
                Demand {
                    bytes: free.max(ahead.bytes),
                    ..ahead
                }
            }
            false => ahead,
        };
        Poll::Ready(Ok(Some(demand)))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let now = cx.clock();
        // Where all will come in, they are parted before the lock is taken: the consumer needs it.
        let arrivals = Arrivals::of(chunk);
        let free = self.shared.free.load(Ordering::Relaxed) as usize;
        if self.waiting.is_empty() && arrivals.fit_in(free) {
            chunk.scatter(&mut self.parts);
        }
        let mut state = lock(&self.shared.state);
        if state.link.cancelled {
            let reason = state.link.cancelled_for;
            drop(state);
            let outcome = cx.cancelling(reason, |cx| cx.leftover());
            for part in self.parts.iter_mut().chain([chunk]) {
                cx.settle_chunk(part, outcome);
            }
            return;
        }
        self.shared.look(&mut state, now);
        if self.waiting.is_empty() && state.takes_all(now, &arrivals) {
            if !chunk.is_empty() {
                chunk.scatter(&mut self.parts);
            }
            state.take_all(now, &arrivals, &mut self.parts);
        } else {
            let (waiting, leaves) = (&mut self.waiting, &mut self.leaves);
            for part in self.parts.iter_mut().chain([chunk]) {
                Self::offer_each(&mut state, now, part, waiting, leaves);
            }
        }
        let outside = self.outside();
        Self::release(&self.shared, state, &mut self.consumer, outside);
        self.leaves.settle_all(cx);
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Rewind(source, _) = mark {
            let outcome = Outcome::Cancelled(Reason::Rewound);
            let mut state = lock(&self.shared.state);
            state.remove(Some(*source), outcome, &mut self.leaves);
            let gone = |element: &Element<T>| element.meta.receipt.is_of(*source);
            let leaves = &mut self.leaves;
            self.waiting
                .remove(gone, |element| leaves.settle(element, outcome));
            let diverted = std::mem::take(&mut self.leaves.diverted);
            for element in diverted {
                if gone(&element) {
                    self.leaves.settle(element, outcome);
                } else {
                    self.leaves.diverted.push(element);
                }
            }
            state.marks.push(mark.clone());
            let outside = self.outside();
            Self::release(&self.shared, state, &mut self.consumer, outside);
            self.leaves.settle_all(cx);
        } else {
            std::task::ready!(self.poll_drained(cx))?;
            let mut state = lock(&self.shared.state);
            if !self.marked_side {
                state.marks.push(mark.clone());
            }
            Self::release(&self.shared, state, &mut self.consumer, Held::NONE);
        }
        self.marked_side = true;
        if let Some(side) = &mut self.side {
            std::task::ready!(side.mark(cx, mark))?;
        }
        self.marked_side = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.retry(cx);
        let (cancelled, why) = {
            let state = lock(&self.shared.state);
            (state.link.cancelled, state.link.cancelled_for)
        };
        if cancelled {
            let outcome = cx.cancelling(why, |cx| cx.leftover());
            self.give_up(cx, outcome);
        }
        if !self.poll_side(cx)? || !self.waiting.is_empty() {
            return Poll::Pending;
        }
        // What was put aside is offered once more, and may have to leave by the side output.
        if self.spills && !cancelled && !self.poll_nothing_aside(cx) {
            return Poll::Pending;
        }
        if let Some(side) = &mut self.side {
            std::task::ready!(side.poll_close(cx))?;
        }
        self.end(None);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        let outcome = cx.leftover();
        self.give_up(cx, outcome);
        if let Some(side) = &mut self.side {
            side.abandon(cx, stop);
        }
        self.end(Some(stop.cloned().unwrap_or(Stop::cause(Cause::Broken))));
    }

    fn cancelled_for(&self) -> Option<Reason> {
        lock(&self.shared.state).link.cancelled_for
    }

    fn take_control(&mut self) -> Option<Control> {
        if let Some(control) = self.side.as_mut().and_then(Outlet::take_control) {
            return Some(control);
        }
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

impl<T> Drop for ClassSink<T> {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = lock(&self.shared.state);
            state.link.end(Some(Stop::cause(Cause::Broken)));
            let waits = self.consumer.is_waited_at(&mut state.link.consumer);
            drop(state);
            if waits {
                self.consumer.ring();
            }
        }
    }
}
