//! How much pressure there is: one number from 0 to 1, and why.
//!
//! [`Pressure`] scores each [`Signal`] from `low` (0) to `high` (1) and takes the greatest. It is
//! told what was measured as a [`Reading`]: the stage knows its queue and its calls, the
//! host the processor, the memory and the lag of the runtime.
//!
//! [`PressureHandle`] is one pressure for many stages.
//!
//! [`Thresholds`] is the plain test of a consumer that asks whether any of its figures is over its
//! limit, with its literal preset.
//!
//! # Invariants
//! - The score is that of the greatest signal, and within 0 to 1.
//! - A signal's score goes up at once, and down only when its value has fallen by more than the
//!   hysteresis: noise of less than that changes nothing.
//! - The processor counts only while elements wait.
//! - Memory is a gate besides: shut from `high` on, open again only below `high` less the hysteresis,
//!   whatever else is read.
//! - A signal that nobody has read for a while counts no more: what stopped reporting must not hold
//!   a pipeline for ever. The gate stays shut until memory is read again.
//!
//! # Where it comes from
//! The greatest of scores clamped between two bounds, the processor counted only with a queue:
//! kratos and Sentinel gate their CPU rule alike. The figure for the runtime lag follows `CockroachDB`'s
//! scheduling-latency listener, that for the queue delay folly's `CoDel` (5 and 100 ms).
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::{Pressure, PressureSettings, Reading, Signal};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let mut pressure = Pressure::new(PressureSettings::new())?;
//! let now = Time::ZERO;
//! pressure.read(now, Reading::Memory(0.6));
//! assert_eq!(pressure.score(now), 0.0, "memory counts from 0.7 to 0.9");
//! pressure.read(now, Reading::QueueDelay(Duration::from_millis(50)));
//! let why = pressure.explain(now);
//! assert_eq!(why.signal, Some(Signal::QueueDelay));
//! assert!(why.score > 0.4);
//! pressure.read(now, Reading::Memory(0.95));
//! assert!(pressure.gate_is_shut());
//! # Ok(()) }
//! ```

use std::fmt;
use std::time::Duration;

use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

mod handle;
mod settings;
mod signal;
mod thresholds;

#[cfg(test)]
mod tests;

pub use handle::{PressureHandle, PressureMember};
pub use settings::PressureSettings;
pub use signal::{Band, Reading, Signal};
pub use thresholds::{Breach, ConsumerReading, Consumption, Thresholds};

/// A value as it counts.
#[derive(Clone, Copy, Debug)]
struct Level {
    at: Time,
    /// What was read.
    value: f64,
    /// What counts: follows the value upwards at once, downwards at the distance of the hysteresis.
    held: f64,
}

/// Scores what is read. `now` is an argument and never goes back.
#[derive(Clone, Debug)]
pub struct Pressure {
    settings: PressureSettings,
    levels: [Option<Level>; Signal::COUNT],
    queued: usize,
    gate_is_shut: bool,
    /// The score and the signal of the last adjustment.
    told: (f64, Option<Signal>),
    history: History,
}

/// The pressure at one moment, and where it comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Explanation {
    /// When.
    pub at: Time,
    /// 0 to 1.
    pub score: f64,
    /// The signal with that score; `None` at 0.
    pub signal: Option<Signal>,
    /// What was last read of it, in its unit.
    pub value: f64,
    /// From where to where it counts.
    pub band: Option<Band>,
    /// The score of each signal; `None` where nothing was read of late, or it does not count.
    pub scores: [Option<f64>; Signal::COUNT],
    /// Whether memory allows nothing more to be taken in.
    pub gate_is_shut: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.score)?;
        if let (Some(signal), Some(band)) = (self.signal, self.band) {
            write!(
                f,
                ": {signal} is {}, which counts from {} to {}",
                self.value, band.low, band.high
            )?;
        }
        if self.gate_is_shut {
            f.write_str("; memory lets nothing more in")?;
        }
        Ok(())
    }
}

impl Pressure {
    /// No pressure yet.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(settings: PressureSettings) -> Result<Pressure, Invalid> {
        settings.check()?;
        Ok(Pressure {
            settings,
            levels: [None; Signal::COUNT],
            queued: 0,
            gate_is_shut: false,
            told: (0.0, None),
            history: History::default(),
        })
    }

    /// Something was measured. A value that is no number is not taken.
    pub fn read(&mut self, now: Time, reading: Reading) {
        if let Reading::Queued(queued) = reading {
            self.queued = queued;
        }
        if let Some((signal, value)) = reading.value().filter(|(_, value)| !value.is_nan()) {
            let slot = signal as usize;
            if let Some(band) = self.settings.bands[slot] {
                let give = self.settings.hysteresis * (band.high - band.low);
                let before = self.levels[slot].filter(|level| self.is_fresh(now, *level));
                let held = match before {
                    // At the low end a value has nowhere to fall to: there it counts as it is.
                    Some(level) if value > band.low => {
                        value.max(level.held.min(band.high).min(value + give))
                    }
                    _ => value,
                };
                self.levels[slot] = Some(Level {
                    at: now,
                    value,
                    held,
                });
                if signal == Signal::Memory {
                    self.turn_gate(now, value, band, give);
                }
            }
        }
        self.note(now);
    }

    fn turn_gate(&mut self, now: Time, value: f64, band: Band, give: f64) {
        let shut = value >= band.high || (self.gate_is_shut && value >= band.high - give);
        self.history.add(Adjustment {
            at: now,
            what: "gate_is_shut",
            from: f64::from(u8::from(self.gate_is_shut)),
            to: f64::from(u8::from(shut)),
            because: if shut {
                "memory is used up"
            } else {
                "memory is free again"
            },
        });
        self.gate_is_shut = shut;
    }

    fn is_fresh(&self, now: Time, level: Level) -> bool {
        now.since(level.at) <= self.settings.stale_after
    }

    fn score_of(&self, now: Time, signal: Signal) -> Option<f64> {
        let slot = signal as usize;
        let level = self.levels[slot].filter(|level| self.is_fresh(now, *level))?;
        let counts = signal != Signal::Cpu || self.queued > 0;
        let band = self.settings.bands[slot].filter(|_| counts)?;
        Some(band.score(level.held))
    }

    /// The greatest score and its signal; of two alike the faster one.
    fn greatest(&self, now: Time) -> (f64, Option<Signal>) {
        let mut greatest = (0.0, None);
        for signal in Signal::ALL {
            let score = self.score_of(now, signal).unwrap_or(0.0);
            if score > greatest.0 {
                greatest = (score, Some(signal));
            }
        }
        greatest
    }

    /// Keeps an adjustment when another signal leads, an end of the scale is reached or left, or the
    /// score has moved by a tenth.
    fn note(&mut self, now: Time) {
        let (score, signal) = self.greatest(now);
        let (before, leader) = self.told;
        let is_end = |score: f64| score <= 0.0 || score >= 1.0;
        let ends = is_end(score) || is_end(before);
        if signal == leader
            && (score - before).abs() < 0.1
            && !(ends && score.total_cmp(&before).is_ne())
        {
            return;
        }
        self.told = (score, signal);
        self.history.add(Adjustment {
            at: now,
            what: "pressure",
            from: before,
            to: score,
            because: signal.map_or("nothing presses", Signal::because),
        });
    }

    /// 0 to 1: what to hand to a breaker or an admission.
    #[must_use]
    pub fn score(&self, now: Time) -> f64 {
        self.greatest(now).0
    }

    /// When the reading that makes the score counts no more, if it is not repeated; `None` at 0.
    #[must_use]
    pub fn stale_at(&self, now: Time) -> Option<Time> {
        let (_, signal) = self.greatest(now);
        let level = self.levels[signal? as usize]?;
        Some(level.at + self.settings.stale_after + Duration::from_nanos(1))
    }

    /// Whether memory allows nothing more to be taken in: a stage then asks for nothing.
    #[must_use]
    pub fn gate_is_shut(&self) -> bool {
        self.gate_is_shut
    }

    /// The score, and where it comes from.
    #[must_use]
    pub fn explain(&self, now: Time) -> Explanation {
        let (score, signal) = self.greatest(now);
        let of = |signal: Signal| self.levels[signal as usize].map(|level| level.value);
        Explanation {
            at: now,
            score,
            signal,
            value: signal.and_then(of).unwrap_or(0.0),
            band: signal.and_then(|signal| self.settings.bands[signal as usize]),
            scores: Signal::ALL.map(|signal| self.score_of(now, signal)),
            gate_is_shut: self.gate_is_shut,
        }
    }

    /// The last changes of the score and of the gate, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }
}
