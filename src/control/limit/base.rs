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
    /// Its standard error, as a share of it.
    error: f64,
    /// The mean of the last round, if that was below the base, and what had been usual before it.
    below: Option<(f64, Option<f64>)>,
    /// Throughput was seen to follow the limit where this was measured: there was no queue.
    proven: bool,
}

impl Base {
    pub(super) fn ns(&self) -> Option<f64> {
        self.ns
    }

    /// The last round was below it; the next one decides.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.below.is_some()
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Takes a round in. `usual` is what latency was under this limit before, if it was held.
    pub(super) fn see(&mut self, round: &Round, usual: Option<f64>) {
        // A clock too coarse to see a call at all says so with 0.
        let Some(mean) = round.mean_ns.map(|mean| mean.max(1.0)) else {
            return;
        };
        let Some(ns) = self.ns else {
            self.ns = Some(mean);
            self.error = round.error;
            return;
        };
        // The upper end of what it may be.
        let most = mean * (1.0 + round.error);
        if mean >= ns * (1.0 - 2.0 * round.error.hypot(self.error)) || most >= ns {
            self.below = None;
            return;
        }
        match self.below.take() {
            None => self.below = Some((most, usual)),
            Some((before, usual)) => {
                let now = f64::midpoint(before, most);
                // What latency was above the base was a queue, and is one still: the base falls by
                // as much as latency fell. Too low a base is found by raising the limit.
                let share = usual.map_or(1.0, |usual| (now / usual).clamp(0.1, 1.0));
                self.ns = Some(now.min(ns * share));
                self.error = round.error;
            }
        }
    }

    /// It was measured where there is no queue, with that standard error.
    pub(super) fn prove(&mut self, ns: f64, error: f64) {
        *self = Base {
            ns: Some(ns.max(1.0)),
            error,
            below: None,
            proven: true,
        };
    }

    /// Calls that wait inside the service if its latency is that: of `limit` in flight, those beyond
    /// the ones that the base accounts for. As likely as not, and at least.
    pub(super) fn queue(&self, limit: f64, mean_ns: f64, error: f64) -> Queue {
        let waits = |ns: f64| (limit * (1.0 - ns / mean_ns)).clamp(0.0, limit);
        match self.ns {
            Some(ns) if mean_ns > 0.0 => {
                let doubt = 2.0 * error.hypot(self.error);
                Queue {
                    least: waits(ns * (1.0 + doubt)),
                    likely: waits(ns),
                    most: waits(ns * (1.0 - doubt)),
                }
            }
            _ => Queue::default(),
        }
    }
}

/// How many calls wait inside the service.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Queue {
    /// Two standard errors below.
    pub(super) least: f64,
    pub(super) likely: f64,
    /// Two standard errors above.
    pub(super) most: f64,
}

/// What was measured under one limit, over some rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) limit: f64,
    pub(super) rate: f64,
    pub(super) ns: f64,
    /// The standard error of the rate, as a share of it.
    pub(super) error: f64,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Experiment {
    before: Option<Point>,
    here: Option<Point>,
    /// By how much, on average, the throughput of one call differs from that of the next, squared
    /// and as a share: latencies in a queue differ less than the services that cause them.
    uneven: f64,
}

impl Default for Experiment {
    fn default() -> Self {
        Experiment {
            before: None,
            here: None,
            uneven: 1.0,
        }
    }
}

impl Experiment {
    /// The rounds after which what is known of a limit does not become more exact: old ones fade.
    const ROUNDS: u32 = 16;

    /// A round under that limit, in which all of it was used.
    pub(super) fn see(&mut self, limit: usize, round: &Round) {
        let (Some(rate), Some(ns)) = (round.rate, round.mean_ns) else {
            return;
        };
        let calls = round.answered.max(1) as f64;
        let error = round.error.max((self.uneven / calls).sqrt());
        if let Some(here) = self.here
            && (limit as f64 / here.limit).ln().abs() < 0.1
        {
            let apart = (rate / here.rate).ln().abs().min(4.0 * error);
            let uneven = calls * apart * apart / (1.0 + 1.0 / f64::from(here.rounds));
            self.uneven = (self.uneven + 0.1 * (uneven - self.uneven)).max(0.5);
        }
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

    /// Throughput is the same on both sides: what is known of it is taken together.
    pub(super) fn pool(&mut self) {
        let (Some(before), Some(here)) = (self.before, &mut self.here) else {
            return;
        };
        let (theirs, ours) = (before.error.powi(-2), here.error.powi(-2));
        here.rate = (before.rate * theirs + here.rate * ours) / (theirs + ours);
        here.error = (theirs + ours).powf(-0.5);
    }

    /// Forgets both sides, but not how uneven calls are.
    pub(super) fn end(&mut self) {
        self.before = None;
        self.here = None;
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

    /// The answer: whether the share of the change of the limit that is found in throughput is over
    /// or under that `border`, if it is so by that many standard errors.
    pub(super) fn verdict(&self, border: f64, follows: f64, saturated: f64) -> Option<Verdict> {
        let (before, here) = (self.before?, self.here?);
        let moved = (here.limit / before.limit).ln();
        let answered = (here.rate / before.rate).ln();
        if moved.abs() < 0.1 {
            return None;
        }
        // 0: throughput stayed. 1: it went with the limit.
        let share = answered / moved;
        let error = before.error.hypot(here.error);
        let beyond = (share - border) * moved.abs();
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

    /// The latency without a queue, with its error, if throughput follows: on both sides it is that,
    /// or one of them tells of another time.
    pub(super) fn unqueued(&self) -> Option<(f64, f64)> {
        let (before, here) = (self.before?, self.here?);
        let least = if here.ns < before.ns { here } else { before };
        Some((least.ns, least.error))
    }

    /// The likelier answer.
    pub(super) fn likely(&self, border: f64) -> Option<Verdict> {
        self.verdict(border, 0.0, 0.0)
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
        base.see(&round(100.0, 1.0, 0.1), None);
        base.see(&round(1.0, 1.0, 0.1), None);
        assert_eq!(base.ns(), Some(100.0));
        base.see(&round(100.0, 1.0, 0.1), None);
        base.see(&round(60.0, 1.0, 0.1), None);
        base.see(&round(50.0, 1.0, 0.1), None);
        assert!((base.ns().unwrap() - 60.5).abs() < 1e-9);
        for _ in 0..100 {
            base.see(&round(50.0, 1.0, 0.1), None);
        }
        assert!((base.ns().unwrap() - 60.5).abs() < 1e-9, "within chance");
        base.see(&round(500.0, 1.0, 0.1), None);
        assert!((base.ns().unwrap() - 60.5).abs() < 1e-9, "latency alone");
    }

    #[test]
    fn a_queue_is_no_part_of_a_base_that_falls() {
        let mut base = Base::default();
        base.prove(100.0, 0.01);
        // Under this limit latency was 150, of which 50 was a queue; all goes twice as fast now.
        base.see(&round(75.0, 2.0, 0.01), Some(150.0));
        base.see(&round(75.0, 2.0, 0.01), Some(75.0));
        assert!((base.ns().unwrap() - 50.5).abs() < 0.1, "{base:?}");
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
            experiment.verdict(0.5, 3.0, 2.0)
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
