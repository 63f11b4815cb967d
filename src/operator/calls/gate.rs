//! The gate before calls: takes in no more elements than may be begun.

use std::task::Poll;

use super::tally::Tally;
use crate::chunk::Chunk;
use crate::control::{LimitMember, Permit, WhenOpen};
use crate::error::Stop;
use crate::operator::pace::Patience;
use crate::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::outcome::{Outcome, Reason};
use crate::time::{Sleep, Time, poll_until};

/// Calls that begin under a breaker before it is looked at again: it learns of each before many more.
const UNREPORTED: usize = 8;
/// Elements that are asked for at once while the breaker refuses them.
const REFUSED: usize = 64;

pub(crate) struct CallGate<T> {
    input: Input<T>,
    tally: Tally,
    member: Option<LimitMember>,
    /// The workers that the admission was told of.
    workers: usize,
    timer: Option<Sleep>,
}

/// What the breaker says to the next calls.
enum Permits {
    /// There is none.
    Free,
    Some(Vec<Permit>),
    /// The elements are shed.
    Reject,
    /// No element is asked for.
    Pause,
}

impl<T> CallGate<T> {
    pub(crate) fn new(input: Input<T>, tally: Tally) -> CallGate<T> {
        CallGate {
            member: tally.limit().map(crate::control::LimitHandle::join),
            input,
            tally,
            workers: 0,
            timer: None,
        }
    }

    /// Gives back the places of calls that ended, and tells the limit what was seen of them.
    fn settle_up(&mut self, now: Time) {
        let (freed, sample) = self.tally.take(now);
        if let Some(member) = &mut self.member {
            member.give_back(freed);
            member.on_sample(now, &sample);
        }
        if let Some(admission) = self.tally.admission() {
            let workers = self.tally.workers();
            admission.workers(self.workers, workers);
            self.workers = workers;
        }
    }

    /// Asks the breaker for so many permits.
    fn permits(&self, cx: &mut Context<'_, '_>, now: Time, want: usize) -> Permits {
        let Some(breaker) = self.tally.breaker() else {
            return Permits::Free;
        };
        let mut permits = Vec::new();
        let mut when_open = breaker.when_open();
        if self.tally.is_draining() {
            when_open = when_open.while_draining();
        }
        if want == 0 && when_open == WhenOpen::Reject && breaker.check(now).is_err() {
            // Calls that hang may take up all room: what comes behind them is shed all the same.
            return Permits::Reject;
        }
        while permits.len() < want {
            let permit = match when_open {
                WhenOpen::Reject => breaker.try_acquire(now).ok(),
                // Who has one waits for no other: one that is given back unused would wake it at once.
                _ if !permits.is_empty() && breaker.check(now).is_err() => None,
                _ => match breaker.poll_acquire(cx.task(), now) {
                    Poll::Ready(permit) => Some(permit),
                    Poll::Pending => None,
                },
            };
            match permit {
                Some(permit) => permits.push(permit),
                None if permits.is_empty() && when_open == WhenOpen::Reject => {
                    return Permits::Reject;
                }
                None if permits.is_empty() => return Permits::Pause,
                None => break,
            }
        }
        Permits::Some(permits)
    }

    /// Has the breaker look at what only time changes, and this task woken when it must look again.
    fn watch(&mut self, cx: &mut Context<'_, '_>) {
        let Some(breaker) = self.tally.breaker().cloned() else {
            return;
        };
        while let Some(at) = breaker.deadline() {
            if poll_until(&mut self.timer, at, cx.task()).is_pending() {
                return;
            }
            breaker.tick(cx.clock());
            if breaker.deadline() == Some(at) {
                // It has looked, and will look again at the next call.
                return;
            }
        }
    }

    /// Sheds what comes while the breaker refuses.
    fn refuse(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<T>) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, Demand::items(REFUSED))?;
            if !out.is_empty() {
                cx.settle_chunk(out, Outcome::Shed(Reason::BreakerOpen));
            }
            if !matches!(fill, Fill::More) {
                return Ok(fill);
            }
            let now = cx.clock();
            let refuses = |breaker: &crate::control::BreakerHandle| breaker.check(now).is_err();
            if !self.tally.breaker().is_some_and(refuses) || patience.is_over(cx) {
                cx.waker().wake_by_ref();
                return Ok(Fill::Pending);
            }
        }
    }

    /// Leases places for so many calls. Fewer, or none, where there are not so many.
    fn lease(&mut self, cx: &mut Context<'_, '_>, want: usize) -> usize {
        let Some(member) = &mut self.member else {
            return want;
        };
        if want == 0 {
            member.decline();
            return 0;
        }
        match member.poll_lease(cx.task(), want) {
            Poll::Ready(places) => places,
            Poll::Pending => 0,
        }
    }

    fn unlease(&mut self, places: usize) {
        if let Some(member) = &mut self.member {
            member.give_back(places);
        }
    }
}

impl<T: Send> Operator<T> for CallGate<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let now = cx.clock();
        self.settle_up(now);
        self.watch(cx);
        let mut most = want.items.min(Chunk::<T>::MAX);
        if self.tally.breaker().is_some() {
            most = most.min(UNREPORTED);
        }
        let places = self.lease(cx, most);
        let permits = match self.permits(cx, now, places) {
            Permits::Reject => {
                self.unlease(places);
                self.lease(cx, 0);
                return self.refuse(cx, out);
            }
            Permits::Pause => {
                self.unlease(places);
                self.lease(cx, 0);
                return self.input.fill(cx, out, Demand::NONE);
            }
            Permits::Free => None,
            Permits::Some(permits) => Some(permits),
        };
        let room = permits.as_ref().map_or(places, Vec::len);
        let filled = self.input.fill(cx, out, want.at_most(room));
        let count = out.len();
        if let Some(mut permits) = permits {
            permits.drain(count.min(room)..).for_each(Permit::unused);
            self.tally.pass(permits);
        }
        self.unlease(places.saturating_sub(count));
        if places > 0 && count == 0 {
            self.lease(cx, 0);
        }
        filled
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Drain {
            self.tally.drain();
            // What pauses for the breaker is shed from now on.
            cx.waker().wake_by_ref();
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

impl<T> Drop for CallGate<T> {
    fn drop(&mut self) {
        if let Some(admission) = self.tally.admission() {
            admission.workers(self.workers, 0);
        }
    }
}
