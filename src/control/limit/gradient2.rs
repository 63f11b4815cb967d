//! A limit that compares latency with its own long average.

use super::base::Base;
use super::round::{Round, Rounds};
use super::{Limit, LimitSnapshot, check_bounds, nanos};
use crate::control::bounded::Bounded;
use crate::control::{History, Invalid, Sample};
use crate::time::Time;

/// The settings of a [`Gradient2`].
///
/// Defaults, after Netflix's `Gradient2Limit`: initial 20, 20 to 200, tolerance 1.5, queue 4,
/// smoothing 0.2, a long average of 600 rounds. Drift 1.5 and rounds of 10 calls are added here.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gradient2Builder {
    initial: usize,
    least: usize,
    most: usize,
    tolerance: f64,
    queue: usize,
    smoothing: f64,
    long: u32,
    drift: f64,
    round: usize,
}

impl Default for Gradient2Builder {
    fn default() -> Self {
        Gradient2Builder {
            initial: 20,
            least: 20,
            most: 200,
            tolerance: 1.5,
            queue: 4,
            smoothing: 0.2,
            long: 600,
            drift: 1.5,
            round: 10,
        }
    }
}

impl Gradient2Builder {
    range_setters!(20, 20, 200);

    /// How many times the long average latency may be before the limit shrinks: 1 to 100. Default
    /// 1.5.
    #[must_use]
    pub fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// Calls that may always be added to the limit: 1 to 10 000. Default 4.
    #[must_use]
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls;
        self
    }

    /// Which share of the way to its new value the limit goes in a round: above 0, at most 1.
    /// Default 0.2.
    #[must_use]
    pub fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// Over how many rounds the long average goes: 1 to 1 000 000. Default 600.
    #[must_use]
    pub fn long(mut self, rounds: u32) -> Self {
        self.long = rounds;
        self
    }

    /// How many times the latency without a queue the long average may become: 1 or more. Default
    /// 1.5. With [`f64::INFINITY`], as in the original, it learns overload as normal, and the limit
    /// drifts up as long as overload lasts.
    #[must_use]
    pub fn drift(mut self, times: f64) -> Self {
        self.drift = times;
        self
    }

    /// The calls of a round, at least; a limit above it makes rounds of as many calls as the limit.
    /// 1 to 1 000 000. Default 10.
    #[must_use]
    pub fn round(mut self, calls: usize) -> Self {
        self.round = calls;
        self
    }

    /// The limit.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<Gradient2, Invalid> {
        check_bounds(self.initial, self.least, self.most)?;
        Invalid::unless(
            (1.0..=100.0).contains(&self.tolerance),
            "tolerance",
            self.tolerance,
            "1 to 100",
        )?;
        let queue = (1..=10_000).contains(&self.queue);
        Invalid::unless(queue, "queue", self.queue, "1 to 10000")?;
        Invalid::unless(
            self.smoothing > 0.0 && self.smoothing <= 1.0,
            "smoothing",
            self.smoothing,
            "above 0, at most 1",
        )?;
        let long = (1..=1_000_000).contains(&self.long);
        Invalid::unless(long, "long", self.long, "1 to 1000000")?;
        Invalid::unless(self.drift >= 1.0, "drift", self.drift, "1 or more")?;
        let round = (1..=1_000_000).contains(&self.round);
        Invalid::unless(round, "round", self.round, "1 to 1000000")?;
        Ok(Gradient2::with(self))
    }
}

/// Netflix's `Gradient2Limit`: `limit = 0.8 limit + 0.2 (g limit + queue)`, where g is how much
/// longer than now calls take on average over a long time, `tolerance x long / short`, within 0.5
/// to 1.
///
/// It asks for no service time without a queue, so it follows services that change over hours. Two
/// known failures of the original are mended: it heeds drops (a round with drops multiplies by 0.9,
/// or by less where more were dropped, down to 0.5), and its long average is bounded by the least latency that two rounds in a
/// row have shown (times the drift), because under lasting overload the long average becomes the
/// overload's, and the limit drifts up without end. At its lowest (the lower bound, or twice the
/// queue) it learns latency as it is: what remains there is not of its making.
///
/// It keeps a longer queue than [`Vegas`](super::Vegas): the tolerance times the drift, so about
/// 2.25 times the knee by default.
#[derive(Clone, Debug)]
pub struct Gradient2 {
    settings: Gradient2Builder,
    value: Bounded,
    /// The limit before it is rounded: steps below one add up.
    exact: f64,
    rounds: Rounds,
    base: Base,
    long_ns: Option<f64>,
    recent_ns: Option<f64>,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Gradient2::with(Gradient2Builder::default())
    }
}

impl Gradient2 {
    /// Settings to change.
    #[must_use]
    pub fn builder() -> Gradient2Builder {
        Gradient2Builder::default()
    }

    fn with(settings: Gradient2Builder) -> Gradient2 {
        Gradient2 {
            settings,
            value: Bounded::new("limit", settings.initial, settings.least, settings.most),
            exact: settings.initial as f64,
            rounds: Rounds::default(),
            base: Base::default(),
            long_ns: None,
            recent_ns: None,
        }
    }

    fn set(&mut self, now: Time, to: f64, because: &'static str) {
        self.exact = to.clamp(self.value.least() as f64, self.value.most() as f64);
        self.value.set(now, self.exact, because);
    }

    /// Takes the round into the long average, which it returns.
    ///
    /// At its lower bound, and where all that the gradient can take off is what the queue adds, the
    /// limit has done what it can: the base learns latency as it is there.
    fn average(&mut self, short: f64, round: &Round) -> f64 {
        self.base.see(round, None);
        let base = self.base.ns().unwrap_or(short);
        let (limit, least) = (self.value.get(), self.value.least());
        let lowest = least.max(2 * self.settings.queue);
        if limit <= lowest && least < self.value.most() && short > base {
            self.base.prove(base + 0.05 * (short - base), round.error);
        }
        let cap = self.settings.drift * self.base.ns().unwrap_or(short);
        let weight = 2.0 / (f64::from(self.settings.long) + 1.0);
        let long = self.long_ns.unwrap_or(short);
        let mut long = long + weight * (short - long);
        if long > 2.0 * short {
            // Load is gone: the average must not take 600 rounds to see it.
            long *= 0.95;
        }
        let long = long.min(cap);
        self.long_ns = Some(long);
        long
    }
}

impl Limit for Gradient2 {
    fn on_sample(&mut self, now: Time, sample: &Sample) {
        let limit = self.value.get();
        let need = self.settings.round.max(limit);
        let Some(round) = self.rounds.add(now, sample, need) else {
            return;
        };
        self.recent_ns = round.mean_ns.or(self.recent_ns);
        if round.drops > 0 {
            let share = round.drop_share().clamp(0.1, 0.5);
            let to = (limit as f64 * (1.0 - share)).floor();
            self.set(now, to, "calls were dropped");
            return self.rounds.restart(now, sample.in_flight);
        }
        let Some(short) = round.mean_ns else {
            return;
        };
        let long = self.average(short, &round);
        if !round.used(limit) {
            return;
        }
        let ratio = if short > 0.0 {
            self.settings.tolerance * long / short
        } else {
            1.0
        };
        let gradient = ratio.clamp(0.5, 1.0);
        let aim = gradient * self.exact + self.settings.queue as f64;
        let to = self.exact + self.settings.smoothing * (aim - self.exact);
        let because = if to < self.exact {
            "calls take longer than on average"
        } else {
            "calls take no longer than on average"
        };
        self.set(now, to, because);
    }

    fn limit(&self) -> usize {
        self.value.get()
    }

    fn adjustments(&self) -> &History {
        self.value.history()
    }

    fn snapshot(&self) -> LimitSnapshot {
        let queue = self.recent_ns.map(|mean| {
            let limit = self.value.get() as f64;
            self.base.queue(limit, mean, 0.0).likely
        });
        LimitSnapshot {
            algorithm: "gradient2",
            limit: self.value.get(),
            least: self.value.least(),
            most: self.value.most(),
            base: self.base.ns().map(nanos),
            recent: self.recent_ns.map(nanos),
            queue,
            rounds: self.rounds.judged(),
            drops: self.rounds.drops(),
        }
    }
}
