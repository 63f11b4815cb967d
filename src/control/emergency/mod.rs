//! An admission mode for emergencies: under too much load only the highest class passes.
//!
//! [`Emergency`] is told the load that is *offered*, in the unit of its capacity (elements a second,
//! calls in flight: as the owner measures). Over the ratio it lets only the highest class pass and cuts
//! the capacity; once the load has been low for a while it leads back in steps.
//!
//! ```text
//!           load > ratio x capacity            load <= calm x capacity for `hold`
//!  normal ---------------------------> engaged ---------------------------------> returning
//!     ^                                   ^                                           |
//!     |                                   +--------- load > ratio x capacity ---------+
//!     |                                                                               |
//!     +------------------- capacity doubled each `hold`, until it is whole -----------+
//! ```
//!
//! # Invariants
//! - One alert an episode, when it begins: an episode lasts until the capacity is whole again, so a
//!   load that goes up and down does not call anybody twice.
//! - The highest class always passes.
//! - The capacity lies between the emergency's and the whole one, and never grows by more than twice
//!   within `hold`.
//! - Each change is kept in the [`History`] with its reason.
//!
//! [`EmergencyHandle`] is one emergency for many stages: it counts their offers itself.
//!
//! It is not the breaker's open state: a breaker cuts off a destination that does not answer,
//! whatever the class; load alone sheds.
//!
//! # Example
//! ```
//! use forebay::class::Class;
//! use forebay::control::{Emergency, EmergencyEvent};
//! use forebay::time::Time;
//!
//! let mut emergency = Emergency::a5();
//! assert_eq!(emergency.on_load(Time::ZERO, 150.0), None, "1.5 times is not over it");
//! let event = emergency.on_load(Time::ZERO, 151.0);
//! assert!(matches!(event, Some(EmergencyEvent::Alert { .. })));
//! assert!(emergency.admits(Class::HIGH) && !emergency.admits(Class::MEDIUM));
//! assert_eq!(emergency.capacity(), 10);
//! ```

mod event;
mod handle;
mod settings;
#[cfg(test)]
mod tests;

pub use event::{EmergencyEvent, EmergencyMode, EmergencySnapshot};
pub use handle::EmergencyHandle;
pub use settings::EmergencySettings;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

/// The state machine. `now` is an argument and never goes back.
#[derive(Clone, Debug)]
pub struct Emergency {
    settings: EmergencySettings,
    mode: EmergencyMode,
    capacity: u64,
    load: f64,
    episodes: u64,
    began: Time,
    /// Since when the load is calm, or the last step back.
    calm_since: Option<Time>,
    history: History,
}

impl Emergency {
    /// Nothing is wrong yet.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(settings: EmergencySettings) -> Result<Emergency, Invalid> {
        settings.check()?;
        Ok(Emergency::start(settings))
    }

    /// With the literal figures of [`EmergencySettings::a5`].
    #[must_use]
    pub fn a5() -> Emergency {
        Emergency::start(EmergencySettings::a5())
    }

    fn start(settings: EmergencySettings) -> Emergency {
        Emergency {
            settings,
            mode: EmergencyMode::Normal,
            capacity: settings.capacity,
            load: 0.0,
            episodes: 0,
            began: Time::ZERO,
            calm_since: None,
            history: History::default(),
        }
    }

    /// The load that is offered now, refused elements counted. A load that is no number is not taken.
    pub fn on_load(&mut self, now: Time, load: f64) -> Option<EmergencyEvent> {
        if load.is_nan() {
            return None;
        }
        self.load = load;
        let (whole, limit) = (self.settings.capacity as f64, self.limit());
        if load > limit {
            self.calm_since = None;
            return self.engage(now, load, limit);
        }
        if self.mode == EmergencyMode::Normal {
            return None;
        }
        if load > self.settings.calm * whole {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.since(since) < self.settings.hold {
            return None;
        }
        self.calm_since = Some(now);
        Some(self.ease(now))
    }

    fn limit(&self) -> f64 {
        self.settings.ratio * self.settings.capacity as f64
    }

    fn engage(&mut self, now: Time, load: f64, limit: f64) -> Option<EmergencyEvent> {
        let capacity = self.settings.emergency_capacity;
        match self.mode {
            EmergencyMode::Engaged => None,
            EmergencyMode::Normal => {
                self.episodes += 1;
                self.began = now;
                self.set(
                    now,
                    EmergencyMode::Engaged,
                    capacity,
                    "the load is over the ratio",
                );
                Some(EmergencyEvent::Alert {
                    at: now,
                    episode: self.episodes,
                    load,
                    limit,
                    capacity,
                })
            }
            EmergencyMode::Returning => {
                self.set(now, EmergencyMode::Engaged, capacity, "the load rose again");
                Some(EmergencyEvent::Relapsed {
                    at: now,
                    load,
                    capacity,
                })
            }
        }
    }

    fn ease(&mut self, now: Time) -> EmergencyEvent {
        let capacity = (self.capacity.saturating_mul(2)).min(self.settings.capacity);
        if capacity < self.settings.capacity {
            self.set(now, EmergencyMode::Returning, capacity, "the load was calm");
            return EmergencyEvent::Eased { at: now, capacity };
        }
        self.set(now, EmergencyMode::Normal, capacity, "the load stayed calm");
        self.calm_since = None;
        EmergencyEvent::Over {
            at: now,
            lasted: now.since(self.began),
        }
    }

    fn set(&mut self, now: Time, mode: EmergencyMode, capacity: u64, because: &'static str) {
        let mut adjust = |what, from: f64, to: f64| {
            self.history.add(Adjustment {
                at: now,
                what,
                from,
                to,
                because,
            });
        };
        adjust("mode", f64::from(self.mode as u8), f64::from(mode as u8));
        adjust("capacity", self.capacity as f64, capacity as f64);
        (self.mode, self.capacity) = (mode, capacity);
    }

    /// Whether an element of that class passes now.
    #[must_use]
    pub fn admits(&self, class: Class) -> bool {
        class <= self.lowest()
    }

    /// The lowest class that passes now.
    #[must_use]
    pub fn lowest(&self) -> Class {
        let half = self.capacity.saturating_mul(2) >= self.settings.capacity;
        match self.mode {
            EmergencyMode::Normal => Class::LOWEST,
            EmergencyMode::Returning if half => Class::MEDIUM,
            EmergencyMode::Engaged | EmergencyMode::Returning => Class::HIGH,
        }
    }

    /// How much may be done now, in the unit of the declared capacity.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where it stands.
    #[must_use]
    pub fn mode(&self) -> EmergencyMode {
        self.mode
    }

    /// How many episodes there were, one alert each.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// The last changes of mode and capacity, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> EmergencySnapshot {
        EmergencySnapshot {
            mode: self.mode,
            capacity: self.capacity,
            whole: self.settings.capacity,
            limit: self.limit(),
            load: self.load,
            episodes: self.episodes,
            since: (self.mode != EmergencyMode::Normal).then_some(self.began),
        }
    }
}
