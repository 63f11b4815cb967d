//! So many a second, and so many at once.
//!
//! [`Throttle`] is the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371),
//! taken from the `governor` crate: an element of cost `c` passes while the theoretical arrival time
//! is at most `burst - c` intervals ahead of now, and moves it `c` intervals on. That is a bucket of
//! `burst` tokens, full at the start, into which `rate` tokens a second trickle.
//!
//! What becomes of an element for which there are no tokens is the [`ThrottleMode`]: *shaping* makes
//! it wait, *enforcing* is an error, *diverting* sends it another way.
//!
//! # Why governor, and how
//! Its algorithm takes a cost and a burst and is exact in integers; its clock and its state can be
//! somebody else's, so `now` stays an argument and the state can be read. Two things it cannot do,
//! and they are done here:
//! - Its quota cannot be changed. [`Throttle::set_rate`] makes a new limiter and carries the spent
//!   burst over exactly: as many tokens are missing after the change as before.
//! - Its interval is a whole number of nanoseconds, which is wrong by up to a tenth at a hundred
//!   million a second (bytes). Time is scaled by a power of two, so that an interval has at least
//!   2^20 units and the rate is right to one in a million.
//!
//! # Invariants
//! - Within any span `t` no more cost passes than `burst + rate * t` (one unit of rounding more).
//! - After an idle time of `burst / rate` exactly `burst` passes at once.
//! - A change of the rate neither gives tokens nor takes any: [`Throttle::spent`] stays.
//! - While shaping, what was told to wait so long passes when asked again then, not a nanosecond
//!   later.
//!
//! # What it does not do
//! It does not hold elements, and knows nothing of pressure: who asks holds the one that waits.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::{Throttle, ThrottleMode, Throttled};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let mut throttle = Throttle::new(100.0, 20, ThrottleMode::Shaping, Time::ZERO)?;
//! for _ in 0..20 {
//!     assert_eq!(throttle.ask(Time::ZERO, 1), Throttled::Pass);
//! }
//! let wait = Duration::from_millis(10);
//! assert_eq!(throttle.ask(Time::ZERO, 1), Throttled::Wait(wait));
//! assert_eq!(throttle.ask(Time::ZERO + wait, 1), Throttled::Pass);
//! # Ok(()) }
//! ```

mod gcra;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

use gcra::Gcra;

/// What becomes of an element that comes too soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ThrottleMode {
    /// It waits: the stages before are slowed down to the rate.
    #[default]
    Shaping,
    /// It is an error.
    Enforcing,
    /// It goes another way.
    Diverting,
}

/// What a throttle says to an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Throttled {
    /// It may pass now; its cost is paid.
    Pass,
    /// It waits that long, and is then asked for again. (Shaping.)
    Wait(Duration),
    /// It is too much. (Enforcing.)
    Refuse(TooFast),
    /// It goes the other way. (Diverting.)
    Divert,
}

/// More came than a throttle lets pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TooFast {
    /// Later it would pass.
    #[error("over the rate: passes in {0:?}")]
    For(Duration),
    /// It never passes: it costs more than the whole burst.
    #[error("a cost of {cost} is more than the burst, {burst}")]
    TooDear {
        /// What it costs.
        cost: u32,
        /// How much may pass at once.
        burst: u32,
    },
}

/// How a throttle stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ThrottleSnapshot {
    /// Cost a second.
    pub rate_per_s: f64,
    /// Cost that may pass at once.
    pub burst: u32,
    /// Tokens of the burst that are missing, from 0 to `burst`.
    pub spent: f64,
    /// Elements that passed.
    pub passed: u64,
    /// Elements that were told to wait at least once.
    pub delayed: u64,
    /// Elements that were refused.
    pub refused: u64,
    /// Elements that were diverted.
    pub diverted: u64,
}

/// So many a second, and so many at once.
#[derive(Debug)]
pub struct Throttle {
    gcra: Gcra,
    mode: ThrottleMode,
    /// What the element that waits has paid of its cost.
    paid: u32,
    /// An element was told to wait and has not passed yet.
    waits: bool,
    passed: u64,
    delayed: u64,
    refused: u64,
    diverted: u64,
    history: History,
}

impl Throttle {
    /// Lets `rate_per_s` of cost pass a second, `burst` at once; full at the start.
    ///
    /// # Errors
    /// `rate_per_s` is not within 0.001 to 1e9; `burst` is 0, or takes more than 73 years to refill.
    pub fn new(
        rate_per_s: f64,
        burst: u32,
        mode: ThrottleMode,
        now: Time,
    ) -> Result<Throttle, Invalid> {
        Ok(Throttle {
            gcra: Gcra::new(rate_per_s, burst, now)?,
            mode,
            paid: 0,
            waits: false,
            passed: 0,
            delayed: 0,
            refused: 0,
            diverted: 0,
            history: History::default(),
        })
    }

    /// May an element of that cost pass now? A cost of 0 always may.
    ///
    /// While shaping, an element that was told to wait is the one that is asked for next: elements
    /// keep their order. One that costs more than the burst pays in parts, and passes when all of its
    /// cost has trickled in. (Who gives it up says so by [`Throttle::forget`].)
    pub fn ask(&mut self, now: Time, cost: u32) -> Throttled {
        if self.mode == ThrottleMode::Shaping {
            return self.shape(now, cost);
        }
        let burst = self.gcra.burst();
        let refusal = if cost > burst {
            TooFast::TooDear { cost, burst }
        } else {
            match self.gcra.take(now, cost) {
                Ok(()) => {
                    self.passed += 1;
                    return Throttled::Pass;
                }
                Err(wait) => TooFast::For(wait),
            }
        };
        if self.mode == ThrottleMode::Enforcing {
            self.refused += 1;
            Throttled::Refuse(refusal)
        } else {
            self.diverted += 1;
            Throttled::Divert
        }
    }

    fn shape(&mut self, now: Time, cost: u32) -> Throttled {
        while self.paid < cost {
            let part = (cost - self.paid).min(self.gcra.burst());
            match self.gcra.take(now, part) {
                Ok(()) => self.paid += part,
                Err(wait) => {
                    self.delayed += u64::from(!self.waits);
                    self.waits = true;
                    return Throttled::Wait(wait);
                }
            }
        }
        self.forget();
        self.passed += 1;
        Throttled::Pass
    }

    /// The element that waits is given up. What it paid is spent.
    pub fn forget(&mut self) {
        self.paid = 0;
        self.waits = false;
    }

    /// Changes the rate. Tokens that are missing stay missing: a faster rate only brings them sooner.
    ///
    /// # Errors
    /// As for [`Throttle::new`]; the rate stays as it was.
    pub fn set_rate(
        &mut self,
        now: Time,
        rate_per_s: f64,
        because: &'static str,
    ) -> Result<(), Invalid> {
        let from = self.gcra.rate_per_s();
        self.gcra.change(now, rate_per_s, self.gcra.burst())?;
        self.history.add(Adjustment {
            at: now,
            what: "rate_per_s",
            from,
            to: rate_per_s,
            because,
        });
        Ok(())
    }

    /// Changes the burst. Tokens that are missing stay missing, up to the new burst.
    ///
    /// # Errors
    /// As for [`Throttle::new`]; the burst stays as it was.
    pub fn set_burst(
        &mut self,
        now: Time,
        burst: u32,
        because: &'static str,
    ) -> Result<(), Invalid> {
        let from = f64::from(self.gcra.burst());
        self.gcra.change(now, self.gcra.rate_per_s(), burst)?;
        self.history.add(Adjustment {
            at: now,
            what: "burst",
            from,
            to: f64::from(burst),
            because,
        });
        Ok(())
    }

    /// Changes what becomes of elements that come too soon.
    pub fn set_mode(&mut self, mode: ThrottleMode) {
        self.mode = mode;
        self.forget();
    }

    /// Tokens of the burst that are missing now.
    #[must_use]
    pub fn spent(&self, now: Time) -> f64 {
        self.gcra.spent(now)
    }

    /// Its last changes.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> ThrottleSnapshot {
        ThrottleSnapshot {
            rate_per_s: self.gcra.rate_per_s(),
            burst: self.gcra.burst(),
            spent: self.spent(now),
            passed: self.passed,
            delayed: self.delayed,
            refused: self.refused,
            diverted: self.diverted,
        }
    }
}
