//! How long the work on one element takes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Files;
use crate::random::Random;

/// The distribution of service times.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Service {
    /// Always the same.
    Constant { mean_us: f64 },
    /// Exponentially distributed.
    Exponential { mean_us: f64 },
    /// Two values: that share takes so many times as long as the others.
    Bimodal {
        mean_us: f64,
        slow_share: f64,
        slow_factor: f64,
    },
    /// Drawn from recorded values: a file with a number of microseconds on each line.
    Trace { file: PathBuf },
}

/// A distribution that can be drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    service: Service,
    recorded: Vec<f64>,
    /// Of an element by itself.
    mean_ns: f64,
    /// What a call takes besides, for however many elements it is.
    call_ns: f64,
}

impl Service {
    /// The same distribution with another mean.
    pub(crate) fn set_mean_us(&mut self, us: f64) -> Result<(), String> {
        match self {
            Service::Constant { mean_us }
            | Service::Exponential { mean_us }
            | Service::Bimodal { mean_us, .. } => *mean_us = us,
            Service::Trace { .. } => return Err("service: a trace has its own mean".to_owned()),
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let mean = match self {
            Service::Constant { mean_us }
            | Service::Exponential { mean_us }
            | Service::Bimodal { mean_us, .. } => *mean_us,
            Service::Trace { .. } => 1.0,
        };
        if !(0.001..=10e6).contains(&mean) {
            return Err(format!("service.mean_us = {mean}: from 0.001 to 10000000"));
        }
        if let Service::Bimodal {
            slow_share,
            slow_factor,
            ..
        } = self
        {
            if !(0.0..=1.0).contains(slow_share) {
                return Err(format!("service.slow_share = {slow_share}: from 0 to 1"));
            }
            if !(1.0..=10_000.0).contains(slow_factor) {
                return Err(format!(
                    "service.slow_factor = {slow_factor}: from 1 to 10000"
                ));
            }
        }
        Ok(())
    }

    /// Reads what has to be read.
    pub(crate) fn times(&self, files: &Files, call_us: f64) -> Result<Times, String> {
        let mut recorded = Vec::new();
        let mean_us = match self {
            Service::Constant { mean_us }
            | Service::Exponential { mean_us }
            | Service::Bimodal { mean_us, .. } => *mean_us,
            Service::Trace { file } => {
                let text = files.read("service.file", file)?;
                for (line, text) in text.lines().enumerate() {
                    let text = text.trim();
                    if text.is_empty() || text.starts_with('#') {
                        continue;
                    }
                    let us: f64 = text.parse().unwrap_or(f64::NAN);
                    if !(0.001..=10e6).contains(&us) {
                        return Err(format!(
                            "service.file, line {}: `{text}` is no service time in microseconds",
                            line + 1
                        ));
                    }
                    recorded.push(us);
                }
                if recorded.is_empty() {
                    return Err("service.file: no service times in it".to_owned());
                }
                recorded.iter().sum::<f64>() / recorded.len() as f64
            }
        };
        Ok(Times {
            service: self.clone(),
            recorded,
            mean_ns: mean_us * 1e3,
            call_ns: call_us * 1e3,
        })
    }
}

impl Times {
    /// Of a call for one element.
    pub(crate) fn mean_ns(&self) -> f64 {
        self.mean_ns + self.call_ns
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::from_nanos(self.mean_ns() as u64)
    }

    /// What a call takes besides the services of its elements.
    pub(crate) fn call_ns(&self) -> u64 {
        self.call_ns as u64
    }

    /// How long a call for one element takes, in nanoseconds.
    pub(crate) fn draw_call(&self, random: &mut Random) -> u64 {
        self.draw(random) + self.call_ns()
    }

    /// One service time, in nanoseconds.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let ns = match &self.service {
            Service::Constant { .. } => self.mean_ns,
            Service::Exponential { .. } => self.mean_ns * random.exponential(),
            Service::Bimodal {
                slow_share,
                slow_factor,
                ..
            } => {
                let fast = self.mean_ns / (1.0 + slow_share * (slow_factor - 1.0));
                if random.happens(*slow_share) {
                    fast * slow_factor
                } else {
                    fast
                }
            }
            Service::Trace { .. } => {
                let index = (random.unit() * self.recorded.len() as f64) as usize;
                self.recorded.get(index).copied().unwrap_or_default() * 1e3
            }
        };
        (ns.round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_distribution_has_the_mean_it_was_given() {
        let services = [
            Service::Constant { mean_us: 100.0 },
            Service::Exponential { mean_us: 100.0 },
            Service::Bimodal {
                mean_us: 100.0,
                slow_share: 0.1,
                slow_factor: 10.0,
            },
        ];
        for service in services {
            let times = service.times(&Files::none(), 0.0).unwrap();
            let mut random = Random::new(3, "service");
            let n = 100_000;
            let sum: u64 = (0..n).map(|_| times.draw(&mut random)).sum();
            let mean = sum as f64 / f64::from(n);
            assert!((mean / 1e5 - 1.0).abs() < 0.03, "{service:?}: {mean}");
        }
    }
}
