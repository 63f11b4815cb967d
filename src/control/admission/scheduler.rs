//! Which class is served next: strictly the highest, but for a declared share of turns that lower
//! classes get by how long they wait.

use std::time::Duration;

use crate::class::Class;
use crate::control::Invalid;
use crate::time::Time;

/// A turn, in millionths: shares add up exactly.
const WHOLE: u32 = 1_000_000;

/// How classes take turns.
///
/// Default: 5 % of the turns may go to a lower class, which must have waited 4 times as long as the
/// class above it for each step between the two, and 1 ms at least.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Aging {
    share: f64,
    step: f64,
    least_wait: Duration,
}

impl Default for Aging {
    fn default() -> Aging {
        Aging {
            share: 0.05,
            step: 4.0,
            least_wait: Duration::from_millis(1),
        }
    }
}

impl Aging {
    /// Strict order: a lower class is served only when nothing of a higher one waits, and starves
    /// as long as that lasts.
    #[must_use]
    pub fn none() -> Aging {
        Aging::share(0.0)
    }

    /// At most that share of the turns goes to a class while a higher one waits: 0 to 0.5. It is
    /// what lower classes are sure to get, and the most that higher ones can lose to them.
    #[must_use]
    pub fn share(share: f64) -> Aging {
        Aging {
            share,
            ..Aging::default()
        }
    }

    /// How many times longer than a class above it an element must have waited to overtake, for each
    /// step between the classes: 1 to 1000, default 4. (A class's weight is `step` to the power of
    /// minus its number; the greatest product of weight and wait is granted.)
    #[must_use]
    pub fn step(mut self, times: f64) -> Aging {
        self.step = times;
        self
    }

    /// No element overtakes before it has waited that long. Default 1 ms.
    #[must_use]
    pub fn least_wait(mut self, wait: Duration) -> Aging {
        self.least_wait = wait;
        self
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The setting that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let in_range = (0.0..=0.5).contains(&self.share);
        Invalid::unless(in_range, "aging share", self.share, "0 to 0.5")?;
        let in_range = (1.0..=1000.0).contains(&self.step);
        Invalid::unless(in_range, "aging step", self.step, "1 to 1000")
    }
}

/// Which class is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// It.
    pub class: Class,
    /// A higher class waits: the turn was granted for the wait.
    pub aged: bool,
}

/// Chooses the class that is served next.
///
/// # Invariants
/// - While nothing is granted, no class is served before a higher one that waits.
/// - Of any `n` turns in a row at most `share * n + 1` are granted.
/// - Nothing starves while `share > 0`: what waits longer and longer gets the next grant in the end.
///
/// # Example
/// ```
/// use forebay::class::Class;
/// use forebay::control::{Aging, Scheduler};
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let mut scheduler = Scheduler::new(Aging::none())?;
/// let waiting = 1 << Class::HIGH.index() | 1 << Class::LOW.index();
/// let turn = scheduler.next(Time::from_nanos(9), waiting, |_class| Time::ZERO);
/// assert_eq!(turn.map(|turn| turn.class), Some(Class::HIGH));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Scheduler {
    aging: Aging,
    weights: [f64; Class::COUNT],
    /// Millionths of a turn that each turn adds to the credit.
    share: u32,
    /// Turns that may be granted, in millionths: at most one, so that grants never come in a row.
    credit: u32,
    turns: u64,
    grants: [u64; Class::COUNT],
}

impl Scheduler {
    /// Has no grant to give at the start.
    ///
    /// # Errors
    /// As [`Aging::check`].
    #[allow(clippy::cast_sign_loss)] // the share was checked
    pub fn new(aging: Aging) -> Result<Scheduler, Invalid> {
        aging.check()?;
        let mut weights = [1.0; Class::COUNT];
        for at in 1..Class::COUNT {
            weights[at] = weights[at - 1] / aging.step;
        }
        Ok(Scheduler {
            aging,
            weights,
            share: (aging.share * f64::from(WHOLE)).round() as u32,
            credit: 0,
            turns: 0,
            grants: [0; Class::COUNT],
        })
    }

    /// The class that is served next, and its turn is taken. Bit `n` of `waiting` is set if something
    /// of class `n` waits; `since` says since when the longest waiting of such a class does, and is
    /// asked only when a turn may be granted.
    pub fn next(&mut self, now: Time, waiting: u8, since: impl Fn(Class) -> Time) -> Option<Turn> {
        let turn = self.peek(now, waiting, since)?;
        self.take(turn, 1);
        Some(turn)
    }

    /// So many turns like that one are taken.
    pub(crate) fn take(&mut self, turn: Turn, count: usize) {
        self.turns += count as u64;
        let more = u64::from(self.share).saturating_mul(count as u64);
        let credit = u64::from(self.credit).saturating_add(more);
        self.credit = credit.min(u64::from(WHOLE)) as u32;
        if turn.aged {
            self.credit -= WHOLE;
            self.grants[turn.class.index()] += 1;
        }
    }

    /// The class that would be served next; no turn is taken.
    #[must_use]
    pub fn peek(&self, now: Time, waiting: u8, since: impl Fn(Class) -> Time) -> Option<Turn> {
        self.peek_run(now, waiting, 1, since).map(|(turn, _)| turn)
    }

    /// The class that would be served next, and how many turns in a row it would have, up to so many,
    /// as long as its longest waiting element waits since the same time.
    pub(crate) fn peek_run(
        &self,
        now: Time,
        waiting: u8,
        most: usize,
        since: impl Fn(Class) -> Time,
    ) -> Option<(Turn, usize)> {
        let first = Class::new(waiting.trailing_zeros() as u8)?;
        let ungranted = Turn {
            class: first,
            aged: false,
        };
        if waiting.is_power_of_two() || self.share == 0 {
            return Some((ungranted, most));
        }
        // Turns until there is credit for a grant.
        let before = (WHOLE - self.credit).div_ceil(self.share).saturating_sub(1) as usize;
        if before > 0 {
            return Some((ungranted, most.min(before)));
        }
        let class = self.longest(now, first, waiting, since);
        let aged = class != first;
        Some((Turn { class, aged }, if aged { 1 } else { most }))
    }

    /// The class with the greatest weight times wait, or the first.
    fn longest(
        &self,
        now: Time,
        first: Class,
        waiting: u8,
        since: impl Fn(Class) -> Time,
    ) -> Class {
        let mut best = (first, 0.0);
        let classes = (0..Class::COUNT as u8).filter(|at| waiting & 1 << at != 0);
        for class in classes.filter_map(Class::new) {
            let wait = now.since(since(class));
            let score = wait.as_secs_f64() * self.weights[class.index()];
            let has_waited = class == first || wait >= self.aging.least_wait;
            if has_waited && score > best.1 {
                best = (class, score);
            }
        }
        best.0
    }

    /// Turns taken.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Turns granted to each class while a higher one waited.
    #[must_use]
    pub fn grants(&self) -> [u64; Class::COUNT] {
        self.grants
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// The next turn, where each class waits since then or not at all.
    fn next(
        scheduler: &mut Scheduler,
        now: Time,
        since: &[Option<Time>; Class::COUNT],
    ) -> Option<Turn> {
        let classes = since
            .iter()
            .enumerate()
            .filter(|(_, since)| since.is_some());
        let waiting = classes.fold(0, |bits, (class, _)| bits | 1_u8 << class);
        scheduler.next(now, waiting, |class| since[class.index()].unwrap())
    }

    fn waits(of: &[(Class, u64)]) -> [Option<Time>; Class::COUNT] {
        let mut since = [None; Class::COUNT];
        for (class, ms) in of {
            since[class.index()] = Some(at(*ms));
        }
        since
    }

    #[test]
    fn without_aging_the_highest_that_waits_is_always_next() {
        let mut scheduler = Scheduler::new(Aging::none()).unwrap();
        let since = waits(&[(Class::LOW, 0), (Class::MEDIUM, 999)]);
        for _ in 0..1000 {
            let turn = next(&mut scheduler, at(1000), &since).unwrap();
            assert_eq!((turn.class, turn.aged), (Class::MEDIUM, false));
        }
        assert_eq!(next(&mut scheduler, at(0), &waits(&[])), None);
    }

    #[test]
    fn the_declared_share_goes_to_what_waits_longest_by_weight() {
        let mut scheduler = Scheduler::new(Aging::share(0.1)).unwrap();
        // 500 ms / 16 beats 100 ms / 4.
        let since = waits(&[(Class::HIGH, 999), (Class::MEDIUM, 900), (Class::LOW, 500)]);
        for _ in 0..1000 {
            next(&mut scheduler, at(1000), &since).unwrap();
        }
        assert_eq!(scheduler.grants()[Class::LOW.index()], 100);
        assert_eq!(scheduler.grants()[Class::MEDIUM.index()], 0);
        // 200 ms / 4 beats 500 ms / 16.
        let since = waits(&[(Class::HIGH, 999), (Class::MEDIUM, 800), (Class::LOW, 500)]);
        for _ in 0..1000 {
            next(&mut scheduler, at(1000), &since).unwrap();
        }
        assert_eq!(scheduler.grants()[Class::MEDIUM.index()], 100);
    }

    #[test]
    fn nothing_is_granted_to_what_waits_no_longer_than_the_class_above() {
        let mut scheduler = Scheduler::new(Aging::share(0.5)).unwrap();
        let since = waits(&[(Class::HIGH, 0), (Class::LOW, 0)]);
        for _ in 0..100 {
            assert!(!next(&mut scheduler, at(1000), &since).unwrap().aged);
        }
    }

    #[test]
    fn nothing_starves_behind_a_class_that_is_always_there() {
        let mut scheduler = Scheduler::new(Aging::default()).unwrap();
        let mut low_since = Time::ZERO;
        let mut worst = Duration::ZERO;
        for ms in 0..10_000 {
            let mut since = waits(&[(Class::HIGH, ms)]);
            since[Class::LOW.index()] = Some(low_since);
            if next(&mut scheduler, at(ms), &since).unwrap().class == Class::LOW {
                worst = worst.max(at(ms).since(low_since));
                low_since = at(ms);
            }
        }
        assert!(
            worst <= Duration::from_millis(20),
            "one in twenty: {worst:?}"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let field = |aging: Aging| aging.check().err().map(|invalid| invalid.field);
        assert_eq!(field(Aging::share(0.6)), Some("aging share"));
        assert_eq!(field(Aging::share(f64::NAN)), Some("aging share"));
        assert_eq!(field(Aging::default().step(0.5)), Some("aging step"));
        assert_eq!(field(Aging::default()), None);
    }

    proptest! {
        #[test]
        fn grants_never_exceed_their_share_of_any_run_of_turns(
            share in 0.0..0.5_f64,
            waits in proptest::collection::vec(proptest::collection::vec(prop::option::of(0..5000_u64), 3), 1..400),
        ) {
            let mut scheduler = Scheduler::new(Aging::share(share)).unwrap();
            let mut aged: Vec<bool> = Vec::new();
            for wait in &waits {
                let mut since = [None; Class::COUNT];
                for (class, wait) in wait.iter().enumerate() {
                    since[class] = wait.map(|ms| at(5000 - ms));
                }
                let first = since.iter().position(Option::is_some);
                let turn = next(&mut scheduler, at(5000), &since);
                prop_assert_eq!(turn.is_some(), first.is_some());
                if let (Some(turn), Some(first)) = (turn, first) {
                    prop_assert!(since[turn.class.index()].is_some(), "nobody there");
                    prop_assert_eq!(turn.aged, turn.class.index() != first);
                    aged.push(turn.aged);
                }
            }
            for from in 0..aged.len() {
                let mut grants = 0.0;
                for (turns, aged) in aged[from..].iter().enumerate() {
                    grants += f64::from(u8::from(*aged));
                    prop_assert!(grants <= share * (turns + 1) as f64 + 1.0 + 1e-3);
                }
            }
        }
    }
}
