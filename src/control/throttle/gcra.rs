//! governor's rate limiter, driven by a `now` that is an argument and a state that can be read.
//!
//! All times inside are ticks since `origin`: nanoseconds times `2^shift`.

#![allow(clippy::cast_sign_loss)] // intervals and shares of them are not negative

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::control::Invalid;
use crate::time::Time;

/// An interval has at least that many ticks: the rate is right to half of one part in it.
const FINE: f64 = (1_u64 << 20) as f64;
/// Ticks go up to here before the origin is moved.
const FAR: u64 = 1 << 61;

const RATE: &str = "0.001 to 1e9 a second";
const BURST: &str = "1 to 4294967295, refilled within 73 years";

/// A number that the limiter and its owner share: the time now, or the theoretical arrival time.
#[derive(Clone, Debug, Default)]
struct Ticks(Arc<AtomicU64>);

impl Ticks {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, ticks: u64) {
        self.0.store(ticks, Ordering::Relaxed);
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.get())
    }
}

/// The owner has the limiter for itself: a load and a store are enough.
impl StateStore for Ticks {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (decision, next) = decide(Some(Nanos::from(self.get())))?;
        self.set(next.as_u64());
        Ok(decision)
    }
}

#[derive(Debug)]
pub(super) struct Gcra {
    limiter: RateLimiter<NotKeyed, Ticks, Ticks, NoOpMiddleware<Nanos>>,
    clock: Ticks,
    /// Until when tokens are missing.
    arrival: Ticks,
    rate_per_s: f64,
    burst: NonZeroU32,
    /// Ticks between two tokens.
    interval: u64,
    shift: u32,
    origin: Time,
}

impl Gcra {
    pub(super) fn new(rate_per_s: f64, burst: u32, now: Time) -> Result<Gcra, Invalid> {
        let in_range = (1e-3..=1e9).contains(&rate_per_s);
        Invalid::unless(in_range, "rate_per_s", rate_per_s, RATE)?;
        let tokens = NonZeroU32::new(burst).ok_or_else(|| Invalid::new("burst", burst, BURST))?;
        let exact = 1e9 / rate_per_s;
        let shift = (FINE / exact).log2().ceil().max(0.0) as u32;
        let interval = (exact * f64::from(1_u32 << shift)).round() as u64;
        let refill = interval.checked_mul(u64::from(burst));
        let refills = refill.is_some_and(|ticks| ticks < FAR);
        Invalid::unless(refills, "burst", burst, BURST)?;
        let quota = Quota::with_period(Duration::from_nanos(interval))
            .ok_or_else(|| Invalid::new("rate_per_s", rate_per_s, RATE))?
            .allow_burst(tokens);
        let (clock, arrival) = (Ticks::default(), Ticks::default());
        Ok(Gcra {
            limiter: RateLimiter::new(quota, arrival.clone(), clock.clone()),
            clock,
            arrival,
            rate_per_s,
            burst: tokens,
            interval,
            shift,
            origin: now,
        })
    }

    pub(super) fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// Ticks from the origin to then. Saturates past [`FAR`], where the origin is moved.
    fn ticks(&self, now: Time) -> u64 {
        let ns = now.since(self.origin).as_nanos();
        u64::try_from(ns << self.shift).unwrap_or(u64::MAX)
    }

    /// Ticks until no token is missing.
    fn missing(&self, now: Time) -> u64 {
        self.arrival.get().saturating_sub(self.ticks(now))
    }

    /// Tokens that are missing.
    pub(super) fn spent(&self, now: Time) -> f64 {
        self.missing(now) as f64 / self.interval as f64
    }

    /// Pays that cost, or tells after how long it could be paid. More than the burst never can; that
    /// is the caller's to see.
    pub(super) fn take(&mut self, now: Time, cost: u32) -> Result<(), Duration> {
        let Some(cost) = NonZeroU32::new(cost) else {
            return Ok(());
        };
        let mut ticks = self.ticks(now);
        if ticks > FAR {
            self.arrival.set(self.missing(now));
            self.origin = now;
            ticks = 0;
        }
        self.clock.set(ticks);
        match self.limiter.check_n(cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => {
                let wait = later.wait_time_from(Nanos::from(ticks)).as_nanos() as u64;
                Err(Duration::from_nanos(wait.div_ceil(1 << self.shift)))
            }
            Err(_more_than_the_burst) => Err(Duration::MAX),
        }
    }

    /// Another rate and burst; as many tokens are missing as before.
    pub(super) fn change(&mut self, now: Time, rate_per_s: f64, burst: u32) -> Result<(), Invalid> {
        let spent = self.spent(now);
        let next = Gcra::new(rate_per_s, burst, now)?;
        let missing = spent.min(f64::from(burst)) * next.interval as f64;
        next.arrival.set(missing.round() as u64);
        *self = next;
        Ok(())
    }
}
