//! The load: how much of each class is offered when, in multiples of the capacity.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Files;
use super::class::Rank;

/// How arrivals are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spacing {
    /// Independent of each other.
    #[default]
    Poisson,
    /// Evenly.
    Constant,
}

/// A stretch of the load. Levels are multiples of the capacity.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "shape", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Phase {
    /// One level; without `for_ms`, to the end of the run.
    Constant { level: f64, for_ms: Option<u64> },
    /// From one level to another, evenly.
    Ramp { from: f64, to: f64, for_ms: u64 },
    /// One level after the other.
    Steps { levels: Vec<f64>, each_ms: u64 },
    /// Ramps from one level to another, then starts over.
    Sawtooth {
        from: f64,
        to: f64,
        period_ms: u64,
        for_ms: u64,
    },
    /// A level, and a burst of another at the start of each period.
    Bursts {
        level: f64,
        burst: f64,
        every_ms: u64,
        burst_ms: u64,
        for_ms: u64,
    },
}

impl Phase {
    fn span_ms(&self) -> f64 {
        match self {
            Phase::Constant { for_ms, .. } => for_ms.map_or(f64::INFINITY, |ms| ms as f64),
            Phase::Ramp { for_ms, .. }
            | Phase::Sawtooth { for_ms, .. }
            | Phase::Bursts { for_ms, .. } => *for_ms as f64,
            Phase::Steps { levels, each_ms } => levels.len() as f64 * *each_ms as f64,
        }
    }

    /// The level that long after the start of the phase.
    fn level(&self, ms: f64) -> f64 {
        match self {
            Phase::Constant { level, .. } => *level,
            Phase::Ramp { from, to, for_ms } => {
                from + (to - from) * (ms / (*for_ms).max(1) as f64).min(1.0)
            }
            Phase::Steps { levels, each_ms } => {
                let index = (ms / (*each_ms).max(1) as f64) as usize;
                levels
                    .get(index.min(levels.len().saturating_sub(1)))
                    .copied()
                    .unwrap_or_default()
            }
            Phase::Sawtooth {
                from,
                to,
                period_ms,
                ..
            } => {
                let period = (*period_ms).max(1) as f64;
                from + (to - from) * (ms % period) / period
            }
            Phase::Bursts {
                level,
                burst,
                every_ms,
                burst_ms,
                ..
            } => {
                if ms % ((*every_ms).max(1) as f64) < *burst_ms as f64 {
                    *burst
                } else {
                    *level
                }
            }
        }
    }

    fn levels(&self) -> Vec<f64> {
        match self {
            Phase::Constant { level, .. } => vec![*level],
            Phase::Ramp { from, to, .. } | Phase::Sawtooth { from, to, .. } => vec![*from, *to],
            Phase::Steps { levels, .. } => levels.clone(),
            Phase::Bursts { level, burst, .. } => vec![*level, *burst],
        }
    }
}

/// The level of phases one after the other; after the last, its last level.
fn level_at(phases: &[Phase], ms: f64) -> f64 {
    let mut left = ms;
    for phase in phases {
        let span = phase.span_ms();
        if left < span {
            return phase.level(left);
        }
        left -= span;
    }
    phases
        .last()
        .map_or(0.0, |phase| phase.level((phase.span_ms() - 1e-6).max(0.0)))
}

/// What is offered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) arrivals: Spacing,
    pub(crate) total: Vec<Phase>,
    pub(crate) high: Vec<Phase>,
    pub(crate) medium: Vec<Phase>,
    pub(crate) low: Vec<Phase>,
    pub(crate) sweep: Vec<f64>,
    pub(crate) replay: Option<PathBuf>,
}

/// The part of the capacity that HIGH is offered at unless the scenario says otherwise.
const HIGH_LEVEL: f64 = 0.4;

/// One arrival of a recorded file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) at_ns: u64,
    pub(crate) rank: Rank,
}

impl Load {
    pub(crate) fn check(&self) -> Result<(), String> {
        let groups = [
            ("total", &self.total),
            ("high", &self.high),
            ("medium", &self.medium),
            ("low", &self.low),
        ];
        for (name, phases) in groups {
            for (number, phase) in phases.iter().enumerate() {
                let field = format!("load.{name}[{number}]");
                let levels = phase.levels();
                if levels.is_empty() {
                    return Err(format!("{field}.levels: at least one"));
                }
                if let Some(level) = levels.iter().find(|level| !(0.0..=1000.0).contains(*level)) {
                    return Err(format!("{field}: level {level}: from 0 to 1000 x capacity"));
                }
                if phase.span_ms() <= 0.0 {
                    return Err(format!("{field}: it has no length"));
                }
                if let Phase::Constant { for_ms: None, .. } = phase
                    && number + 1 < phases.len()
                {
                    return Err(format!("{field}.for_ms: only the last may leave it out"));
                }
                if let Phase::Sawtooth { period_ms: 0, .. } = phase {
                    return Err(format!("{field}.period_ms = 0: at least 1"));
                }
                if let Phase::Bursts {
                    every_ms, burst_ms, ..
                } = phase
                    && burst_ms >= every_ms
                {
                    return Err(format!(
                        "{field}.burst_ms = {burst_ms}: less than every_ms = {every_ms}"
                    ));
                }
            }
        }
        let by_class = !self.medium.is_empty() || !self.low.is_empty();
        let ways = [
            !self.total.is_empty(),
            by_class,
            !self.sweep.is_empty(),
            self.replay.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err(
                "load: one of `total`, `sweep`, `replay`, and `medium` with `low`".to_owned(),
            );
        }
        if self.replay.is_some() && !self.high.is_empty() {
            return Err("load.high: not beside `replay`".to_owned());
        }
        if let Some(level) = self
            .sweep
            .iter()
            .find(|level| !(0.01..=1000.0).contains(*level))
        {
            return Err(format!("load.sweep: level {level}: from 0.01 to 1000"));
        }
        Ok(())
    }

    /// What is offered of that class at that time, in multiples of the capacity.
    pub(crate) fn level(&self, rank: Rank, ms: f64) -> f64 {
        let high = if self.high.is_empty() {
            HIGH_LEVEL
        } else {
            level_at(&self.high, ms)
        };
        if self.total.is_empty() {
            return match rank {
                Rank::High => high,
                Rank::Medium => level_at(&self.medium, ms),
                Rank::Low => level_at(&self.low, ms),
            };
        }
        let total = level_at(&self.total, ms);
        match rank {
            Rank::High => high.min(total),
            Rank::Medium | Rank::Low => (total - high).max(0.0) / 2.0,
        }
    }

    /// The same load with one total level throughout.
    pub(crate) fn at(&self, level: f64) -> Load {
        let high = if self.high.is_empty() {
            HIGH_LEVEL
        } else {
            level_at(&self.high, 0.0)
        };
        Load {
            arrivals: self.arrivals,
            total: vec![Phase::Constant {
                level,
                for_ms: None,
            }],
            high: vec![Phase::Constant {
                level: high.min(level),
                for_ms: None,
            }],
            ..Load::default()
        }
    }

    /// The recorded arrivals, where there are any: lines of `at_us,class`, in order of time.
    pub(crate) fn recorded(&self, files: &Files) -> Result<Option<Vec<Recorded>>, String> {
        let Some(file) = &self.replay else {
            return Ok(None);
        };
        let text = files.read("load.replay", file)?;
        let mut arrivals: Vec<Recorded> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line == "at_us,class" {
                continue;
            }
            let wrong = || {
                format!(
                    "load.replay, line {}: `{line}` is not `at_us,class`, in order of time",
                    number + 1
                )
            };
            let (at, class) = line.split_once(',').ok_or_else(wrong)?;
            let at_us: f64 = at.trim().parse().map_err(|_| wrong())?;
            let rank = Rank::named(class.trim()).ok_or_else(wrong)?;
            let at_ns = (at_us * 1e3) as u64;
            let back = arrivals.last().is_some_and(|last| last.at_ns > at_ns);
            if !(0.0..=3.6e9).contains(&at_us) || back {
                return Err(wrong());
            }
            arrivals.push(Recorded { at_ns, rank });
        }
        Ok(Some(arrivals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_levels_they_name() {
        let phases = [
            Phase::Constant {
                level: 0.5,
                for_ms: Some(100),
            },
            Phase::Ramp {
                from: 0.0,
                to: 10.0,
                for_ms: 100,
            },
            Phase::Sawtooth {
                from: 1.0,
                to: 3.0,
                period_ms: 10,
                for_ms: 100,
            },
            Phase::Bursts {
                level: 1.0,
                burst: 9.0,
                every_ms: 50,
                burst_ms: 5,
                for_ms: 100,
            },
            Phase::Steps {
                levels: vec![7.0, 8.0],
                each_ms: 10,
            },
        ];
        for (ms, level) in [
            (50.0, 0.5),
            (150.0, 5.0),
            (205.0, 2.0),
            (215.0, 2.0),
            (302.0, 9.0),
            (310.0, 1.0),
            (405.0, 7.0),
            (415.0, 8.0),
            (999.0, 8.0),
        ] {
            assert!((level_at(&phases, ms) - level).abs() < 1e-3, "at {ms}");
        }
    }

    #[test]
    fn high_keeps_its_level_whatever_the_total() {
        for total in [0.5, 1.0, 10.0] {
            let load = Load::default().at(total);
            let levels = Rank::ALL.map(|rank| load.level(rank, 5.0));
            assert!((levels[0] - 0.4).abs() < 1e-9);
            assert!((levels.iter().sum::<f64>() - total).abs() < 1e-9);
        }
    }
}
