//! The last resort: only the dearest class, and little of it at once.

use std::fmt;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

use super::Gate;

mod settings;
#[cfg(test)]
mod tests;

pub use settings::EmergencySettings;

/// An emergency has begun.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Alert {
    /// When.
    pub at: Time,
    /// What was offered.
    pub load: f64,
    /// What can be served, in the same unit.
    pub capacity: f64,
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = self.load / self.capacity;
        write!(
            f,
            "emergency: a load of {} is {times:.1} times the capacity, {}",
            self.load, self.capacity
        )
    }
}

/// Where the way back has got to.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Mode {
    capacity: f64,
    /// How many classes are let in.
    classes: usize,
    calm_since: Option<Time>,
}

/// Lets only the dearest class in while the load is far over the capacity.
///
/// # Invariants
/// - One alert for each emergency: none for the relapses on its way back.
/// - An emergency begins at once, and ends in steps, each explained.
/// - The load is what is *offered*: what is refused counts, or the emergency would end itself.
///
/// # Example
/// ```
/// use forebay::class::Class;
/// use forebay::control::{Emergency, EmergencySettings};
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let mut emergency = Emergency::new(EmergencySettings::a5())?;
/// assert_eq!(emergency.on_load(Time::ZERO, 150.0, 100.0), None, "not over 1.5 times");
/// assert!(emergency.on_load(Time::ZERO, 151.0, 100.0).is_some());
/// assert!(emergency.admits(Class::HIGH) && !emergency.admits(Class::MEDIUM));
/// assert_eq!(emergency.capacity(), Some(10));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Emergency {
    settings: EmergencySettings,
    mode: Option<Mode>,
    alerts: u64,
    history: History,
}

impl Emergency {
    /// Starts as normal.
    ///
    /// # Errors
    /// As [`EmergencySettings::check`].
    pub fn new(settings: EmergencySettings) -> Result<Emergency, Invalid> {
        settings.check()?;
        Ok(Emergency {
            settings,
            mode: None,
            alerts: 0,
            history: History::default(),
        })
    }

    /// The load that is offered now, and the normal capacity in the same unit: elements a second, or
    /// at once. Returns the alert if an emergency begins. A capacity of nothing is not known yet.
    pub fn on_load(&mut self, now: Time, load: f64, capacity: f64) -> Option<Alert> {
        let is_known = capacity > 0.0 && load.is_finite();
        if !is_known {
            return None;
        }
        if load > self.settings.over * capacity {
            return self.begin(now, load, capacity);
        }
        let mut mode = self.mode?;
        if load > self.settings.until * capacity {
            mode.calm_since = None;
        } else {
            let since = *mode.calm_since.get_or_insert(now);
            if now.since(since) >= self.settings.step {
                mode.calm_since = Some(now);
                self.mode = self.step(now, mode, capacity);
                return None;
            }
        }
        self.mode = Some(mode);
        None
    }

    fn begin(&mut self, now: Time, load: f64, capacity: f64) -> Option<Alert> {
        let least = (self.settings.capacity as f64).min(capacity);
        let classes = self.settings.keep.index() + 1;
        let begins = self.mode.is_none();
        let before = self.mode.unwrap_or(Mode {
            capacity,
            classes: Class::COUNT,
            calm_since: None,
        });
        let because = if begins {
            "the load is far over the capacity"
        } else {
            "the load is far over the capacity again"
        };
        self.tell(now, "capacity", before.capacity, least, because);
        let (from, to) = (before.classes as f64, classes as f64);
        self.tell(now, "classes", from, to, because);
        self.mode = Some(Mode {
            capacity: least,
            classes,
            calm_since: None,
        });
        if !begins {
            return None;
        }
        self.alerts += 1;
        Some(Alert {
            at: now,
            load,
            capacity,
        })
    }

    /// One step back; `None` if that was the last.
    fn step(&mut self, now: Time, mut mode: Mode, capacity: f64) -> Option<Mode> {
        let because = "the load has stayed within the capacity";
        if mode.capacity < capacity {
            let more = (mode.capacity * 2.0).min(capacity);
            self.tell(now, "capacity", mode.capacity, more, because);
            mode.capacity = more;
        } else {
            let classes = mode.classes + 1;
            self.tell(now, "classes", mode.classes as f64, classes as f64, because);
            mode.classes = classes;
        }
        // Beyond the three named classes there is no reason to let pipelines wait for each of eight.
        let all = mode.classes > Class::LOW.index() && mode.classes > self.settings.keep.index();
        let is_normal = mode.capacity >= capacity && all;
        (!is_normal).then_some(mode)
    }

    fn tell(&mut self, at: Time, what: &'static str, from: f64, to: f64, because: &'static str) {
        self.history.add(Adjustment {
            at,
            what,
            from,
            to,
            because,
        });
    }

    /// Whether that class is let in.
    #[must_use]
    pub fn admits(&self, class: Class) -> bool {
        self.mode.is_none_or(|mode| class.index() < mode.classes)
    }

    /// The threshold for a [`Gate`]: the lower of it and what [`Admission`](super::Admission) gives.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        let kept = self.mode.map(|mode| mode.classes);
        let first_out = kept.and_then(|classes| Class::new(classes as u8));
        first_out.map_or(Gate::ALL, |class| Gate::before(class, 0.0))
    }

    /// How much may be served, in the unit of the capacity; `None` while there is no emergency. At
    /// least 1.
    #[must_use]
    #[allow(clippy::cast_sign_loss)] // a capacity is not negative
    pub fn capacity(&self) -> Option<usize> {
        self.mode.map(|mode| (mode.capacity as usize).max(1))
    }

    /// Whether there is an emergency, or the way back from one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode.is_some()
    }

    /// How often an emergency began.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.alerts
    }

    /// Its last changes, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }
}
