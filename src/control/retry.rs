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

use std::fmt;
use std::time::Duration;

use super::{Adjustment, History, Invalid};
use crate::random::Seeded;
use crate::time::Time;

/// How often and after which delays something is tried again.
///
/// Default: 3 tries, delays from 100 ms, doubled each time, up to 10 s, half of each random, no
/// budget.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    tries: u32,
    first: Duration,
    longest: Duration,
    factor: f64,
    jitter: f64,
    seed: u64,
    budget: Option<Budget>,
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
    share: f64,
    per_second: f64,
    reserve: f64,
    when_spent: WhenSpent,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ms(n: u64) -> Time {
        Time::from_nanos(n * 1_000_000)
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let retry = Retry::tries(9).backoff(10 * MS, 50 * MS).jitter(0.0);
        let mut policy = Retrying::new(&retry, Time::ZERO);
        let delays: Vec<_> = (1..9)
            .map(|tries| policy.on_failure(Time::ZERO, tries))
            .collect();
        let expected = [10, 20, 40, 50, 50, 50, 50, 50].map(|n| Next::At(ms(n)));
        assert_eq!(delays, expected);
        assert_eq!(policy.on_failure(Time::ZERO, 9), Next::GiveUp);
    }

    #[test]
    fn the_same_seed_gives_the_same_delays_and_another_seed_others() {
        let delays = |seed| {
            let retry = Retry::tries(20)
                .backoff(10 * MS, 1000 * MS)
                .jitter(1.0)
                .seed(seed);
            let mut policy = Retrying::new(&retry, Time::ZERO);
            (1..20)
                .map(|tries| policy.on_failure(Time::ZERO, tries))
                .collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    #[test]
    fn a_spent_budget_gives_up_until_calls_or_time_refill_it() {
        let budget = Budget::share(0.5).per_second(1.0).reserve(2.0);
        let retry = Retry::tries(5).backoff(MS, MS).budget(budget);
        let mut policy = Retrying::new(&retry, Time::ZERO);
        let is_again = |next| matches!(next, Next::At(_));
        assert!(is_again(policy.on_failure(Time::ZERO, 1)));
        assert!(is_again(policy.on_failure(Time::ZERO, 1)));
        assert_eq!(policy.on_failure(Time::ZERO, 1), Next::GiveUp);
        policy.on_call();
        assert_eq!(
            policy.on_failure(Time::ZERO, 1),
            Next::GiveUp,
            "half a token is none"
        );
        policy.on_call();
        assert!(
            is_again(policy.on_failure(Time::ZERO, 1)),
            "two calls pay for one retry"
        );
        assert_eq!(policy.on_failure(ms(900), 1), Next::GiveUp);
        assert!(
            is_again(policy.on_failure(ms(1001), 1)),
            "a second pays for one"
        );
        let snapshot = policy.snapshot();
        assert_eq!((snapshot.calls, snapshot.retries), (2, 4));
        assert_eq!((snapshot.over_budget, snapshot.used_up), (3, 0));
        assert!(!snapshot.is_spent && snapshot.tokens < 1.0);
        let spent: Vec<_> = policy.adjustments().last().map(|one| one.to).collect();
        assert_eq!(spent, [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_spent_budget_that_waits_gives_turns_at_its_rate() {
        let budget = Budget::share(0.0)
            .per_second(10.0)
            .reserve(1.0)
            .when_spent(WhenSpent::Wait);
        let retry = Retry::tries(5).backoff(MS, MS).jitter(0.0).budget(budget);
        let mut policy = Retrying::new(&retry, Time::ZERO);
        let turns: Vec<_> = (0..4).map(|_| policy.on_failure(Time::ZERO, 1)).collect();
        assert_eq!(turns, [1, 100, 200, 300].map(|n| Next::At(ms(n))));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let field = |retry: Retry| retry.check().err().map(|invalid| invalid.field);
        let retry = Retry::default();
        assert_eq!(field(retry), None);
        assert_eq!(field(retry.jitter(1.5)), Some("retry jitter"));
        assert_eq!(field(retry.factor(f64::NAN)), Some("retry factor"));
        assert_eq!(
            field(retry.backoff(20 * MS, 10 * MS)),
            Some("retry first delay")
        );
        let of = |budget| field(retry.budget(budget));
        assert_eq!(of(Budget::share(-0.1)), Some("retry budget share"));
        assert_eq!(
            of(Budget::default().reserve(0.5)),
            Some("retry budget reserve")
        );
        let no_rate = Budget::share(0.1).per_second(0.0);
        assert_eq!(of(no_rate), None);
        let waits_forever = no_rate.when_spent(WhenSpent::Wait);
        assert_eq!(of(waits_forever), Some("retry budget per second"));
    }

    proptest! {
        /// No schedule of calls and failures is allowed more retries than the budget gives.
        #[test]
        fn retries_never_exceed_the_budget(
            steps in proptest::collection::vec((0_u64..50, any::<bool>()), 1..300),
            share in 0.0_f64..1.0,
            per_second in 0.0_f64..50.0,
            reserve in 1.0_f64..20.0,
        ) {
            let budget = Budget::share(share).per_second(per_second).reserve(reserve);
            let retry = Retry::tries(u32::MAX).backoff(MS, 10 * MS).budget(budget);
            let mut policy = Retrying::new(&retry, Time::ZERO);
            let (mut now, mut calls, mut retries) = (0, 0.0, 0.0);
            for (pause, is_call) in steps {
                now += pause;
                if is_call {
                    policy.on_call();
                    calls += 1.0;
                } else if let Next::At(at) = policy.on_failure(ms(now), 1) {
                    prop_assert!(at >= ms(now) && at <= ms(now + 10));
                    retries += 1.0;
                }
            }
            let allowed = reserve + calls * share + now as f64 / 1000.0 * per_second;
            prop_assert!(retries <= allowed + 1e-6, "{retries} > {allowed}");
        }

        /// In an outage, where every try fails and every retry is made when it is due, the load
        /// stays within what the budget declares, at any time and whether a spent budget waits or
        /// gives up.
        #[test]
        fn in_a_total_outage_the_load_stays_within_the_declared_factor(
            pauses in proptest::collection::vec(0_u64..20, 1..400),
            share in 0.0_f64..1.0,
            per_second in 0.1_f64..20.0,
            reserve in 1.0_f64..10.0,
            tries in 2_u32..20,
            waits in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let when_spent = if waits { WhenSpent::Wait } else { WhenSpent::GiveUp };
            let budget = Budget::share(share).per_second(per_second).reserve(reserve);
            let retry = Retry::tries(tries).backoff(MS, 100 * MS).seed(seed);
            for (calls, retries, at_s) in outage(retry.budget(budget.when_spent(when_spent)), &pauses) {
                let allowed = reserve + calls * share + at_s * per_second;
                prop_assert!(retries <= allowed + 1e-6, "{retries} > {allowed} at {at_s} s");
            }
        }
    }

    /// Elements come after those pauses (ms), and every try of each fails: the first tries, the
    /// retries and the seconds, after each try.
    fn outage(retry: Retry, pauses: &[u64]) -> Vec<(f64, f64, f64)> {
        let mut policy = Retrying::new(&retry, Time::ZERO);
        let mut due = std::collections::BTreeSet::new();
        let mut now_ms = 0;
        for (element, pause) in pauses.iter().enumerate() {
            now_ms += pause;
            due.insert((ms(now_ms), element, 0_u32));
        }
        let (mut calls, mut retries, mut seen) = (0.0, 0.0, Vec::new());
        while let Some((now, element, tries)) = due.pop_first() {
            if tries == 0 {
                policy.on_call();
                calls += 1.0;
            } else {
                retries += 1.0;
            }
            seen.push((calls, retries, now.as_nanos() as f64 / 1e9));
            if let Next::At(at) = policy.on_failure(now, tries + 1) {
                due.insert((at, element, tries + 1));
            }
        }
        seen
    }

    #[test]
    fn an_outage_is_amplified_by_the_tries_and_with_a_budget_by_its_share() {
        let pauses = vec![1; 5000];
        let factor = |retry| {
            let (calls, retries, _) = outage(retry, &pauses).pop().unwrap();
            (calls + retries) / calls
        };
        let retry = Retry::tries(4).backoff(MS, 100 * MS);
        assert!((factor(retry) - 4.0).abs() < 1e-9, "no budget");
        let with_budget = factor(retry.budget(Budget::default()));
        let declared = 1.0 + 0.2 + (100.0 + 10.0 * 5.2) / 5000.0;
        assert!(with_budget <= declared, "{with_budget} > {declared}");
        assert!(with_budget > 1.2, "the budget is used: {with_budget}");
    }
}
