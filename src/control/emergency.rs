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

use std::fmt;
use std::time::Duration;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

/// What an [`Emergency`] is told before it starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmergencySettings {
    capacity: u64,
    ratio: f64,
    emergency_capacity: u64,
    calm: f64,
    hold: Duration,
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

/// Where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmergencyMode {
    /// All classes pass, the capacity is whole.
    Normal,
    /// Only the highest class passes, the capacity is cut.
    Engaged,
    /// On the way back: the capacity grows, and MEDIUM passes once it is half of the whole one.
    Returning,
}

impl EmergencyMode {
    /// The name reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EmergencyMode::Normal => "normal",
            EmergencyMode::Engaged => "engaged",
            EmergencyMode::Returning => "returning",
        }
    }
}

impl fmt::Display for EmergencyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum EmergencyEvent {
    /// An episode begins: somebody is to be told, once.
    Alert {
        /// When.
        at: Time,
        /// Which episode, counted from 1.
        episode: u64,
        /// The load offered.
        load: f64,
        /// The load over which it engages.
        limit: f64,
        /// The capacity from now on.
        capacity: u64,
    },
    /// The load was calm: a step back.
    Eased {
        /// When.
        at: Time,
        /// The capacity from now on.
        capacity: u64,
    },
    /// The load rose again on the way back. The same episode goes on.
    Relapsed {
        /// When.
        at: Time,
        /// The load offered.
        load: f64,
        /// The capacity from now on.
        capacity: u64,
    },
    /// The capacity is whole, all classes pass: the episode is over.
    Over {
        /// When.
        at: Time,
        /// How long the episode was.
        lasted: Duration,
    },
}

/// How an [`Emergency`] stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EmergencySnapshot {
    /// Where it stands.
    pub mode: EmergencyMode,
    /// How much may be done now.
    pub capacity: u64,
    /// How much may be done when nothing is wrong.
    pub whole: u64,
    /// The load over which it engages.
    pub limit: f64,
    /// The load it was told last.
    pub load: f64,
    /// How many episodes there were.
    pub episodes: u64,
    /// When this episode began; `None` while nothing is wrong.
    pub since: Option<Time>,
}

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
        match self.mode {
            EmergencyMode::Normal => true,
            EmergencyMode::Engaged => class <= Class::HIGH,
            EmergencyMode::Returning => {
                let half = self.capacity.saturating_mul(2) >= self.settings.capacity;
                class <= if half { Class::MEDIUM } else { Class::HIGH }
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Time {
        Time::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn a_load_that_swings_alerts_once_an_episode() {
        let mut emergency = Emergency::a5();
        let mut alerts = 0;
        for n in 0..100 {
            let load = if n % 2 == 0 { 200.0 } else { 50.0 };
            let event = emergency.on_load(seconds(n), load);
            alerts += u64::from(matches!(event, Some(EmergencyEvent::Alert { .. })));
        }
        assert_eq!(alerts, 1);
        for n in 100..110 {
            emergency.on_load(seconds(n), 50.0);
        }
        assert_eq!(emergency.mode(), EmergencyMode::Normal);
        let again = emergency.on_load(seconds(200), 151.0);
        assert!(matches!(
            again,
            Some(EmergencyEvent::Alert { episode: 2, .. })
        ));
    }

    #[test]
    fn between_calm_and_the_ratio_it_stays_where_it_is() {
        let mut emergency = Emergency::a5();
        emergency.on_load(seconds(0), 151.0);
        for n in 1..100 {
            assert_eq!(emergency.on_load(seconds(n), 120.0), None);
        }
        let snapshot = emergency.snapshot();
        assert_eq!(snapshot.mode, EmergencyMode::Engaged);
        assert_eq!((snapshot.capacity, snapshot.whole), (10, 100));
        assert_eq!((snapshot.load, snapshot.limit), (120.0, 150.0));
        assert_eq!((snapshot.episodes, snapshot.since), (1, Some(seconds(0))));
        assert_eq!(Emergency::a5().snapshot().since, None);
    }

    #[test]
    fn impossible_settings_are_named() {
        let field = |settings| Emergency::new(settings).unwrap_err().field;
        let new = EmergencySettings::new;
        assert_eq!(field(new(0)), "capacity");
        assert_eq!(field(new(10).ratio(0.5)), "ratio");
        assert_eq!(field(new(10).cut_to(11)), "cut_to");
        assert_eq!(field(new(10).calm(2.0, Duration::from_secs(1))), "calm");
        assert_eq!(field(new(10).calm(1.0, Duration::ZERO)), "hold");
    }

    proptest! {
        #[test]
        fn whatever_the_load_it_stays_within_its_bounds(
            loads in proptest::collection::vec((0..2000_u64, 0.0..400.0_f64), 1..200),
        ) {
            let mut emergency = Emergency::a5();
            let (mut now, mut grown, mut inside) = (Time::ZERO, Time::ZERO, false);
            for (after, load) in loads {
                now = now + Duration::from_millis(after);
                let before = emergency.capacity();
                match emergency.on_load(now, load) {
                    Some(EmergencyEvent::Alert { .. }) => {
                        prop_assert!(!inside, "two alerts in one episode");
                        prop_assert!(load > 150.0);
                        inside = true;
                    }
                    Some(EmergencyEvent::Over { .. }) => {
                        prop_assert!(inside);
                        inside = false;
                    }
                    _ => {}
                }
                let capacity = emergency.capacity();
                prop_assert!((10..=100).contains(&capacity) && capacity <= before * 2);
                if capacity > before {
                    prop_assert!(now.since(grown) >= Duration::from_secs(1) && load <= 100.0);
                    grown = now;
                }
                prop_assert_eq!(inside, emergency.mode() != EmergencyMode::Normal);
                prop_assert!(emergency.admits(Class::HIGH));
                prop_assert_eq!(emergency.admits(Class::LOW), !inside);
                prop_assert_eq!(load > 150.0, emergency.mode() == EmergencyMode::Engaged && load > 150.0);
            }
        }
    }
}
