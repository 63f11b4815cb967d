//! A whole number that stays within its bounds and explains how it came to be what it is.

use super::History;
use super::history::Adjustment;
use crate::time::Time;

/// The value of a controller.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    what: &'static str,
    value: usize,
    least: usize,
    most: usize,
    history: History,
}

impl Bounded {
    /// `least <= value <= most` must hold: builders check it.
    pub(super) fn new(what: &'static str, value: usize, least: usize, most: usize) -> Bounded {
        Bounded {
            what,
            value: value.clamp(least.min(most), most),
            least,
            most,
            history: History::default(),
        }
    }

    pub(super) fn get(&self) -> usize {
        self.value
    }

    pub(super) fn least(&self) -> usize {
        self.least
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// Sets the value to the nearest that is within the bounds. What is no number changes nothing.
    /// Whether the value is another one now.
    // Casts of floats saturate: what is below zero becomes 0, what is too large the largest.
    #[allow(clippy::cast_sign_loss)]
    pub(super) fn set(&mut self, now: Time, to: f64, because: &'static str) -> bool {
        if to.is_nan() {
            return false;
        }
        let from = self.value;
        self.value = (to.round().max(0.0) as usize).clamp(self.least, self.most);
        self.history.add(Adjustment {
            at: now,
            what: self.what,
            from: from as f64,
            to: self.value as f64,
            because,
        });
        self.value != from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_whatever_it_is_set_to() {
        let mut value = Bounded::new("limit", 5, 2, 9);
        for (to, then) in [
            (7.4, 7),
            (f64::NAN, 7),
            (f64::INFINITY, 9),
            (-3.0, 2),
            (f64::NEG_INFINITY, 2),
        ] {
            value.set(Time::ZERO, to, "a test");
            assert_eq!(value.get(), then, "set to {to}");
        }
        assert_eq!(
            value.history().total(),
            3,
            "what changes nothing is no adjustment"
        );
    }
}
