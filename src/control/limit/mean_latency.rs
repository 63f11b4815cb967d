//! Steps on the average response time, between two thresholds.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Limit, LimitSnapshot, check_bounds, nanos};
use crate::control::bounded::Bounded;
use crate::control::{History, Invalid, Sample};
use crate::time::Time;

/// The settings of a [`MeanLatency`]. Defaults: those of [`MeanLatency::a4`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MeanLatencyBuilder {
    initial: usize,
    least: usize,
    most: usize,
    slow: Duration,
    fast: Duration,
    shrink: usize,
    grow: usize,
    last: usize,
    every: usize,
}

impl Default for MeanLatencyBuilder {
    fn default() -> Self {
        MeanLatencyBuilder {
            initial: 100,
            least: 10,
            most: 200,
            slow: Duration::from_millis(1000),
            fast: Duration::from_millis(100),
            shrink: 10,
            grow: 5,
            last: 100,
            every: 1,
        }
    }
}

impl MeanLatencyBuilder {
    range_setters!(100, 10, 200);

    /// An average over `slow` shrinks the limit, one under `fast` lets it grow; `fast` is not above
    /// `slow`. Default 100 ms and 1000 ms.
    #[must_use]
    pub fn thresholds(mut self, fast: Duration, slow: Duration) -> Self {
        self.fast = fast;
        self.slow = slow;
        self
    }

    /// By how many calls it grows and shrinks at once: 1 or more each. Default 5 and 10.
    #[must_use]
    pub fn steps(mut self, grow: usize, shrink: usize) -> Self {
        self.grow = grow;
        self.shrink = shrink;
        self
    }

    /// Over how many of the last response times the average goes: 1 to 100 000. Default 100; while
    /// there are fewer, over those.
    #[must_use]
    pub fn last(mut self, responses: usize) -> Self {
        self.last = responses;
        self
    }

    /// After how many response times the average is looked at again: 1 or more. Default 1, at each.
    /// With as many as [`last`](MeanLatencyBuilder::last) no response time counts twice, and the
    /// limit swings less.
    #[must_use]
    pub fn every(mut self, responses: usize) -> Self {
        self.every = responses;
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<MeanLatency, Invalid> {
        check_bounds(self.initial, self.least, self.most)?;
        Invalid::unless(
            self.fast <= self.slow,
            "fast",
            format!("{:?}", self.fast),
            "0 to slow",
        )?;
        Invalid::unless(self.grow >= 1, "grow", self.grow, "1 or more")?;
        Invalid::unless(self.shrink >= 1, "shrink", self.shrink, "1 or more")?;
        let last = (1..=100_000).contains(&self.last);
        Invalid::unless(last, "last", self.last, "1 to 100000")?;
        Invalid::unless(self.every >= 1, "every", self.every, "1 or more")?;
        Ok(MeanLatency::with(self))
    }
}

/// Fixed steps on the average of the last response times.
///
/// Looked at after each response time (or every so many): an average over `slow` takes `shrink` from
/// the limit, one under `fast` adds `grow`, anything between leaves it. A load over the limit is
/// [throttled](Limit::throttles). The thresholds are absolute: it fits services whose latency is known
/// beforehand, and no others. Dropped calls have no response time, so it does not see them.
#[derive(Clone, Debug)]
pub struct MeanLatency {
    settings: MeanLatencyBuilder,
    value: Bounded,
    /// The last response times, as (how many equal ones, nanoseconds).
    times: VecDeque<(usize, u64)>,
    known: usize,
    sum_ns: u128,
    /// Response times since the average was last looked at.
    since: usize,
    looked: u64,
    drops: u64,
}

impl Default for MeanLatency {
    fn default() -> Self {
        MeanLatency::a4()
    }
}

impl MeanLatency {
    /// Settings to change.
    #[must_use]
    pub fn builder() -> MeanLatencyBuilder {
        MeanLatencyBuilder::default()
    }

    /// The dynamic flow controller: it starts at 100; looks at the average of the last 100 response
    /// times; over 1000 ms it shrinks by 10, not below 10; under 100 ms it grows by 5, not above 200.
    #[must_use]
    pub fn a4() -> MeanLatency {
        MeanLatency::with(MeanLatencyBuilder::default())
    }

    fn with(settings: MeanLatencyBuilder) -> MeanLatency {
        MeanLatency {
            settings,
            value: Bounded::new("limit", settings.initial, settings.least, settings.most),
            times: VecDeque::new(),
            known: 0,
            sum_ns: 0,
            since: 0,
            looked: 0,
            drops: 0,
        }
    }

    /// The average of the response times that are kept; `None` before the first.
    #[must_use]
    pub fn average(&self) -> Option<Duration> {
        let sum = self.sum_ns.checked_div(self.known as u128)?;
        Some(Duration::from_nanos(u64::try_from(sum).unwrap_or(u64::MAX)))
    }

    /// Adds so many equal response times, and lets go of the oldest past the bound.
    fn remember(&mut self, count: usize, ns: u64) {
        self.times.push_back((count, ns));
        self.known += count;
        self.sum_ns += count as u128 * u128::from(ns);
        while self.known > self.settings.last {
            let over = self.known - self.settings.last;
            let Some((oldest, ns)) = self.times.front_mut() else {
                return;
            };
            let gone = over.min(*oldest);
            *oldest -= gone;
            self.known -= gone;
            self.sum_ns -= gone as u128 * u128::from(*ns);
            if *oldest == 0 {
                self.times.pop_front();
            }
        }
    }

    fn look(&mut self, now: Time) {
        self.looked += 1;
        let Some(average) = self.average() else {
            return;
        };
        let limit = self.value.get() as f64;
        if average > self.settings.slow {
            let to = limit - self.settings.shrink as f64;
            self.value.set(
                now,
                to,
                "the average response time is over the slow threshold",
            );
        } else if average < self.settings.fast {
            let to = limit + self.settings.grow as f64;
            self.value.set(
                now,
                to,
                "the average response time is under the fast threshold",
            );
        }
    }
}

impl Limit for MeanLatency {
    fn on_sample(&mut self, now: Time, sample: &Sample) {
        self.drops += sample.drops as u64;
        let ns = u64::try_from(sample.service.as_nanos()).unwrap_or(u64::MAX);
        let mut left = sample.answered();
        // Past the bounds no look changes anything any more: calls beyond that many are alike.
        let steps = self.settings.most - self.settings.least + 1;
        let enough = steps
            .saturating_mul(self.settings.every)
            .saturating_add(self.settings.last);
        left = left.min(enough);
        while left > 0 {
            let some = (self.settings.every - self.since).min(left);
            self.remember(some, ns);
            self.since += some;
            left -= some;
            if self.since == self.settings.every {
                self.since = 0;
                self.look(now);
            }
        }
    }

    fn limit(&self) -> usize {
        self.value.get()
    }

    fn adjustments(&self) -> &History {
        self.value.history()
    }

    fn snapshot(&self) -> LimitSnapshot {
        LimitSnapshot {
            algorithm: "mean_latency",
            limit: self.value.get(),
            least: self.value.least(),
            most: self.value.most(),
            base: None,
            recent: self.average().map(|mean| nanos(mean.as_nanos() as f64)),
            queue: None,
            rounds: self.looked,
            drops: self.drops,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn responses(count: usize, ms: u64) -> Sample {
        Sample {
            count,
            service: Duration::from_millis(ms),
            ..Sample::default()
        }
    }

    #[test]
    fn the_average_forgets_what_is_older_than_the_last() {
        let mut limit = MeanLatency::builder().last(4).build().unwrap();
        limit.on_sample(Time::ZERO, &responses(3, 100));
        limit.on_sample(Time::ZERO, &responses(2, 600));
        assert_eq!(limit.average(), Some(Duration::from_millis(350)));
        limit.on_sample(Time::ZERO, &responses(9, 40));
        assert_eq!(limit.average(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn how_calls_are_sampled_does_not_matter() {
        let mut together = MeanLatency::builder().every(3).build().unwrap();
        let mut apart = together.clone();
        for ms in [2_000, 30, 400, 30, 9_000] {
            together.on_sample(Time::ZERO, &responses(7, ms));
            for _ in 0..7 {
                apart.on_sample(Time::ZERO, &responses(1, ms));
            }
        }
        assert_eq!(together.snapshot(), apart.snapshot());
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = |builder: MeanLatencyBuilder| builder.build().unwrap_err().field;
        let ms = Duration::from_millis;
        assert_eq!(refused(MeanLatency::builder().initial(5)), "initial");
        assert_eq!(
            refused(MeanLatency::builder().thresholds(ms(2), ms(1))),
            "fast"
        );
        assert_eq!(refused(MeanLatency::builder().steps(0, 1)), "grow");
        assert_eq!(refused(MeanLatency::builder().steps(1, 0)), "shrink");
        assert_eq!(refused(MeanLatency::builder().last(0)), "last");
        assert_eq!(refused(MeanLatency::builder().every(0)), "every");
    }
}
