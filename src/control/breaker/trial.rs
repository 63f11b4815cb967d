//! Half open: how many calls may be in flight, and what they say.

use super::settings::BreakerSettings;
use super::window::Tally;
use crate::time::Time;

/// What the calls of half open say so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// More calls may be in flight.
    More,
    /// It may close.
    Good,
    /// It must open again, for that reason.
    Bad(&'static str),
}

/// The steps of half open: each lets so many calls be in flight, and needs as many that ended.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    permits: usize,
    ended: Tally,
    /// Whether a call reported since the deadline was set.
    reported: bool,
    deadline: Option<Time>,
    within: std::time::Duration,
}

impl Trial {
    pub(super) fn new(settings: &BreakerSettings) -> Trial {
        Trial {
            permits: settings.half_open_first,
            ended: Tally::default(),
            reported: false,
            deadline: None,
            within: settings.half_open_within,
        }
    }

    pub(super) fn permits(&self) -> usize {
        self.permits
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    pub(super) fn on_start(&mut self, now: Time) {
        let within = self.within;
        self.deadline.get_or_insert_with(|| now + within);
    }

    /// No call is in flight, and the last was not made: the time starts with the next.
    pub(super) fn on_unused(&mut self) {
        if !self.reported {
            self.deadline = None;
        }
    }

    pub(super) fn on_end(&mut self, one: Tally) {
        self.ended.calls += one.calls;
        self.ended.failed += one.failed;
        self.ended.slow += one.slow;
        self.reported = true;
    }

    /// Judges what ended, and `aged` calls that hang. It opens again as soon as the rest of the step
    /// cannot make it good any more.
    pub(super) fn judge(&mut self, now: Time, settings: &BreakerSettings, aged: usize) -> Verdict {
        let needed = self.permits as f64;
        if self.ended.failed as f64 / needed >= settings.failure_rate {
            return Verdict::Bad("calls let through fail");
        }
        if (self.ended.slow + aged) as f64 / needed >= settings.slow_rate {
            return Verdict::Bad("calls let through are slow");
        }
        if self.ended.calls >= self.permits {
            if self.permits >= settings.half_open_most {
                return Verdict::Good;
            }
            self.permits = (self.permits * 2).min(settings.half_open_most);
            self.ended = Tally::default();
            self.reported = false;
            self.deadline = None;
            return Verdict::More;
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            if !self.reported {
                return Verdict::Bad("no call that was let through reported in time");
            }
            // Few calls come, but they end: the step goes on until there are enough.
            self.reported = false;
            self.deadline = None;
        }
        Verdict::Wait
    }
}
