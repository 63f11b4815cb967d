//! What is given up at the moment of service.

use std::time::Duration;

use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

/// How a [`Codel`] stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodelSnapshot {
    /// The least wait of the last interval was over the target.
    pub is_overloaded: bool,
    /// The least wait of this interval so far; `None` before the first element.
    pub least: Option<Duration>,
    /// Elements that were served.
    pub served: u64,
    /// Elements that were given up.
    pub stale: u64,
}

/// Controlled delay as folly's executors do it: while the *least* wait of an interval was over the
/// target, a standing queue exists that serving in order does not shorten; then whatever has waited
/// more than twice the target is given up instead of served.
///
/// The textbook's rule (Nichols and Jacobson, 2012) drops one element after another, faster and
/// faster, and relies on senders that slow down. Producers who do not slow down outrun it: its rate
/// of drops grows by some 50 a second each second. This one (folly `Codel.cpp`) follows at once.
///
/// One for each class: under strict order the wait of one says nothing of another's.
///
/// # Invariants
/// - Nothing that waited up to twice the target is given up.
/// - Nothing is given up in the first interval, nor as the first element of any interval.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::control::Codel;
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let ms = Duration::from_millis;
/// let mut codel = Codel::new(ms(5), ms(100))?;
/// for n in 0..=100 {
///     assert!(!codel.is_stale(Time::ZERO + ms(n), ms(30)));
/// }
/// assert!(codel.is_stale(Time::ZERO + ms(101), ms(11)), "more than 5 ms for 100 ms");
/// assert!(!codel.is_stale(Time::ZERO + ms(102), ms(10)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Codel {
    target: Duration,
    interval: Duration,
    interval_ends: Time,
    least: Option<Duration>,
    is_overloaded: bool,
    served: u64,
    stale: u64,
    history: History,
}

impl Codel {
    /// A wait of `target` is fine for good (folly's default: 5 ms), a longer one for less than
    /// `interval` (100 ms). The interval is not shorter than the target, and neither is zero.
    ///
    /// # Errors
    /// One of them is.
    pub fn new(target: Duration, interval: Duration) -> Result<Codel, Invalid> {
        let waits = target > Duration::ZERO;
        Invalid::unless(waits, "target", format!("{target:?}"), "more than nothing")?;
        let spans = interval >= target;
        let range = "the target and more";
        Invalid::unless(spans, "interval", format!("{interval:?}"), range)?;
        Ok(Codel {
            target,
            interval,
            interval_ends: Time::ZERO,
            least: None,
            is_overloaded: false,
            served: 0,
            stale: 0,
            history: History::default(),
        })
    }

    /// An element that waited so long is to be served: is it given up instead?
    pub fn is_stale(&mut self, now: Time, wait: Duration) -> bool {
        self.are_stale(now, wait, 1).0
    }

    /// The same of so many that waited equally long: the verdict on the first, and how many of them it
    /// is about.
    pub(crate) fn are_stale(&mut self, now: Time, wait: Duration, count: usize) -> (bool, usize) {
        // The first of an interval is judged by itself.
        let count = if now >= self.interval_ends { 1 } else { count };
        let is_stale = self.judge(now, wait);
        let judged = if is_stale {
            &mut self.stale
        } else {
            &mut self.served
        };
        *judged += count as u64;
        (is_stale, count)
    }

    fn judge(&mut self, now: Time, wait: Duration) -> bool {
        if now >= self.interval_ends {
            let overloaded = self.least.is_some_and(|least| least > self.target);
            self.history.add(Adjustment {
                at: now,
                what: "overloaded",
                from: f64::from(u8::from(self.is_overloaded)),
                to: f64::from(u8::from(overloaded)),
                because: if overloaded {
                    "even the shortest wait was over the target"
                } else {
                    "a wait was within the target"
                },
            });
            self.is_overloaded = overloaded;
            self.interval_ends = now + self.interval;
            self.least = Some(wait);
            return false;
        }
        self.least = Some(self.least.map_or(wait, |least| least.min(wait)));
        self.is_overloaded && wait > self.target * 2
    }

    /// Whether the least wait of the last interval was over the target: what
    /// [adaptive order](crate::control::LaneOrder::Adaptive) goes by.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded
    }

    /// When it found a standing queue, and when that was gone.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> CodelSnapshot {
        CodelSnapshot {
            is_overloaded: self.is_overloaded,
            least: self.least,
            served: self.served,
            stale: self.stale,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Time {
        Time::ZERO + MS * ms
    }

    #[test]
    fn a_burst_that_drains_within_the_interval_loses_nothing() {
        let mut codel = Codel::new(5 * MS, 100 * MS).unwrap();
        for n in 0..1000 {
            // Waits of up to 80 ms, but one in 40 elements waits for nothing.
            let wait = MS * (n % 40) * 2;
            assert!(!codel.is_stale(at(n), wait));
        }
        assert_eq!(codel.adjustments().total(), 0);
    }

    #[test]
    fn a_standing_queue_is_cut_to_twice_the_target_and_service_goes_on() {
        let mut codel = Codel::new(5 * MS, 100 * MS).unwrap();
        let stale = (0..300).filter(|n| codel.is_stale(at(*n), 30 * MS)).count();
        assert_eq!(stale, 198, "all of two intervals but the first of each");
        let snapshot = codel.snapshot();
        assert_eq!((snapshot.served, snapshot.stale), (102, 198));
        assert!(snapshot.is_overloaded && snapshot.least == Some(30 * MS));
        assert!(!codel.is_stale(at(300), 2 * MS));
        assert!(!codel.is_stale(at(301), 9 * MS));
        assert!(!codel.is_stale(at(400), 2 * MS));
        assert!(!codel.is_overloaded());
        assert!(!codel.is_stale(at(401), 40 * MS), "no queue stands");
    }

    /// Arrivals at ten times the capacity, a service of 100 us: the waits of what was served in the
    /// second half of a second. `is_dropped` says of an element with that wait whether it is given up.
    fn served_waits(mut is_dropped: impl FnMut(Time, Duration) -> bool) -> Vec<Duration> {
        let (service, gap) = (Duration::from_micros(100), Duration::from_micros(10));
        let (mut now, mut next, mut waits) = (Time::ZERO, Time::ZERO, Vec::new());
        while now < at(1000) {
            let wait = now.since(next);
            let came = next <= now;
            next = next + gap;
            if came && !is_dropped(now, wait) {
                if now >= at(500) {
                    waits.push(wait);
                }
                now = now + service;
            } else if !came {
                now = next;
            }
        }
        waits
    }

    #[test]
    fn it_follows_ten_times_the_load_which_the_textbook_rule_cannot() {
        let (target, interval) = (5 * MS, 100 * MS);
        let mut codel = Codel::new(target, interval).unwrap();
        let waits = served_waits(|now, wait| codel.is_stale(now, wait));
        let late = waits.iter().filter(|wait| **wait > 2 * target).count();
        assert!(
            late <= 6,
            "{late} of {}: the first of each interval",
            waits.len()
        );
        assert!(waits.len() > 4900, "{} of 5000 served", waits.len());

        // The control law of the paper: the n-th drop follows after interval / sqrt(n).
        let (mut above_since, mut next_drop, mut drops) = (None, Time::MAX, 0.0_f64);
        let waits = served_waits(|now, wait| {
            if wait < target {
                (above_since, next_drop, drops) = (None, Time::MAX, 0.0);
                return false;
            }
            let since = *above_since.get_or_insert(now);
            if next_drop == Time::MAX {
                next_drop = since + interval;
            }
            let drops_now = now >= next_drop;
            if drops_now {
                drops += 1.0;
                next_drop = next_drop + interval.div_f64(drops.sqrt());
            }
            drops_now
        });
        let shortest = waits.iter().min().unwrap();
        assert!(*shortest > 300 * MS, "{shortest:?}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let field = |target, interval| Codel::new(target, interval).err().map(|e| e.field);
        assert_eq!(field(Duration::ZERO, MS), Some("target"));
        assert_eq!(field(2 * MS, MS), Some("interval"));
        assert_eq!(field(MS, MS), None);
    }

    proptest! {
        /// Whatever the waits: only what waited more than twice the target is given up, in an interval
        /// after one in which nothing waited less than the target; each change is told.
        #[test]
        fn only_what_is_old_in_a_standing_queue_is_given_up(
            steps in proptest::collection::vec((0..40_u32, 0..60_u32), 1..300),
        ) {
            let mut codel = Codel::new(5 * MS, 100 * MS).unwrap();
            let (mut now, mut ends) = (0, 0);
            let (mut before, mut least) = (None, None::<u32>);
            for (after, wait) in steps {
                now += after;
                let told = codel.adjustments().total();
                let was = codel.is_overloaded();
                let is_first = now >= ends;
                if is_first {
                    (before, least, ends) = (least, None, now + 100);
                }
                least = Some(least.map_or(wait, |least| least.min(wait)));
                let stands = before.is_some_and(|before| before > 5);
                let stale = codel.is_stale(at(now), MS * wait);
                prop_assert_eq!(stale, stands && wait > 10 && !is_first);
                prop_assert_eq!(codel.is_overloaded(), stands);
                prop_assert_eq!(codel.adjustments().total() > told, was != stands);
            }
            let snapshot = codel.snapshot();
            prop_assert_eq!(snapshot.least, least.map(|ms| MS * ms));
        }
    }
}
