//! `throttle`: so many a second, and so many at once.
//!
//! What passes when is decided by [`Throttle`]; here are the elements, the timer, and the handle by
//! which the rate is changed while stages run.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::intake::{Intake, Took, drop_rewound};
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Queue};
use crate::control::{Adjustment, Invalid, Throttle, ThrottleMode, ThrottleSnapshot, Throttled};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};
use crate::sync::{Mutex, lock};
use crate::time::{self, Sleep, Time, poll_until};

struct Shared {
    throttle: Throttle,
    mode: ThrottleMode,
    /// Who waits, by the number of the stage: a faster rate wakes them.
    waiting: Vec<(u32, Waker)>,
}

/// A rate that any number of flows share, and that can be changed while they run.
///
/// Clones are one rate: what one flow lets pass, another cannot. (An element that costs more than the
/// burst pays in parts; in a shared rate, part of what it paid may serve another flow.)
///
/// # Example
/// ```
/// use forebay::control::ThrottleMode;
/// use forebay::flow::Rate;
/// use forebay::source;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rate = Rate::new(1000.0, 20, ThrottleMode::Shaping)?;
/// let handle = rate.clone();
/// let all = source::iter(0..40).throttle(&rate).collect().block_on()?;
/// assert_eq!(all.len(), 40);
/// assert_eq!(handle.snapshot().passed, 40);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Rate(Arc<Mutex<Shared>>);

impl Rate {
    /// Lets `per_second` of cost pass a second (0.001 to 1e9), `burst` of it at once, full at the
    /// start.
    ///
    /// # Errors
    /// As [`Throttle::new`].
    pub fn new(per_second: f64, burst: u32, mode: ThrottleMode) -> Result<Rate, Invalid> {
        let throttle = Throttle::new(per_second, burst, mode, Time::ZERO)?;
        Ok(Rate(Arc::new(Mutex::new(Shared {
            throttle,
            mode,
            waiting: Vec::new(),
        }))))
    }

    /// What becomes of elements that come too soon.
    #[must_use]
    pub fn mode(&self) -> ThrottleMode {
        lock(&self.0).mode
    }

    /// Changes the rate. What was spent of the burst stays spent; who waits is woken.
    ///
    /// # Errors
    /// As [`Throttle::new`]; the rate stays as it was.
    pub fn set(&self, per_second: f64, because: &'static str) -> Result<(), Invalid> {
        let now = time::now();
        let mut shared = lock(&self.0);
        shared.throttle.set_rate(now, per_second, because)?;
        let waiting = std::mem::take(&mut shared.waiting);
        drop(shared);
        for (_, waker) in waiting {
            waker.wake();
        }
        Ok(())
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> ThrottleSnapshot {
        lock(&self.0).throttle.snapshot(time::now())
    }

    /// Its last changes, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let shared = lock(&self.0);
        shared.throttle.adjustments().last().copied().collect()
    }

    /// May an element of that cost pass now?
    pub(crate) fn ask(&self, now: Time, cost: u32) -> Throttled {
        lock(&self.0).throttle.ask(now, cost)
    }

    /// The element that waits is given up.
    fn forget(&self) {
        lock(&self.0).throttle.forget();
    }

    /// How much may pass at once now.
    fn room(&self, now: Time) -> usize {
        let snapshot = lock(&self.0).throttle.snapshot(now);
        #[allow(clippy::cast_sign_loss)] // no more is missing than the burst
        let room = (f64::from(snapshot.burst) - snapshot.spent).max(0.0) as usize;
        room
    }

    fn register(&self, stage: u32, waker: &Waker) {
        let mut shared = lock(&self.0);
        let known = shared.waiting.iter_mut().find(|(id, _)| *id == stage);
        match known {
            Some((_, known)) => known.clone_from(waker),
            None => shared.waiting.push((stage, waker.clone())),
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rate").field(&self.snapshot()).finish()
    }
}

pub(crate) struct ThrottleStage<T, C> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// Taken in, in order; the first may have been told to wait.
    waiting: Queue<T>,
    rate: Rate,
    cost: C,
    /// That of the first.
    first_cost: Option<u32>,
    timer: Option<Sleep>,
    stop: Option<Stop>,
}

impl<T, C> ThrottleStage<T, C> {
    pub(crate) fn new(input: Input<T>, rate: Rate, cost: C) -> ThrottleStage<T, C> {
        ThrottleStage {
            intake: Intake::new(input),
            buf: Chunk::default(),
            waiting: Queue::default(),
            rate,
            cost,
            first_cost: None,
            timer: None,
            stop: None,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_, '_>, at: Time) -> Poll<()> {
        self.rate.register(cx.stage().id, cx.waker());
        poll_until(&mut self.timer, at, cx.task())
    }

    fn forget(&mut self) {
        if self.first_cost.take().is_some() {
            self.rate.forget();
        }
    }
}

impl<T, C: FnMut(&T) -> u32> ThrottleStage<T, C> {
    /// Lets pass what may. When the first is to be asked for again, if it must wait.
    fn pass(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<T>, want: Demand) -> Option<Time> {
        let now = cx.clock();
        while out.len() < want.items && self.stop.is_none() {
            let cost = match (self.first_cost, self.waiting.front()) {
                (_, None) => return None,
                (Some(cost), _) => cost,
                (None, Some(value)) => match guard(|| (self.cost)(value)) {
                    Ok(cost) => cost,
                    Err(_) => {
                        self.drop_first(cx, Outcome::Failed(Reason::Panicked));
                        continue;
                    }
                },
            };
            match self.rate.ask(now, cost) {
                Throttled::Pass => {
                    self.first_cost = None;
                    self.waiting.move_front(1, out);
                }
                Throttled::Wait(wait) => {
                    self.first_cost = Some(cost);
                    return Some(now + wait);
                }
                Throttled::Divert => self.drop_first(cx, Outcome::Shed(Reason::Throttled)),
                Throttled::Refuse(too_fast) => {
                    self.drop_first(cx, Outcome::Failed(Reason::Throttled));
                    let rest = Outcome::Cancelled(Reason::RunFailed);
                    cx.settle_chunk(&mut self.waiting.take_all(), rest);
                    self.stop = Some(Stop::error(too_fast));
                }
            }
        }
        None
    }

    fn drop_first(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        if let Some(element) = self.waiting.pop() {
            cx.settle(element.meta, outcome);
        }
    }
}

impl<T: Send, C: FnMut(&T) -> u32 + Send> Operator<T> for ThrottleStage<T, C> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let again = self.pass(cx, out, want);
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            if let Some(stop) = self.stop.take() {
                return Err(stop);
            }
            if self.intake.is_due(self.waiting.is_empty()) {
                return self.intake.deliver(out);
            }
            let ask = if want.is_none() || !self.waiting.is_empty() {
                0
            } else {
                self.rate.room(cx.now()).clamp(1, want.items)
            };
            let took = self.intake.fill(cx, &mut self.buf, Demand::items(ask));
            self.waiting.append(&mut self.buf);
            match took {
                Took::Rewound(source) => {
                    self.forget();
                    drop_rewound(cx, &mut self.waiting, source);
                }
                _ if want.is_none() => return Ok(Fill::Pending),
                _ if again.is_some_and(|at| self.poll_timer(cx, at).is_pending()) => {
                    return Ok(Fill::Pending);
                }
                Took::Pending if self.waiting.is_empty() => return Ok(Fill::Pending),
                Took::More if patience.is_over(cx) => return Ok(Fill::Pending),
                _ => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.forget();
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.waiting.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.waiting.len(),
            bytes: self.waiting.bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
