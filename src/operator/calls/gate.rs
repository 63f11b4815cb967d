//! The gate before calls: takes in no more elements than may be begun.

use std::task::Poll;

use super::tally::{Ends, Tally};
use crate::chunk::Chunk;
use crate::control::{BreakerHandle, BreakerState, Pass, WhenOpen};
use crate::error::Stop;
use crate::operator::pace::Patience;
use crate::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::outcome::{Outcome, Reason};
use crate::time::Time;

/// Calls that begin under a breaker before it is looked at again: it learns of each before many more.
const UNREPORTED: usize = 8;
/// Elements that are asked for at once while the breaker refuses them.
const REFUSED: usize = 64;

pub(crate) struct CallGate<T> {
    input: Input<T>,
    tally: Tally,
    /// The workers that the admission was told of.
    workers: usize,
    ends: Ends,
}

/// What the breaker says to the next calls.
#[derive(Clone, Copy)]
enum Permits {
    /// There is none.
    Free,
    /// All calls may begin; they are counted when they do.
    All(Pass),
    /// So many are let through, and counted.
    Some(Pass, usize),
    /// It is tried: the element comes first, then its permit. A permit that is held while none comes
    /// would have what stands before this stage send all another way, and none to be tried with.
    OneByOne,
    /// The elements are shed.
    Reject,
    /// No element is asked for.
    Pause,
}

impl<T> CallGate<T> {
    pub(crate) fn new(input: Input<T>, tally: Tally) -> CallGate<T> {
        CallGate {
            input,
            tally,
            workers: 0,
            ends: Ends::default(),
        }
    }

    /// Tells what was seen of calls, and gives back the places of those that ended.
    fn settle_up(&mut self, cx: &Context<'_, '_>) -> Time {
        let now = self.tally.tell(cx, &mut self.ends, true).now;
        if let Some(admission) = self.tally.admission() {
            let workers = self.tally.workers();
            admission.workers(self.workers, workers);
            self.workers = workers;
        }
        now
    }

    /// Asks the breaker for so many permits.
    fn permits(&self, cx: &mut Context<'_, '_>, now: Time, want: usize) -> Permits {
        let Some(breaker) = self.tally.breaker() else {
            return Permits::Free;
        };
        if let Some(pass) = breaker.pass(now) {
            return Permits::All(pass);
        }
        let when_open = if self.tally.is_draining() {
            breaker.when_open().while_draining()
        } else {
            breaker.when_open()
        };
        if want == 0 {
            // Calls that hang may take up all room: what comes behind them is shed all the same.
            return match when_open {
                WhenOpen::Reject if breaker.check(now).is_err() => Permits::Reject,
                _ => Permits::Free,
            };
        }
        if when_open == WhenOpen::Reject {
            match breaker.check(now) {
                Err(_) => return Permits::Reject,
                Ok(()) if breaker.state() == BreakerState::HalfOpen => return Permits::OneByOne,
                Ok(()) => {}
            }
        }
        let task = (when_open != WhenOpen::Reject).then(|| cx.task());
        match breaker.grant(task, now, want) {
            Ok((pass, calls)) => Permits::Some(pass, calls),
            Err(_) if when_open == WhenOpen::Reject => Permits::Reject,
            Err(_) => Permits::Pause,
        }
    }

    /// So many elements came: as many calls begin. By what they are let through.
    fn count(&self, permits: Permits, count: usize) -> Option<Pass> {
        let breaker = self.tally.breaker()?;
        match permits {
            Permits::All(pass) if count > 0 => breaker.begin(pass, count),
            Permits::Some(_, calls) if count == calls => {}
            Permits::Some(pass, calls) => breaker.unused(pass, calls.saturating_sub(count)),
            _ => {}
        }
        match permits {
            Permits::All(pass) | Permits::Some(pass, _) => Some(pass),
            _ => None,
        }
    }

    /// Takes one element in and asks for its permit.
    fn try_one(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        now: Time,
    ) -> Result<Fill, Stop> {
        let filled = self.input.fill(cx, out, Demand::items(1))?;
        let Some(breaker) = self.tally.breaker().filter(|_| !out.is_empty()) else {
            return Ok(filled);
        };
        if let Ok((pass, count @ 1..)) = breaker.grant(None, now, 1) {
            self.tally.pass(cx.clock(), Some(pass), count);
            return Ok(filled);
        }
        // Another stage was faster.
        breaker.refuse(out.len());
        cx.settle_chunk(out, Outcome::Shed(Reason::BreakerOpen));
        cx.waker().wake_by_ref();
        Ok(Fill::Pending)
    }

    /// Sheds what comes while the breaker refuses.
    fn refuse(
        &mut self,
        cx: &mut Context<'_, '_>,
        breaker: &BreakerHandle,
        out: &mut Chunk<T>,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, Demand::items(REFUSED))?;
            if !out.is_empty() {
                breaker.refuse(out.len());
                cx.settle_chunk(out, Outcome::Shed(Reason::BreakerOpen));
            }
            if !matches!(fill, Fill::More) {
                return Ok(fill);
            }
            if breaker.check(cx.clock()).is_ok() || patience.is_over(cx) {
                cx.waker().wake_by_ref();
                return Ok(Fill::Pending);
            }
        }
    }

    /// Leases no place: those it has not used, and what it waits for, are for others.
    fn step_aside(&self, cx: &mut Context<'_, '_>, places: usize) {
        self.tally.unlease(places);
        self.tally.lease(cx, 0);
    }
}

impl<T: Send> Operator<T> for CallGate<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let now = self.settle_up(cx);
        let mut most = want.items.min(Chunk::<T>::MAX);
        if self.tally.breaker().is_some() {
            most = most.min(UNREPORTED);
        }
        let places = self.tally.lease(cx, most);
        let permits = self.permits(cx, now, places);
        let room = match permits {
            Permits::Free | Permits::All(_) => places,
            Permits::Some(_, calls) => calls,
            Permits::Pause => {
                self.step_aside(cx, places);
                return self.input.fill(cx, out, Demand::NONE);
            }
            Permits::OneByOne => {
                let filled = self.try_one(cx, out, now);
                self.tally.unlease(places.saturating_sub(out.len()));
                if out.is_empty() {
                    self.tally.lease(cx, 0);
                }
                return filled;
            }
            Permits::Reject => {
                self.step_aside(cx, places);
                return match self.tally.breaker().cloned() {
                    Some(breaker) => self.refuse(cx, &breaker, out),
                    None => Ok(Fill::Pending),
                };
            }
        };
        let filled = self.input.fill(cx, out, want.at_most(room));
        let count = out.len();
        let pass = self.count(permits, count);
        if count > 0 {
            // What upstream took for them is none of their service.
            self.tally.pass(cx.clock(), pass, count);
        }
        self.tally.unlease(places.saturating_sub(count));
        if places > 0 && count == 0 {
            self.tally.lease(cx, 0);
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
