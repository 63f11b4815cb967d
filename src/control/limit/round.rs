//! Samples gathered until they can be judged together.
//!
//! A single call says little: it may have been lucky, or have met a pause of the whole machine. A
//! round is closed when enough calls have ended that every place of the limit was used about once,
//! and counts only calls that were begun after the limit was last changed.

use crate::control::Sample;
use crate::time::Time;

/// What was seen in one round.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Round {
    /// Calls that ended.
    pub(super) ended: u64,
    /// Calls that ended because of overload where they went.
    pub(super) drops: u64,
    /// Calls that ended and say something about the service time.
    pub(super) answered: u64,
    /// Their service time on average; `None` if there is none.
    pub(super) mean_ns: Option<f64>,
    /// Calls answered in a nanosecond; `None` if no time went by.
    pub(super) rate: Option<f64>,
    /// The most calls in flight.
    pub(super) peak: usize,
    /// How far the mean is likely to be off, as a share of it: one standard error.
    pub(super) error: f64,
}

impl Round {
    /// Of the calls that ended, the share that was dropped.
    pub(super) fn drop_share(&self) -> f64 {
        self.drops as f64 / self.ended.max(1) as f64
    }

    /// Whether so much of the limit was used that the calls say something about it.
    pub(super) fn used(&self, limit: usize) -> bool {
        self.peak.saturating_mul(2) >= limit
    }
}

/// What was gathered.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Since when; `None` before the first sample.
    began: Option<Time>,
    ended: u64,
    drops: u64,
    answered: u64,
    /// Of those, the ones that were answered after the round began: the very first sample tells of
    /// calls from before anybody looked at the clock.
    timed: u64,
    /// Samples with an answer.
    parts: u64,
    sum_ns: f64,
    /// Sum of the squares of the samples' means, each as often as it has answers.
    squares: f64,
    peak: usize,
}

/// Gathers samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rounds {
    open: Sums,
    /// The round that was closed last, in case more is to be seen of it.
    closed: Sums,
    /// Calls that the open round had when it was opened again.
    had: u64,
    /// Calls still to end that were begun before the limit was changed.
    stale: usize,
    judged: u64,
    drops: u64,
}

impl Rounds {
    /// Takes a sample in. The round, if it is complete: with at least `need` calls.
    pub(super) fn add(&mut self, now: Time, sample: &Sample, need: usize) -> Option<Round> {
        self.drops += sample.drops.min(sample.count) as u64;
        if self.stale > 0 {
            self.stale = self.stale.saturating_sub(sample.count);
            self.open.began = Some(now);
            return None;
        }
        self.open.add(now, sample);
        if self.open.ended - self.had < need.max(1) as u64 {
            return None;
        }
        let round = self.open.round(now);
        self.judged += 1;
        self.closed = std::mem::take(&mut self.open);
        self.open.began = Some(now);
        self.had = 0;
        Some(round)
    }

    /// The round that was just closed told too little: the next one goes on with it.
    pub(super) fn reopen(&mut self) {
        self.open = self.closed;
        self.had = self.open.ended;
    }

    /// The limit was changed: so many calls in flight were begun before.
    pub(super) fn restart(&mut self, now: Time, in_flight: usize) {
        self.open = Sums {
            began: Some(now),
            ..Sums::default()
        };
        self.had = 0;
        self.stale = in_flight;
    }

    /// Rounds closed so far.
    pub(super) fn judged(&self) -> u64 {
        self.judged
    }

    /// Calls dropped so far, in all.
    pub(super) fn drops(&self) -> u64 {
        self.drops
    }
}

impl Sums {
    fn add(&mut self, now: Time, sample: &Sample) {
        let answered = sample.answered() as u64;
        self.ended += sample.count as u64;
        self.drops += sample.drops.min(sample.count) as u64;
        self.answered += answered;
        if self.began.is_some() {
            self.timed += answered;
        } else {
            self.began = Some(now);
        }
        if answered > 0 {
            let mean = sample.service.as_nanos() as f64;
            self.parts += 1;
            self.sum_ns += answered as f64 * mean;
            self.squares += answered as f64 * mean * mean;
        }
        self.peak = self.peak.max(sample.busiest());
    }

    fn round(&self, now: Time) -> Round {
        let elapsed = now.since(self.began.unwrap_or(now)).as_nanos() as f64;
        let mean_ns = (self.answered > 0).then(|| self.sum_ns / self.answered as f64);
        Round {
            ended: self.ended,
            drops: self.drops,
            answered: self.answered,
            mean_ns,
            rate: (elapsed > 0.0).then(|| self.timed as f64 / elapsed),
            peak: self.peak,
            error: self.error(mean_ns.unwrap_or(0.0)),
        }
    }

    /// The standard error of the mean, as a share of it, from how far samples differ among
    /// themselves. A single sample does not tell: service times are taken as exponential then.
    fn error(&self, mean: f64) -> f64 {
        let calls = self.answered.max(1) as f64;
        if self.parts < 2 || mean <= 0.0 {
            return 1.0 / calls.sqrt();
        }
        let spread = (self.squares - calls * mean * mean).max(0.0) / (self.parts - 1) as f64;
        (spread.sqrt() / mean / calls.sqrt()).min(1.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(count: usize, us: u64) -> Sample {
        Sample {
            count,
            service: Duration::from_micros(us),
            in_flight: 4,
            in_flight_peak: 5,
            ..Sample::default()
        }
    }

    #[test]
    fn a_round_is_the_mean_of_its_calls() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.add(Time::ZERO, &sample(3, 10), 4), None);
        let round = rounds
            .add(Time::from_nanos(8_000), &sample(1, 50), 4)
            .unwrap();
        assert_eq!((round.ended, round.answered, round.peak), (4, 4, 5));
        assert!((round.mean_ns.unwrap() - 20_000.0).abs() < 1e-6);
        assert!((round.rate.unwrap() - 1.0 / 8_000.0).abs() < 1e-12);
        assert_eq!(rounds.judged(), 1);
    }

    #[test]
    fn calls_begun_before_a_change_do_not_count() {
        let mut rounds = Rounds::default();
        rounds.restart(Time::ZERO, 5);
        assert_eq!(rounds.add(Time::from_nanos(10), &sample(4, 900), 2), None);
        assert_eq!(rounds.add(Time::from_nanos(20), &sample(1, 900), 2), None);
        let round = rounds.add(Time::from_nanos(40), &sample(2, 10), 2).unwrap();
        assert!((round.mean_ns.unwrap() - 10_000.0).abs() < 1e-6);
        assert!(
            (round.rate.unwrap() - 0.1).abs() < 1e-9,
            "since the last stale one"
        );
    }

    #[test]
    fn a_round_that_told_too_little_goes_on() {
        let mut rounds = Rounds::default();
        assert!(rounds.add(Time::ZERO, &sample(4, 10), 4).is_some());
        rounds.reopen();
        assert_eq!(rounds.add(Time::from_nanos(5), &sample(3, 30), 4), None);
        let round = rounds.add(Time::from_nanos(9), &sample(1, 30), 4).unwrap();
        assert_eq!((round.ended, round.mean_ns), (8, Some(20_000.0)));
    }

    #[test]
    fn drops_say_nothing_about_the_service_time() {
        let mut rounds = Rounds::default();
        let mut all = sample(4, 77);
        all.drops = 4;
        let round = rounds.add(Time::ZERO, &all, 4).unwrap();
        assert_eq!((round.mean_ns, round.rate), (None, None));
        assert!((round.drop_share() - 1.0).abs() < 1e-9);
        assert_eq!(rounds.drops(), 4);
    }

    #[test]
    fn equal_calls_have_no_error_and_one_sample_is_not_trusted() {
        let mut rounds = Rounds::default();
        for at in 0..3 {
            assert_eq!(rounds.add(Time::from_nanos(at), &sample(25, 10), 100), None);
        }
        let round = rounds
            .add(Time::from_nanos(9), &sample(25, 10), 100)
            .unwrap();
        assert!(round.error < 1e-6);
        let round = rounds
            .add(Time::from_nanos(20), &sample(100, 10), 100)
            .unwrap();
        assert!((round.error - 0.1).abs() < 1e-9);
    }
}
