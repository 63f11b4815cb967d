//! What a call takes where nothing is queued, and whether throughput follows the limit.
//!
//! Latency alone cannot tell a service that became slow from one that became full: calls in flight =
//! throughput x latency holds for both. The difference is in what another limit does. Below the knee
//! throughput follows the limit and latency stays; past it latency follows and throughput stays.

use super::round::Round;

/// The service time of a call that meets no queue, as far as it is known.
///
/// It falls on the word of two rounds in a row that are below it by more than chance explains, and
/// only to what their mean is: one lucky call, or one lucky round, changes nothing. It is raised by an
/// [`Experiment`] alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base {
    ns: Option<f64>,
    /// The mean of the last round, if that was below the base.
    below: Option<f64>,
    /// Throughput was seen to follow the limit where this was measured: there was no queue.
    proven: bool,
}

impl Base {
    pub(super) fn ns(&self) -> Option<f64> {
        self.ns
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    pub(super) fn see(&mut self, round: &Round) {
        // A clock too coarse to see a call at all says so with 0.
        let Some(mean) = round.mean_ns.map(|mean| mean.max(1.0)) else {
            return;
        };
        let Some(ns) = self.ns else {
            self.ns = Some(mean);
            return;
        };
        if mean >= ns * (1.0 - 2.0 * round.error) || mean >= ns {
            self.below = None;
            return;
        }
        match self.below.take() {
            None => self.below = Some(mean),
            Some(before) => self.ns = Some(f64::midpoint(before, mean).min(ns)),
        }
    }

    /// It was measured where there is no queue.
    pub(super) fn prove(&mut self, ns: f64) {
        *self = Base {
            ns: Some(ns),
            below: None,
            proven: true,
        };
    }

    /// Calls that wait inside the service if its latency is that: of `limit` in flight, those beyond
    /// the ones that the base accounts for.
    pub(super) fn queue(&self, limit: f64, mean_ns: f64, error: f64) -> f64 {
        match self.ns {
            // The doubt is in favour of the service.
            Some(ns) if mean_ns > 0.0 => (limit * (1.0 - ns * (1.0 + error) / mean_ns)).max(0.0),
            _ => 0.0,
        }
    }
}

/// What was measured under one limit, over some rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) limit: f64,
    pub(super) rate: f64,
    pub(super) ns: f64,
    /// The standard error of the rate, as a share of it.
    error: f64,
    rounds: u32,
}

/// What another limit did to throughput.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It went with the limit: nothing is queued at the lower of the two.
    Follows,
    /// It stayed, or went the other way: something is queued at the higher of the two.
    Saturated,
    /// It changed by more than the limit can have done: the service itself changed meanwhile.
    Void,
}

/// Compares what was measured under two limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Experiment {
    before: Option<Point>,
    here: Option<Point>,
}

impl Experiment {
    /// The rounds after which what is known of a limit does not become more exact: old ones fade.
    const ROUNDS: u32 = 16;

    /// A round under that limit, in which all of it was used.
    pub(super) fn see(&mut self, limit: usize, round: &Round) {
        let (Some(rate), Some(ns)) = (round.rate, round.mean_ns) else {
            return;
        };
        // Latencies in a queue differ less among themselves than the services that cause them.
        let error = round.error.max(0.7 / (round.answered.max(1) as f64).sqrt());
        let new = Point {
            limit: limit as f64,
            rate,
            ns,
            error,
            rounds: 1,
        };
        self.here = Some(match self.here {
            Some(old) if old.is_like(&new) => old.with(&new),
            _ => new,
        });
    }

    /// The limit is about to be changed: what was measured until now is what to compare with. False
    /// if nothing was.
    pub(super) fn begin(&mut self) -> bool {
        self.before = self.here.take();
        self.before.is_some()
    }

    /// Forgets both sides.
    pub(super) fn end(&mut self) {
        *self = Experiment::default();
    }

    pub(super) fn before(&self) -> Option<Point> {
        self.before
    }

    pub(super) fn here(&self) -> Option<Point> {
        self.here
    }

    /// By which factor the limit must be changed for the answer to be seen: 1.25 to 2.
    pub(super) fn factor(&self) -> f64 {
        let error = self.here.map_or(1.0, |here| here.error);
        (10.0 * error).exp().clamp(1.25, 2.0)
    }

    /// The answer, if it differs from its opposite by so many standard errors.
    pub(super) fn verdict(&self, follows: f64, saturated: f64) -> Option<Verdict> {
        let (before, here) = (self.before?, self.here?);
        let moved = (here.limit / before.limit).ln();
        let answered = (here.rate / before.rate).ln();
        if moved.abs() < 0.1 {
            return None;
        }
        // 0: throughput stayed. 1: it went with the limit.
        let share = answered / moved;
        let error = before.error.hypot(here.error);
        let beyond = (share - 0.5) * moved.abs();
        if (share - 1.0) * moved.abs() > 3.0 * error.max(0.05) {
            Some(Verdict::Void)
        } else if beyond >= follows * error {
            Some(Verdict::Follows)
        } else if -beyond >= saturated * error {
            Some(Verdict::Saturated)
        } else {
            None
        }
    }
}

impl Point {
    fn is_like(&self, other: &Point) -> bool {
        let same_limit = (other.limit / self.limit).ln().abs() < 0.1;
        let apart = (other.rate / self.rate).ln().abs();
        same_limit && apart <= 3.0 * self.error.hypot(other.error)
    }

    fn with(&self, other: &Point) -> Point {
        let rounds = (self.rounds + 1).min(Experiment::ROUNDS);
        let mix = |old: f64, new: f64| old + (new - old) / f64::from(rounds);
        Point {
            limit: mix(self.limit, other.limit),
            rate: mix(self.rate, other.rate),
            ns: mix(self.ns, other.ns),
            error: {
                let one = mix(self.error * f64::from(self.rounds).sqrt(), other.error);
                one / f64::from(rounds).sqrt()
            },
            rounds,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn round(ns: f64, rate: f64, error: f64) -> Round {
        Round {
            ended: 100,
            drops: 0,
            answered: 100,
            mean_ns: Some(ns),
            rate: Some(rate),
            peak: 10,
            error,
        }
    }

    #[test]
    fn one_lucky_round_does_not_lower_the_base_and_two_do() {
        let mut base = Base::default();
        base.see(&round(100.0, 1.0, 0.1));
        base.see(&round(1.0, 1.0, 0.1));
        assert_eq!(base.ns(), Some(100.0));
        base.see(&round(100.0, 1.0, 0.1));
        base.see(&round(60.0, 1.0, 0.1));
        base.see(&round(50.0, 1.0, 0.1));
        assert_eq!(base.ns(), Some(55.0));
        for _ in 0..100 {
            base.see(&round(50.0, 1.0, 0.1));
        }
        assert_eq!(base.ns(), Some(55.0), "within what chance explains");
        base.see(&round(500.0, 1.0, 0.1));
        assert_eq!(base.ns(), Some(55.0), "latency alone does not raise it");
    }

    #[test]
    fn throughput_that_goes_with_the_limit_is_told_from_throughput_that_stays() {
        let asked = |rate: f64| {
            let mut experiment = Experiment::default();
            for _ in 0..16 {
                experiment.see(10, &round(100.0, 1.0, 0.1));
            }
            assert!(experiment.begin());
            for _ in 0..16 {
                experiment.see(15, &round(100.0, rate, 0.1));
            }
            experiment.verdict(3.0, 2.0)
        };
        assert_eq!(asked(1.5), Some(Verdict::Follows));
        assert_eq!(asked(1.0), Some(Verdict::Saturated));
        assert_eq!(asked(0.95), Some(Verdict::Saturated));
        assert_eq!(asked(4.0), Some(Verdict::Void));
        assert_eq!(asked(0.3), Some(Verdict::Saturated), "more calls do harm");
        assert_eq!(asked(1.22), None, "neither is sure");
    }

    #[test]
    fn what_was_measured_before_the_service_changed_is_let_go() {
        let mut experiment = Experiment::default();
        for _ in 0..16 {
            experiment.see(10, &round(100.0, 1.0, 0.05));
        }
        experiment.see(10, &round(200.0, 0.5, 0.05));
        let here = experiment.here().unwrap();
        assert_eq!((here.rate, here.ns), (0.5, 200.0));
    }
}
