//! How admission is declared.

use std::time::Duration;

use crate::class::Class;
use crate::control::Invalid;

/// How admission is declared.
///
/// Default: windows of 10 ms, a target of 5 ms of work in the queue, HIGH protected.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdmissionSettings {
    pub(super) target: Duration,
    pub(super) window: Duration,
    pub(super) protected: Option<Class>,
    pub(super) correction: f64,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        AdmissionSettings::target(Duration::from_millis(5))
    }
}

impl AdmissionSettings {
    /// How much work should wait in the queue under overload, as the time to serve it: 1 us to 60 s.
    /// Long enough that the workers do not run dry, and short enough for the deadlines. What one worker
    /// with exponential service times completes at twice to ten times its capacity, in simulated time:
    /// 0.99 of its capacity with a target of 50 service times, 0.97 with 10, 0.92 with 5; windows of up
    /// to twice the target cost another 0.02.
    #[must_use]
    pub fn target(delay: Duration) -> AdmissionSettings {
        AdmissionSettings {
            target: delay,
            window: Duration::from_millis(10),
            protected: Some(Class::HIGH),
            correction: 0.3,
        }
    }

    /// How often the threshold is set: 10 us to 10 s. The load is followed within one or two of them;
    /// one should see 10 elements served and more. (Fewer are smoothed over more windows.)
    #[must_use]
    pub fn window(mut self, window: Duration) -> AdmissionSettings {
        self.window = window;
        self
    }

    /// A long queue alone never cuts into that class and those above, as long as what they offer is
    /// within the capacity: only what exceeds it does. `None` protects no class.
    #[must_use]
    pub fn protect(mut self, class: impl Into<Option<Class>>) -> AdmissionSettings {
        self.protected = class.into();
        self
    }

    /// Which share of the queue's distance from its target is corrected in a window: 0 to 0.8,
    /// default 0.3. 0 leaves only the feed-forward part, which never empties a queue that it has let
    /// grow; more than 0.8 overshoots.
    #[must_use]
    pub fn correction(mut self, share: f64) -> AdmissionSettings {
        self.correction = share;
        self
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The setting that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |value: Duration, least_us: u64, most_s: u64| {
            value >= Duration::from_micros(least_us) && value <= Duration::from_secs(most_s)
        };
        let (target, window) = (self.target, self.window);
        Invalid::unless(
            within(target, 1, 60),
            "target",
            format!("{target:?}"),
            "1 us to 60 s",
        )?;
        Invalid::unless(
            within(window, 10, 10),
            "window",
            format!("{window:?}"),
            "10 us to 10 s",
        )?;
        let in_range = (0.0..=0.8).contains(&self.correction);
        Invalid::unless(in_range, "correction", self.correction, "0 to 0.8")
    }
}
