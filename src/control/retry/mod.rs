//! Whether and when to try again.
//!
//! [`Retry`] is the declaration, [`Retrying`] its state machine. Delays grow exponentially up to a
//! longest one, and a random share of each is left out, so that callers who failed together do not
//! come back together. A [`Budget`] bounds all retries of a stage, whatever each element is allowed:
//! a share of the calls made, and so many a second besides, as in Finagle's and tower's.
//!
//! Tries alone do not protect a service that is down: each element is then called as often as it may
//! be. With a budget, calls and retries together stay within `1 + share` times the calls, but for the
//! reserve and what comes each second, however long everything fails.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::{Next, Retry, Retrying};
//! use forebay::time::Time;
//!
//! let retry = Retry::tries(3).backoff(Duration::from_millis(10), Duration::from_secs(1)).jitter(0.0);
//! let mut policy = Retrying::new(&retry, Time::ZERO);
//! assert_eq!(policy.on_failure(Time::ZERO, 1), Next::At(Time::from_nanos(10_000_000)));
//! assert_eq!(policy.on_failure(Time::ZERO, 2), Next::At(Time::from_nanos(20_000_000)));
//! assert_eq!(policy.on_failure(Time::ZERO, 3), Next::GiveUp);
//! ```

mod settings;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use settings::{Budget, Retry, WhenSpent};

use super::{Adjustment, History};
use crate::random::Seeded;
use crate::time::Time;

/// What follows a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Try again then.
    At(Time),
    /// The tries or the budget are used up.
    GiveUp,
}

/// How the retries of a stage stand.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RetrySnapshot {
    /// First tries.
    pub calls: u64,
    /// Tries again.
    pub retries: u64,
    /// Elements whose tries were used up.
    pub used_up: u64,
    /// Elements that could have been tried again but for the budget.
    pub over_budget: u64,
    /// The tokens of the budget; negative by what waits, 0 without a budget.
    pub tokens: f64,
    /// The last that asked the budget found no token in it.
    pub is_spent: bool,
}

/// The state of a [`Retry`]: its random numbers and its budget.
#[derive(Clone, Debug)]
pub struct Retrying {
    retry: Retry,
    random: Seeded,
    refilled: Time,
    /// Its tokens are negative when waiting elements have some promised.
    seen: RetrySnapshot,
    history: History,
}

impl Retrying {
    /// Starts with a full budget.
    #[must_use]
    pub fn new(retry: &Retry, now: Time) -> Retrying {
        Retrying {
            retry: *retry,
            random: Seeded::new(retry.seed),
            refilled: now,
            seen: RetrySnapshot {
                tokens: retry.budget.map_or(0.0, |budget| budget.reserve),
                ..RetrySnapshot::default()
            },
            history: History::default(),
        }
    }

    /// An element is tried for the first time.
    pub fn on_call(&mut self) {
        self.seen.calls += 1;
        if let Some(budget) = self.retry.budget {
            self.seen.tokens = (self.seen.tokens + budget.share).min(budget.reserve);
        }
    }

    /// An element failed, and was tried that many times by now.
    pub fn on_failure(&mut self, now: Time, tries: u32) -> Next {
        if tries >= self.retry.tries {
            self.seen.used_up += 1;
            return Next::GiveUp;
        }
        let delay = self.delay(tries);
        let wait = match self.retry.budget {
            None => Duration::ZERO,
            Some(budget) => match self.spend(now, &budget) {
                Some(wait) => wait,
                None => return Next::GiveUp,
            },
        };
        self.seen.retries += 1;
        Next::At(now + delay.max(wait))
    }

    /// Takes a token: how long until there is one, or `None` if the element is given up.
    fn spend(&mut self, now: Time, budget: &Budget) -> Option<Duration> {
        let past_s = now.since(self.refilled).as_secs_f64();
        self.refilled = self.refilled.max(now);
        let tokens = (self.seen.tokens + past_s * budget.per_second).min(budget.reserve);
        self.seen.tokens = tokens;
        self.note(now, tokens < 1.0);
        if tokens < 1.0 && budget.when_spent == WhenSpent::GiveUp {
            self.seen.over_budget += 1;
            return None;
        }
        self.seen.tokens -= 1.0;
        let wait_s = (-self.seen.tokens).max(0.0) / budget.per_second.max(1e-3);
        Some(Duration::from_secs_f64(wait_s.min(1e9)))
    }

    fn note(&mut self, now: Time, is_spent: bool) {
        self.history.add(Adjustment {
            at: now,
            what: "budget_is_spent",
            from: f64::from(u8::from(self.seen.is_spent)),
            to: f64::from(u8::from(is_spent)),
            because: if is_spent {
                "retries came faster than calls and time paid for them"
            } else {
                "calls and time have paid for a retry"
            },
        });
        self.seen.is_spent = is_spent;
    }

    /// The tokens left; negative by what waits.
    #[must_use]
    pub fn tokens(&self) -> f64 {
        self.seen.tokens
    }

    /// When the budget was spent, and when it was not any more.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> RetrySnapshot {
        self.seen
    }

    /// The delay after so many tries: exponential, with its random share.
    fn delay(&mut self, tries: u32) -> Duration {
        let power = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.retry.longest.as_secs_f64();
        let full = (self.retry.first.as_secs_f64() * self.retry.factor.powi(power)).min(longest);
        let random = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64((full * (1.0 - self.retry.jitter * random)).clamp(0.0, 1e9))
    }
}
