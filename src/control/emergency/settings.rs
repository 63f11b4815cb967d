//! When an emergency begins, how deep it cuts, and how it ends.

use std::time::Duration;

use crate::control::Invalid;

/// What an [`Emergency`](super::Emergency) is told before it starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmergencySettings {
    pub(super) capacity: u64,
    pub(super) ratio: f64,
    pub(super) emergency_capacity: u64,
    pub(super) calm: f64,
    pub(super) hold: Duration,
}

impl EmergencySettings {
    /// For that capacity: engaged over 1.5 times of it, cut to a tenth (at least 1), and led back
    /// after each second at or below 1 time of it.
    #[must_use]
    pub fn new(capacity: u64) -> EmergencySettings {
        EmergencySettings {
            capacity,
            ratio: 1.5,
            emergency_capacity: (capacity / 10).max(1),
            calm: 1.0,
            hold: Duration::from_secs(1),
        }
    }

    /// The literal figures of the document: capacity 100, over 1.5 times of it, cut to 10. Led back
    /// after each second at or below 100: the document has no way back.
    #[must_use]
    pub fn a5() -> EmergencySettings {
        EmergencySettings::new(100).cut_to(10)
    }

    /// Over which multiple of the capacity it engages: 1 or more.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> EmergencySettings {
        self.ratio = ratio;
        self
    }

    /// The capacity of the emergency: 1 up to the whole capacity.
    #[must_use]
    pub fn cut_to(mut self, capacity: u64) -> EmergencySettings {
        self.emergency_capacity = capacity;
        self
    }

    /// At or below which multiple of the capacity the load is calm, above 0 and up to the ratio, and
    /// how long it must be for each step back.
    #[must_use]
    pub fn calm(mut self, ratio: f64, hold: Duration) -> EmergencySettings {
        self.calm = ratio;
        self.hold = hold;
        self
    }

    /// Refuses settings that cannot be.
    ///
    /// # Errors
    /// The setting, its value and its range.
    pub fn check(&self) -> Result<(), Invalid> {
        let EmergencySettings {
            capacity,
            ratio,
            emergency_capacity: cut,
            calm,
            hold,
        } = *self;
        Invalid::unless(capacity > 0, "capacity", capacity, "1 or more")?;
        let is_ratio = ratio.is_finite() && ratio >= 1.0;
        Invalid::unless(is_ratio, "ratio", ratio, "1 or more")?;
        let is_cut = (1..=capacity).contains(&cut);
        Invalid::unless(is_cut, "cut_to", cut, "1 to the capacity")?;
        let is_calm = calm > 0.0 && calm <= ratio;
        Invalid::unless(is_calm, "calm", calm, "above 0, up to the ratio")?;
        let is_hold = hold > Duration::ZERO;
        Invalid::unless(is_hold, "hold", format!("{hold:?}"), "more than 0")
    }
}
