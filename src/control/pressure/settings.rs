//! From where to where each signal counts.

use std::time::Duration;

use super::{Band, Signal};
use crate::control::Invalid;

/// What [`Pressure`](super::Pressure) is told before it starts.
///
/// | signal | low | high |
/// | --- | --- | --- |
/// | queue delay | 5 ms | 100 ms |
/// | slow calls | 0.1 | 0.5 |
/// | runtime lag | 1 ms | 20 ms |
/// | processor | 0.8 | 1.0 of the quota |
/// | memory | 0.7 | 0.9 of the limit |
/// | throttle | 10 ms | 500 ms |
///
/// Hysteresis: a tenth of the span from low to high. Forgotten after 1 s.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PressureSettings {
    pub(super) bands: [Option<Band>; Signal::COUNT],
    pub(super) hysteresis: f64,
    pub(super) stale_after: Duration,
}

impl Default for PressureSettings {
    fn default() -> PressureSettings {
        let band = |low, high| Some(Band { low, high });
        PressureSettings {
            bands: [
                band(0.005, 0.1),
                band(0.1, 0.5),
                band(0.001, 0.02),
                band(0.8, 1.0),
                band(0.7, 0.9),
                band(0.01, 0.5),
            ],
            hysteresis: 0.1,
            stale_after: Duration::from_secs(1),
        }
    }
}

impl PressureSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> PressureSettings {
        PressureSettings::default()
    }

    /// From where to where a signal counts, in its unit: seconds for the queue delay, the runtime
    /// lag and the throttle, shares for the others.
    #[must_use]
    pub fn band(mut self, signal: Signal, low: f64, high: f64) -> PressureSettings {
        self.bands[signal as usize] = Some(Band { low, high });
        self
    }

    /// Does not count a signal.
    #[must_use]
    pub fn without(mut self, signal: Signal) -> PressureSettings {
        self.bands[signal as usize] = None;
        self
    }

    /// By which share of the span from low to high a value must fall before its score does: 0 to
    /// below 1. Default 0.1.
    #[must_use]
    pub fn hysteresis(mut self, share: f64) -> PressureSettings {
        self.hysteresis = share;
        self
    }

    /// After which time a reading counts no more. Default 1 s.
    #[must_use]
    pub fn stale_after(mut self, span: Duration) -> PressureSettings {
        self.stale_after = span;
        self
    }

    /// Refuses settings that cannot be.
    ///
    /// # Errors
    /// The setting, its value and its range.
    pub fn check(&self) -> Result<(), Invalid> {
        for (signal, band) in Signal::ALL.into_iter().zip(self.bands) {
            let Some(Band { low, high }) = band else {
                continue;
            };
            let name = signal.name();
            Invalid::unless(low.is_finite() && low >= 0.0, name, low, "low: 0 or more")?;
            let is_higher = high.is_finite() && high > low;
            Invalid::unless(is_higher, name, high, "high: more than low")?;
        }
        let share = self.hysteresis;
        Invalid::unless(
            (0.0..1.0).contains(&share),
            "hysteresis",
            share,
            "0 to below 1",
        )?;
        Invalid::unless(
            self.stale_after > Duration::ZERO,
            "stale_after",
            format!("{:?}", self.stale_after),
            "more than 0",
        )
    }
}
