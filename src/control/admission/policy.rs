//! Where the threshold lies.

use std::time::Duration;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

use super::estimate::Estimate;
use super::{AdmissionSettings, Forecast, Gate};

/// The most by which a queue that is too long lowers what is admitted, and one too short raises it.
const TRIM: std::ops::RangeInclusive<f64> = -0.5..=0.25;
/// The share of the correction that the integral part takes on in a window. (A loop in which the
/// queue sums up what is too much, and which corrects `a` of it in a window, is critically damped at
/// `a / 4`; it is half of that here because counts are noisy.)
const INTEGRAL: f64 = 0.125;
/// Protected classes are cut when their queue alone would be that many times the target: at nine
/// tenths of the capacity chance alone makes it so less than once in 10^9 elements.
const PROTECTED_QUEUE: f64 = 4.0;
/// A reject ratio that changes by less is not worth telling.
const WORTH_TELLING: f64 = 0.05;

/// What was seen since the last window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct AdmissionWindow {
    /// Offers of each class, refused ones included.
    pub offered: [u64; Class::COUNT],
    /// Elements whose service ended.
    pub completed: u64,
    /// How long the workers served, summed over them.
    pub busy: Duration,
    /// How many may be served at once.
    pub workers: usize,
    /// Elements that waited for service at the end of the window.
    pub queued: usize,
}

/// How an admission policy stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdmissionSnapshot {
    /// What is offered, all classes together.
    pub offered_per_s: f64,
    /// What can be served; 0 while nobody knows.
    pub capacity_per_s: f64,
    /// How long the queue takes to serve.
    pub queue_delay: Duration,
    /// The share of the offers that is refused, as intended: 0 to 1.
    pub reject_ratio: f64,
    /// By which share what is admitted differs from the capacity, for the queue's sake.
    pub trim: f64,
    /// The threshold of the [`Gate`].
    pub threshold: u32,
    /// Windows so far.
    pub windows: u64,
}

impl AdmissionSnapshot {
    /// Before the first window.
    pub(super) fn nothing_yet() -> AdmissionSnapshot {
        AdmissionSnapshot {
            offered_per_s: 0.0,
            capacity_per_s: 0.0,
            queue_delay: Duration::ZERO,
            reject_ratio: 0.0,
            trim: 0.0,
            threshold: Gate::ALL,
            windows: 0,
        }
    }
}

/// Sets the threshold of a [`Gate`], once a window. See the [module](super).
#[derive(Clone, Debug)]
pub struct Admission {
    settings: AdmissionSettings,
    offered: [Estimate; Class::COUNT],
    capacity: Estimate,
    service: Duration,
    /// The share of the capacity that may be used.
    cap: f64,
    integral: f64,
    /// How long the protected classes' queue would take to serve if there were no others.
    protected_s: f64,
    last: Time,
    told_ratio: f64,
    seen: AdmissionSnapshot,
    history: History,
}

impl Admission {
    /// Admits everything until it has seen a window.
    ///
    /// # Errors
    /// As [`AdmissionSettings::check`].
    pub fn new(settings: AdmissionSettings, now: Time) -> Result<Admission, Invalid> {
        settings.check()?;
        Ok(Admission {
            settings,
            offered: [Estimate::default(); Class::COUNT],
            capacity: Estimate::default(),
            service: Duration::ZERO,
            cap: 1.0,
            integral: 0.0,
            protected_s: 0.0,
            last: now,
            told_ratio: 0.0,
            seen: AdmissionSnapshot::nothing_yet(),
            history: History::default(),
        })
    }

    /// When the window ends: call [`Admission::on_window`] then or soon after.
    #[must_use]
    pub fn window_ends(&self) -> Time {
        self.last + self.settings.window
    }

    /// From the next window on at most that share of the capacity is let in, protected classes aside:
    /// 0 to 1, at first 1. An [`Emergency`](crate::control::Emergency) leads back by it.
    pub fn cap(&mut self, share: f64) {
        self.cap = share.clamp(0.0, 1.0);
    }

    /// A window has ended. Returns the threshold for the [`Gate`]. (No time since the last window:
    /// nothing changes.)
    pub fn on_window(&mut self, now: Time, seen: &AdmissionWindow) -> u32 {
        let span_s = now.since(self.last).as_secs_f64();
        if span_s <= 0.0 {
            return self.seen.threshold;
        }
        self.last = now;
        self.seen.windows += 1;
        for (rate, count) in self.offered.iter_mut().zip(seen.offered) {
            rate.count(count, span_s);
        }
        self.learn_capacity(seen);
        let offered: f64 = self.offered.iter().map(Estimate::per_s).sum();
        let capacity = self.capacity.per_s();
        self.seen.offered_per_s = offered;
        self.seen.capacity_per_s = capacity;
        if capacity <= 0.0 {
            return self.seen.threshold;
        }
        let delay_s = (seen.queued as f64 / capacity).min(1e6);
        self.seen.queue_delay = Duration::from_secs_f64(delay_s);
        self.trim(delay_s, span_s, offered > capacity);
        self.queue_protected(seen, span_s);
        let capped = capacity * self.cap;
        let admitted = if offered > capped {
            self.admitted(capped)
        } else {
            offered
        };
        let ratio = (1.0 - admitted / offered.max(f64::MIN_POSITIVE)).max(0.0);
        self.tell(now, ratio);
        self.seen.reject_ratio = ratio;
        self.seen.threshold = self.threshold(admitted);
        self.seen.threshold
    }

    /// What the workers could serve if they always had something to do. A window in which nothing was
    /// completed says nothing, and one with less than half of what was expected is believed half:
    /// workers that stand still for a while have not become slower for good, and to refuse everything
    /// would not help them.
    fn learn_capacity(&mut self, seen: &AdmissionWindow) {
        if seen.completed == 0 || seen.workers == 0 {
            return;
        }
        let busy_s = seen.busy.as_secs_f64();
        let before = self.capacity.per_s();
        let span_s = busy_s / seen.workers as f64;
        self.capacity.count(seen.completed, span_s);
        self.capacity.at_least(before / 2.0);
        let capacity = self.capacity.per_s();
        if capacity > 0.0 {
            let service_s = (seen.workers as f64 / capacity).min(1e6);
            self.service = Duration::from_secs_f64(service_s);
        }
    }

    /// By how much more or less than the capacity is admitted for the queue's sake: a proportional
    /// and an integral part, in units in which an error of one is corrected by `correction` in one
    /// window, whatever the window and the target. It is a share of what is admitted and not of what
    /// is offered: at ten times the capacity the same step of the reject ratio is a ten times greater
    /// error.
    fn trim(&mut self, delay_s: f64, span_s: f64, is_overloaded: bool) {
        let target_s = self.settings.target.as_secs_f64();
        let error = ((delay_s - target_s) / target_s).clamp(-1.0, 3.0);
        let gain = self.settings.correction * target_s / span_s;
        if is_overloaded {
            let sum = self.integral + gain * INTEGRAL * error;
            self.integral = sum.clamp(-TRIM.end(), -TRIM.start());
        } else {
            // What was summed up in one overload is nothing to the next.
            self.integral /= 2.0;
        }
        let trim = -(gain * error + self.integral);
        self.seen.trim = trim.clamp(*TRIM.start(), *TRIM.end());
    }

    /// How long the queue of the protected classes would be if there were no others. Counts vary: a
    /// class that offers less than the capacity may exceed it in a window, and is not to be cut for
    /// that.
    fn queue_protected(&mut self, seen: &AdmissionWindow, span_s: f64) {
        let classes = self.protected_classes();
        let came: u64 = seen.offered.iter().take(classes).sum();
        let served_s = came as f64 / self.capacity.per_s() - span_s;
        let most_s = self.longest_protected_s() * 2.0;
        self.protected_s = (self.protected_s + served_s).clamp(0.0, most_s);
    }

    fn longest_protected_s(&self) -> f64 {
        PROTECTED_QUEUE * self.settings.target.as_secs_f64()
    }

    fn protected_classes(&self) -> usize {
        self.settings.protected.map_or(0, |class| class.index() + 1)
    }

    /// How much is admitted a second.
    fn admitted(&self, capacity: f64) -> f64 {
        let trimmed = capacity * (1.0 + self.seen.trim);
        let rates = self.offered.iter().take(self.protected_classes());
        let dear: f64 = rates.map(Estimate::per_s).sum();
        if self.protected_s > self.longest_protected_s() {
            trimmed.max(dear.min(capacity))
        } else {
            trimmed.max(dear)
        }
    }

    /// The threshold that admits so much a second, by what is offered of each class. (What rounding
    /// leaves out, a tenth of the capacity at times, shows in the queue and is made up for.)
    #[allow(clippy::cast_sign_loss)] // the parts are not negative
    fn threshold(&self, admitted: f64) -> u32 {
        let mut above = 0.0;
        for (class, rate) in self.offered.iter().map(Estimate::per_s).enumerate() {
            if above + rate <= admitted * (1.0 + f64::EPSILON * 8.0) {
                above += rate;
                continue;
            }
            let first = Gate::ALL / Class::COUNT as u32 * class as u32;
            let steps = f64::from(Gate::ALL / Class::COUNT as u32);
            let exact = steps * (admitted - above) / rate;
            return first + exact.round() as u32;
        }
        Gate::ALL
    }

    fn tell(&mut self, now: Time, ratio: f64) {
        let ends = ratio <= 0.0 && self.told_ratio > 0.0;
        if (ratio - self.told_ratio).abs() < WORTH_TELLING && !ends {
            return;
        }
        let excess = 1.0 - self.seen.capacity_per_s / self.seen.offered_per_s.max(1e-9);
        self.history.add(Adjustment {
            at: now,
            what: "reject_ratio",
            from: self.told_ratio,
            to: ratio,
            because: if ratio <= 0.0 {
                "the offers are within the capacity"
            } else if ratio > excess.max(0.0) + WORTH_TELLING {
                "the queue is longer than its target"
            } else if ratio < self.told_ratio {
                "the offers exceed the capacity by less"
            } else {
                "the offers exceed the capacity"
            },
        });
        self.told_ratio = ratio;
    }

    /// What an element that comes now has to expect.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        Forecast {
            capacity_per_s: self.seen.capacity_per_s,
            service: self.service,
        }
    }

    /// Its last changes, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> AdmissionSnapshot {
        self.seen
    }
}
