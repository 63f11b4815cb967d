//! How often, after which delays, and how many in all.

use std::fmt;
use std::time::Duration;

use crate::control::Invalid;

/// How often and after which delays something is tried again.
///
/// Default: 3 tries, delays from 100 ms, doubled each time, up to 10 s, half of each random, no
/// budget.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    pub(super) tries: u32,
    pub(super) first: Duration,
    pub(super) longest: Duration,
    pub(super) factor: f64,
    pub(super) jitter: f64,
    pub(super) seed: u64,
    pub(super) budget: Option<Budget>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            tries: 3,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            factor: 2.0,
            jitter: 0.5,
            seed: 0x5eed,
            budget: None,
        }
    }
}

impl Retry {
    /// At most that many tries in all, the first included; 0 counts as 1.
    #[must_use]
    pub fn tries(tries: u32) -> Retry {
        Retry {
            tries: tries.max(1),
            ..Retry::default()
        }
    }

    /// The delay before the second try, and the longest delay there may be.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Retry {
        self.first = first;
        self.longest = longest;
        self
    }

    /// By what each delay is longer than the one before: 1 or more, default 2.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Retry {
        self.factor = factor;
        self
    }

    /// Which share of each delay is random, 0 to 1: a delay of 100 ms with jitter 0.5 is 50 to
    /// 100 ms. Default 0.5.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Retry {
        self.jitter = share;
        self
    }

    /// The seed of the random shares: the same seed gives the same delays.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Retry {
        self.seed = seed;
        self
    }

    /// Bounds the retries of all elements together.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Retry {
        self.budget = Some(budget);
        self
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The setting that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |value: f64, least: f64, most: f64| (least..=most).contains(&value);
        let is_factor = within(self.factor, 1.0, 1e6);
        Invalid::unless(is_factor, "retry factor", self.factor, "1 to 1e6")?;
        let is_share = within(self.jitter, 0.0, 1.0);
        Invalid::unless(is_share, "retry jitter", self.jitter, "0 to 1")?;
        let grows = self.first <= self.longest;
        let first = format!("{:?}", self.first);
        Invalid::unless(grows, "retry first delay", first, "0 to the longest delay")?;
        let Some(budget) = self.budget else {
            return Ok(());
        };
        let is_share = within(budget.share, 0.0, 1e6);
        Invalid::unless(is_share, "retry budget share", budget.share, "0 to 1e6")?;
        let (least, range) = match budget.when_spent {
            WhenSpent::Wait => (1e-3, "0.001 to 1e9, or who waits waits for ever"),
            WhenSpent::GiveUp => (0.0, "0 to 1e9"),
        };
        let is_rate = within(budget.per_second, least, 1e9);
        Invalid::unless(is_rate, "retry budget per second", budget.per_second, range)?;
        let is_reserve = within(budget.reserve, 1.0, 1e12);
        Invalid::unless(
            is_reserve,
            "retry budget reserve",
            budget.reserve,
            "1 to 1e12",
        )
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tries, {:?} to {:?} apart",
            self.tries, self.first, self.longest
        )?;
        match self.budget.map(|budget| budget.when_spent) {
            Some(WhenSpent::Wait) => f.write_str(", a spent budget waits"),
            Some(WhenSpent::GiveUp) => f.write_str(", a spent budget gives up"),
            None => Ok(()),
        }
    }
}

/// How many retries there may be in all: a bucket of tokens, one for each retry.
///
/// Each call that is made puts a share of a token in, and so many come each second besides.
/// Default: 0.2 a call, 10 a second, 100 in reserve, and to give up when none is left.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Budget {
    pub(super) share: f64,
    pub(super) per_second: f64,
    pub(super) reserve: f64,
    pub(super) when_spent: WhenSpent,
}

/// What becomes of an element that may be tried again but for the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenSpent {
    /// It waits for its turn: the stage slows down to what the budget gives a second.
    Wait,
    /// It is given up as if its tries were used up.
    GiveUp,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            share: 0.2,
            per_second: 10.0,
            reserve: 100.0,
            when_spent: WhenSpent::GiveUp,
        }
    }
}

impl Budget {
    /// Retries for each call made: 0.2 allows a fifth more calls than there are elements.
    #[must_use]
    pub fn share(share: f64) -> Budget {
        Budget {
            share,
            ..Budget::default()
        }
    }

    /// Retries a second that are allowed whatever the calls; more than 0 where a spent budget waits.
    #[must_use]
    pub fn per_second(mut self, retries: f64) -> Budget {
        self.per_second = retries;
        self
    }

    /// The most retries that may be saved up, and how many there are at the start; at least 1.
    #[must_use]
    pub fn reserve(mut self, retries: f64) -> Budget {
        self.reserve = retries;
        self
    }

    /// What happens when the budget is spent.
    #[must_use]
    pub fn when_spent(mut self, when_spent: WhenSpent) -> Budget {
        self.when_spent = when_spent;
        self
    }
}
