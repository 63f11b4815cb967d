//! How the emergency is declared.

use std::time::Duration;

use crate::class::Class;
use crate::control::Invalid;

/// How the emergency is declared.
///
/// Default: begins when the load is over 1.5 times the capacity; then only HIGH is let in, and 10 are
/// served at once. Each second with no more load than capacity is a step on the way back: the capacity
/// is doubled until it is the normal one again, then one class after another is let in.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmergencySettings {
    pub(super) over: f64,
    pub(super) until: f64,
    pub(super) keep: Class,
    pub(super) capacity: usize,
    pub(super) step: Duration,
}

impl Default for EmergencySettings {
    fn default() -> Self {
        EmergencySettings::a5()
    }
}

impl EmergencySettings {
    /// As the overload system declares it: over 1.5 times the capacity only HIGH, capacity 10.
    #[must_use]
    pub fn a5() -> EmergencySettings {
        EmergencySettings {
            over: 1.5,
            until: 1.0,
            keep: Class::HIGH,
            capacity: 10,
            step: Duration::from_secs(1),
        }
    }

    /// It begins when the load is over that many times the capacity, and the way back goes on while
    /// it is not over `until` times the capacity: 0 < `until` <= `times`.
    #[must_use]
    pub fn over(mut self, times: f64, until: f64) -> EmergencySettings {
        self.over = times;
        self.until = until;
        self
    }

    /// That class and those above are still let in.
    #[must_use]
    pub fn keep(mut self, class: Class) -> EmergencySettings {
        self.keep = class;
        self
    }

    /// How much is served at once, from 1. (Never more than the normal capacity.)
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> EmergencySettings {
        self.capacity = capacity;
        self
    }

    /// How long the load must stay low for each step of the way back.
    #[must_use]
    pub fn step(mut self, calm: Duration) -> EmergencySettings {
        self.step = calm;
        self
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The setting that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let in_range = self.over > 0.0 && self.over.is_finite();
        Invalid::unless(in_range, "over", self.over, "more than 0")?;
        let in_range = self.until > 0.0 && self.until <= self.over;
        Invalid::unless(in_range, "until", self.until, "more than 0, up to `over`")?;
        Invalid::unless(self.capacity > 0, "capacity", self.capacity, "1 and more")
    }
}
