//! A limit that keeps a small queue inside the service, and no more.

mod refused;
mod settings;

pub use settings::VegasBuilder;

use super::base::{Base, Experiment, Queue, Verdict};
use super::round::{Round, Rounds};
use super::{Limit, LimitSnapshot, nanos};
use crate::control::bounded::Bounded;
use crate::control::{History, Sample};
use crate::time::Time;
use refused::Refused;

/// What the next round is judged for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// Slow start: double as long as throughput follows.
    Doubling,
    /// Doubling brought nothing, and nothing is known of the base: halve as long as that costs
    /// nothing.
    Halving,
    /// Keep the queue.
    Tracking,
    /// Raised from that limit to see whether throughput follows.
    Probing { from: usize },
}

/// TCP Vegas for calls in flight: of those, `limit x (1 - base / latency)` wait inside the service.
///
/// After Brakmo and Peterson's congestion avoidance and Netflix's `VegasLimit`, with what those lack:
///
/// - **Rounds** of at least 50 calls, and of as many as the limit: a mean, with its standard error,
///   in place of single calls. The error is granted to the service before a queue is believed.
/// - **One round finds a new capacity**: a queue over `beta` is cut to `alpha` at once, by half the
///   limit at most; where no queue is left, each round in a row adds twice as much as the one before.
/// - **Slow start** doubles while throughput follows. If it does not follow the first time, the limit
///   was past the knee from the start: it is halved until that costs throughput, and set to what the
///   throughput before needed.
/// - **The base** falls by two rounds in a row only. It is looked for anew by *raising* the limit
///   while nothing is shed: if throughput follows, the service is slow and not full.
/// - **Drops** cut by the share of calls that were dropped, by 10 to 50 %, and the limit at which
///   that happened is not reached again for some rounds: twice as many each time it happens there.
/// - A round that used less than half of the limit changes nothing.
///
/// What it cannot see: a service whose workers become fewer and faster at once, so that throughput
/// and latency stay; the queue in it is longer than it need be then. A service that becomes ten times
/// faster while it is full is given up to four times as many calls as it needs, until less is asked
/// of it.
#[derive(Clone, Debug)]
pub struct Vegas {
    settings: VegasBuilder,
    value: Bounded,
    rounds: Rounds,
    base: Base,
    experiment: Experiment,
    phase: Phase,
    /// Rounds in this phase, or since the last change that latency made.
    quiet: u32,
    /// Quiet rounds until the base is looked for.
    patience: u32,
    /// Rounds in a row that found no queue.
    streak: u32,
    refused: Option<Refused>,
    recent_ns: Option<f64>,
    queue: Option<f64>,
}

impl Default for Vegas {
    fn default() -> Self {
        Vegas::with(VegasBuilder::default())
    }
}

impl Vegas {
    /// Rounds that are taken together where one does not tell.
    const PATIENT_ROUNDS: u64 = 8;
    /// Quiet rounds until the base is looked for the first time after a cut.
    const FIRST_PROBE: u32 = 8;
    /// The rounds after which an experiment without an answer is given up.
    const EXPERIMENT_ROUNDS: u32 = 16;

    /// Settings to change.
    #[must_use]
    pub fn builder() -> VegasBuilder {
        VegasBuilder::default()
    }

    fn with(settings: VegasBuilder) -> Vegas {
        Vegas {
            settings,
            value: Bounded::new("limit", settings.initial, settings.least, settings.most),
            rounds: Rounds::default(),
            base: Base::default(),
            experiment: Experiment::default(),
            phase: Phase::Doubling,
            quiet: 0,
            patience: Vegas::FIRST_PROBE.min(settings.probe_rounds),
            streak: 0,
            refused: None,
            recent_ns: None,
            queue: None,
        }
    }

    /// The queue that is aimed at: from, to, in calls.
    fn aim(&self) -> (f64, f64) {
        let scale = (self.value.get() as f64).log10().max(1.0);
        (self.settings.alpha * scale, self.settings.beta * scale)
    }

    fn set(&mut self, now: Time, in_flight: usize, to: f64, because: &'static str) {
        let limit = self.value.get() as f64;
        let top = self
            .refused
            .map_or(f64::INFINITY, |refused| refused.limit - 1.0);
        if self.value.set(now, to.min(top.max(limit)), because) {
            self.rounds.restart(now, in_flight);
        }
    }

    /// The highest limit that may be tried.
    fn top(&self) -> f64 {
        let most = self.value.most() as f64;
        self.refused
            .map_or(most, |refused| most.min(refused.limit - 1.0))
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.quiet = 0;
        self.streak = 0;
        if phase == Phase::Tracking {
            self.experiment.end();
        }
    }

    /// Sets out for another limit, to compare what happens there with what happened here.
    fn compare(&mut self, now: Time, in_flight: usize, to: f64, phase: Phase, why: &'static str) {
        self.experiment.begin();
        self.enter(phase);
        self.set(now, in_flight, to, why);
    }

    fn judge(&mut self, now: Time, in_flight: usize, round: &Round) {
        let limit = self.value.get();
        self.recent_ns = round.mean_ns.or(self.recent_ns);
        if round.drops > 0 {
            self.enter(Phase::Tracking);
            self.patience = Vegas::FIRST_PROBE.min(self.settings.probe_rounds);
            // Where calls were dropped before, a little less is known to be right.
            let known = self
                .refused
                .is_some_and(|before| before.is_known(limit as f64));
            let most = if known { 0.1 } else { 0.5 };
            self.refused = Some(Refused::again(self.refused, limit as f64));
            let share = round.drop_share().clamp(0.1, most);
            let to = (limit as f64 * (1.0 - share)).floor();
            return self.set(now, in_flight, to, "calls were dropped");
        }
        if let Some(refused) = &mut self.refused {
            refused.calm();
        }
        let most = self.value.most() as f64;
        self.refused = self.refused.filter(|refused| refused.limit <= most);
        let (Some(mean), Some(rate)) = (round.mean_ns, round.rate) else {
            return;
        };
        let queue = self.base.queue(limit as f64, mean, round.error);
        self.queue = Some(queue.likely);
        if !round.used(limit) {
            self.base.see(round, None);
            return self.rest(now, in_flight);
        }
        self.quiet += 1;
        if self.phase == Phase::Tracking && self.is_unsure(queue, round) {
            return self.rounds.reopen();
        }
        let held = self.phase == Phase::Tracking;
        let usual = self.experiment.here().filter(|_| held).map(|here| here.ns);
        self.base.see(round, usual);
        // Little's law: how much of the limit was in use on average.
        if mean * rate >= 0.7 * limit as f64 {
            self.experiment.see(limit, round);
        }
        match self.phase {
            Phase::Doubling => self.double(now, in_flight, limit),
            Phase::Halving => self.halve(now, in_flight, limit),
            Phase::Tracking => self.track(now, in_flight, queue),
            Phase::Probing { from } => self.probe(now, in_flight, from),
        }
    }

    /// Whether more calls could still decide what these did not.
    fn is_unsure(&self, queue: Queue, round: &Round) -> bool {
        let (alpha, beta) = self.aim();
        let too_long = queue.least > beta;
        let short = queue.most < alpha;
        let right = queue.least >= alpha && queue.most <= beta;
        let need = self.settings.round.max(self.value.get()) as u64;
        !(too_long || short || right) && round.ended < need * Vegas::PATIENT_ROUNDS
    }

    /// Little is asked for: latency says nothing about the limit, and an experiment has no answer.
    fn rest(&mut self, now: Time, in_flight: usize) {
        self.streak = 0;
        match self.phase {
            Phase::Doubling => self.experiment.end(),
            Phase::Probing { from } => {
                self.enter(Phase::Tracking);
                self.set(now, in_flight, from as f64, "the load fell while probing");
            }
            Phase::Halving | Phase::Tracking => self.enter(Phase::Tracking),
        }
    }

    fn double(&mut self, now: Time, in_flight: usize, limit: usize) {
        const UP: &str = "slow start: throughput follows";
        let Some(before) = self.experiment.before() else {
            if self.experiment.here().is_some() {
                let to = limit as f64 * 2.0;
                self.compare(now, in_flight, to, Phase::Doubling, "slow start");
            }
            return;
        };
        match self.verdict(0.5, 3.0) {
            Some(Verdict::Follows) => {
                self.prove();
                if limit == self.value.most() {
                    return self.enter(Phase::Tracking);
                }
                self.compare(now, in_flight, limit as f64 * 2.0, Phase::Doubling, UP);
            }
            Some(Verdict::Saturated) if self.base.is_proven() => {
                self.enter(Phase::Tracking);
                let knee = self.base.ns().unwrap_or(before.ns) * before.rate.max(0.0);
                let to = (knee + self.aim().0).clamp(before.limit, limit as f64);
                self.set(now, in_flight, to, "slow start is over: throughput stays");
            }
            Some(Verdict::Saturated) => {
                let why = "throughput stays: is there a queue already?";
                self.compare(now, in_flight, before.limit / 2.0, Phase::Halving, why);
            }
            Some(Verdict::Void) => self.enter(Phase::Tracking),
            None => {}
        }
    }

    /// What the experiment says; after enough rounds, what is likelier.
    fn verdict(&self, border: f64, follows: f64) -> Option<Verdict> {
        match self.experiment.verdict(border, follows, 2.0) {
            None if self.quiet >= Vegas::EXPERIMENT_ROUNDS => {
                // The limit was hardly moved, because calls were dropped not far above it.
                self.experiment.likely(border).or(Some(Verdict::Void))
            }
            verdict => verdict,
        }
    }

    fn halve(&mut self, now: Time, in_flight: usize, limit: usize) {
        let (Some(before), Some(here)) = (self.experiment.before(), self.experiment.here()) else {
            return;
        };
        // The knee may be anywhere between: that throughput fell at all tells that there is no queue
        // below.
        match self.verdict(0.25, 3.0) {
            Some(Verdict::Saturated) if limit == self.value.least() => {
                self.base.prove(here.ns, here.error);
                self.enter(Phase::Tracking);
            }
            Some(Verdict::Saturated) => {
                self.experiment.pool();
                let why = "halving cost no throughput";
                self.compare(now, in_flight, limit as f64 / 2.0, Phase::Halving, why);
            }
            Some(Verdict::Void) => self.enter(Phase::Tracking),
            Some(Verdict::Follows) => {
                // If that is so, throughput comes back with the limit.
                let why = "throughput fell: is this the knee?";
                self.compare(now, in_flight, before.limit, Phase::Doubling, why);
            }
            None => {}
        }
    }

    fn prove(&mut self) {
        if let Some((ns, error)) = self.experiment.unqueued() {
            self.base.prove(ns, error);
        }
    }

    fn track(&mut self, now: Time, in_flight: usize, queue: Queue) {
        let limit = self.value.get() as f64;
        let (alpha, beta) = self.aim();
        let none = alpha / self.settings.alpha.max(1.0);
        let step = limit.log10().max(1.0);
        let probe = (limit * self.experiment.factor()).max(limit + 1.0);
        let probe = probe.min(self.value.most() as f64);
        let streak = std::mem::take(&mut self.streak);
        if self.base.is_in_doubt() {
            return;
        }
        if queue.least > beta {
            self.quiet = 0;
            self.patience = Vegas::FIRST_PROBE.min(self.settings.probe_rounds);
            let to = (limit - (queue.least - alpha)).max(limit / 2.0);
            self.set(now, in_flight, to, "the queue is too long");
        } else if self.quiet > self.patience && self.top() >= probe && probe > 1.1 * limit {
            let phase = Phase::Probing {
                from: self.value.get(),
            };
            if self.experiment.here().is_some() {
                let why = "probe: does throughput follow?";
                self.compare(now, in_flight, probe, phase, why);
            }
        } else if queue.likely > beta {
            let why = "the queue is rather long";
            self.set(now, in_flight, limit - step, why);
        } else if queue.likely <= none && queue.most < beta {
            let more = alpha * f64::from(1_u32 << streak.min(30));
            self.streak = streak + 1;
            self.set(now, in_flight, limit + more.min(limit), "there is no queue");
        } else if queue.likely < alpha {
            self.set(now, in_flight, limit + step, "the queue is short");
        }
    }

    fn probe(&mut self, now: Time, in_flight: usize, from: usize) {
        let verdict = self.experiment.verdict(0.5, 3.0, 2.0);
        if verdict.is_none() && self.quiet < Vegas::EXPERIMENT_ROUNDS {
            return;
        }
        if verdict == Some(Verdict::Follows) {
            // Latency at the lower limit was no queue: the service has become slow.
            self.prove();
            self.patience = Vegas::FIRST_PROBE.min(self.settings.probe_rounds);
            let to = self.value.get() as f64 * 2.0;
            let why = "the probe brought throughput";
            return self.compare(now, in_flight, to, Phase::Doubling, why);
        }
        if verdict == Some(Verdict::Saturated) && !self.base.is_proven() {
            let why = "throughput stays: is there a queue already?";
            return self.compare(now, in_flight, from as f64 / 2.0, Phase::Halving, why);
        }
        let most = self.settings.probe_rounds;
        self.patience = self.patience.saturating_mul(2).min(most);
        self.enter(Phase::Tracking);
        self.set(now, in_flight, from as f64, "the probe is over");
    }
}

impl Limit for Vegas {
    fn on_sample(&mut self, now: Time, sample: &Sample) {
        let need = self.settings.round.max(self.value.get());
        if let Some(round) = self.rounds.add(now, sample, need) {
            self.judge(now, sample.in_flight, &round);
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
            algorithm: "vegas",
            limit: self.value.get(),
            least: self.value.least(),
            most: self.value.most(),
            base: self.base.ns().map(nanos),
            recent: self.recent_ns.map(nanos),
            queue: self.queue,
            rounds: self.rounds.judged(),
            drops: self.rounds.drops(),
        }
    }
}
