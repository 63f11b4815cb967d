//! Up by one a round, down by a share when calls are dropped.

use std::time::Duration;

use super::round::Rounds;
use super::{Limit, LimitSnapshot, check_bounds, nanos};
use crate::control::bounded::Bounded;
use crate::control::{History, Invalid, Sample};
use crate::time::Time;

/// The settings of an [`Aimd`].
///
/// Defaults, after Netflix's concurrency-limits: initial 20, 1 to 200, back-off 0.9, timeout 5 s.
/// There the lower bound is 20 as well; here it is 1, because a service of four workers has its knee
/// at four.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AimdBuilder {
    initial: usize,
    least: usize,
    most: usize,
    backoff: f64,
    timeout: Duration,
}

impl Default for AimdBuilder {
    fn default() -> Self {
        AimdBuilder {
            initial: 20,
            least: 1,
            most: 200,
            backoff: 0.9,
            timeout: Duration::from_secs(5),
        }
    }
}

impl AimdBuilder {
    range_setters!(20, 1, 200);

    /// What a cut leaves of the limit: 0.5 or more, below 1. Default 0.9.
    #[must_use]
    pub fn backoff(mut self, share: f64) -> Self {
        self.backoff = share;
        self
    }

    /// A service time past which calls count as dropped: more than 0. Default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<Aimd, Invalid> {
        check_bounds(self.initial, self.least, self.most)?;
        Invalid::unless(
            (0.5..1.0).contains(&self.backoff),
            "backoff",
            self.backoff,
            "0.5 to below 1",
        )?;
        Invalid::unless(
            !self.timeout.is_zero(),
            "timeout",
            format!("{:?}", self.timeout),
            "more than 0",
        )?;
        Ok(Aimd::with(self))
    }
}

/// Additive increase, multiplicative decrease, as in TCP and Netflix's `AIMDLimit`.
///
/// A round in which a call was dropped, or in which calls took longer than the timeout, multiplies
/// the limit by the back-off; any other round that used half of the limit adds one. Netflix does so
/// with every single call; a round here is as many calls as the limit, and calls that were begun
/// before a cut are not judged again, so that one overload makes one cut.
///
/// It hears of overload only when calls are dropped or time out: a service with a long queue of its
/// own fills that queue first.
#[derive(Clone, Debug)]
pub struct Aimd {
    settings: AimdBuilder,
    value: Bounded,
    rounds: Rounds,
    recent_ns: Option<f64>,
    /// When calls that hang have last led to a cut.
    hung_at: Option<Time>,
}

impl Default for Aimd {
    fn default() -> Self {
        Aimd::with(AimdBuilder::default())
    }
}

impl Aimd {
    /// Settings to change.
    #[must_use]
    pub fn builder() -> AimdBuilder {
        AimdBuilder::default()
    }

    fn with(settings: AimdBuilder) -> Aimd {
        Aimd {
            settings,
            value: Bounded::new("limit", settings.initial, settings.least, settings.most),
            rounds: Rounds::default(),
            recent_ns: None,
            hung_at: None,
        }
    }

    fn cut(&mut self, now: Time, in_flight: usize, because: &'static str) {
        // At least by one: a share of a small limit would round to nothing.
        let limit = self.value.get() as f64;
        let to = (limit * self.settings.backoff).floor().min(limit - 1.0);
        self.value.set(now, to, because);
        self.rounds.restart(now, in_flight);
    }

    /// Calls that hang end no round: they are seen by their age, once a timeout.
    fn hangs(&self, now: Time, sample: &Sample) -> bool {
        let timeout = self.settings.timeout;
        sample.oldest > timeout && self.hung_at.is_none_or(|at| now.since(at) > timeout)
    }
}

impl Limit for Aimd {
    fn on_sample(&mut self, now: Time, sample: &Sample) {
        if self.hangs(now, sample) {
            self.hung_at = Some(now);
            return self.cut(now, sample.in_flight, "a call hangs");
        }
        let limit = self.value.get();
        let Some(round) = self.rounds.add(now, sample, limit) else {
            return;
        };
        self.recent_ns = round.mean_ns.or(self.recent_ns);
        let timeout_ns = self.settings.timeout.as_nanos() as f64;
        if round.drops > 0 {
            self.cut(now, sample.in_flight, "calls were dropped");
        } else if round.mean_ns.is_some_and(|ns| ns > timeout_ns) {
            self.cut(now, sample.in_flight, "calls took longer than the timeout");
        } else if round.used(limit) {
            self.value
                .set(now, limit as f64 + 1.0, "no call was dropped");
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
            algorithm: "aimd",
            limit: self.value.get(),
            least: self.value.least(),
            most: self.value.most(),
            base: None,
            recent: self.recent_ns.map(nanos),
            queue: None,
            rounds: self.rounds.judged(),
            drops: self.rounds.drops(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn calls(count: usize, drops: usize, busy: usize) -> Sample {
        Sample {
            count,
            drops,
            service: Duration::from_millis(1),
            in_flight_peak: busy,
            ..Sample::default()
        }
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_round_adds_one_and_a_drop_takes_a_tenth() {
        let mut limit = Aimd::default();
        limit.on_sample(at(1), &calls(19, 0, 20));
        assert_eq!(limit.limit(), 20, "the round is not complete");
        limit.on_sample(at(2), &calls(1, 0, 20));
        assert_eq!(limit.limit(), 21);
        limit.on_sample(at(3), &calls(21, 1, 21));
        assert_eq!(limit.limit(), 18);
        assert_eq!(limit.snapshot().drops, 1);
    }

    #[test]
    fn one_overload_makes_one_cut() {
        let mut limit = Aimd::default();
        let mut sample = calls(20, 20, 20);
        sample.in_flight = 12;
        limit.on_sample(at(1), &sample);
        assert_eq!(limit.limit(), 18);
        // The twelve that were in flight end as badly, and are not judged again.
        limit.on_sample(at(2), &calls(12, 12, 12));
        assert_eq!(limit.limit(), 18);
    }

    #[test]
    fn it_does_not_grow_by_calls_that_did_not_need_it() {
        let mut limit = Aimd::default();
        for ms in 0..100 {
            limit.on_sample(at(ms), &calls(50, 0, 9));
        }
        assert_eq!(limit.limit(), 20);
    }

    #[test]
    fn slow_calls_and_hanging_calls_count_as_dropped() {
        let mut limit = Aimd::builder()
            .timeout(Duration::from_millis(10))
            .build()
            .unwrap();
        let mut slow = calls(20, 0, 20);
        slow.service = Duration::from_millis(11);
        limit.on_sample(at(0), &slow);
        assert_eq!(limit.limit(), 18);
        let mut hung = calls(0, 0, 18);
        hung.oldest = Duration::from_millis(11);
        limit.on_sample(at(20), &hung);
        assert_eq!(limit.limit(), 16);
        limit.on_sample(at(25), &hung);
        assert_eq!(limit.limit(), 16, "once a timeout");
        limit.on_sample(at(31), &hung);
        assert_eq!(limit.limit(), 14);
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = |builder: AimdBuilder| builder.build().unwrap_err().field;
        assert_eq!(refused(Aimd::builder().bounds(0, 9)), "least");
        assert_eq!(refused(Aimd::builder().bounds(9, 8)), "most");
        assert_eq!(refused(Aimd::builder().initial(201)), "initial");
        assert_eq!(refused(Aimd::builder().backoff(1.0)), "backoff");
        assert_eq!(refused(Aimd::builder().backoff(f64::NAN)), "backoff");
        assert_eq!(refused(Aimd::builder().timeout(Duration::ZERO)), "timeout");
    }
}
