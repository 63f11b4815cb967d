//! Where an emergency stands, and what happens in one.

use std::fmt;
use std::time::Duration;

use crate::time::Time;

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

impl fmt::Display for EmergencyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmergencyEvent::Alert {
                episode,
                load,
                limit,
                capacity,
                ..
            } => write!(
                f,
                "emergency {episode}: a load of {load:.0} is over {limit:.0}; only the highest class \
                 passes, capacity {capacity}"
            ),
            EmergencyEvent::Eased { capacity, .. } => {
                write!(f, "emergency: the load was calm; capacity {capacity}")
            }
            EmergencyEvent::Relapsed { load, capacity, .. } => write!(
                f,
                "emergency: the load rose again, to {load:.0}; capacity {capacity}"
            ),
            EmergencyEvent::Over { lasted, .. } => write!(f, "emergency: over after {lasted:?}"),
        }
    }
}

/// How an [`Emergency`](super::Emergency) stands.
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
