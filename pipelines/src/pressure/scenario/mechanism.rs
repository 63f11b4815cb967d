//! Mechanisms of forebay's pipeline that a scenario asks for: each in a table of its own.

use std::time::Duration;

use forebay::control::batch_size::{Aimd, LatencyTarget, Natural};
use forebay::control::{
    BatchHandle, Budget, EmergencySettings, Invalid, PressureSettings, Retry, Signal,
};
use serde::{Deserialize, Serialize};

/// How the size of a batch is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HowLarge {
    /// A call for each element.
    #[default]
    None,
    Natural,
    LatencyTarget,
    Aimd,
}

/// A call for several elements.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Batches {
    pub(crate) size: HowLarge,
    pub(crate) most: usize,
    pub(crate) target_services: f64,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches {
            size: HowLarge::None,
            most: 64,
            target_services: 4.0,
        }
    }
}

impl Batches {
    /// The size, where there are batches. `target` is how long a call may take.
    pub(crate) fn handle(self, target: Duration) -> Result<Option<BatchHandle>, Invalid> {
        Ok(Some(match self.size {
            HowLarge::None => return Ok(None),
            HowLarge::Natural => BatchHandle::new(Natural::builder().bounds(1, self.most).build()?),
            HowLarge::LatencyTarget => BatchHandle::new(
                LatencyTarget::builder(target)
                    .bounds(1, self.most)
                    .build()?,
            ),
            HowLarge::Aimd => BatchHandle::new(Aimd::builder(target).bounds(1, self.most).build()?),
        }))
    }
}

/// Another destination while the breaker is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spare {
    pub(crate) workers: usize,
}

/// So many calls a second.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shaping {
    pub(crate) level: f64,
    pub(crate) burst: u32,
}

impl Default for Shaping {
    fn default() -> Shaping {
        Shaping {
            level: 0.0,
            burst: 8,
        }
    }
}

/// Failed calls are made again.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Again {
    pub(crate) tries: u32,
    pub(crate) first_services: f64,
    pub(crate) longest_services: f64,
    pub(crate) budget_share: f64,
    pub(crate) budget_reserve: f64,
}

impl Default for Again {
    fn default() -> Again {
        Again {
            tries: 1,
            first_services: 1.0,
            longest_services: 4.0,
            budget_share: 0.2,
            budget_reserve: 20.0,
        }
    }
}

impl Again {
    /// The retries; `budget` bounds them all together.
    pub(crate) fn retry(self, services: impl Fn(f64) -> Duration, budget: bool) -> Retry {
        let retry = Retry::tries(self.tries).backoff(
            services(self.first_services),
            services(self.longest_services),
        );
        if !budget {
            return retry;
        }
        let share = Budget::share(self.budget_share);
        retry.budget(share.per_second(0.0).reserve(self.budget_reserve))
    }
}

/// The memory of the process, as far as the elements inside take it.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) limit_bytes: u64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            limit_bytes: 0,
            low: 0.5,
            high: 0.9,
        }
    }
}

impl Memory {
    pub(crate) fn settings(self) -> PressureSettings {
        PressureSettings::new().band(Signal::Memory, self.low, self.high)
    }
}

/// Only HIGH passes while far too much is offered.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Alarm {
    pub(crate) on: bool,
    pub(crate) ratio: f64,
    pub(crate) window_services: f64,
    pub(crate) hold_services: f64,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm {
            on: false,
            ratio: 1.5,
            window_services: 20.0,
            hold_services: 100.0,
        }
    }
}

impl Alarm {
    /// For a capacity of so many elements a second.
    pub(crate) fn settings(self, capacity_per_s: f64, hold: Duration) -> EmergencySettings {
        EmergencySettings::new((capacity_per_s as u64).max(1))
            .ratio(self.ratio)
            .calm(1.0, hold)
    }
}

/// All of them. What is not asked for is not there.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Mechanisms {
    pub(crate) batch: Batches,
    pub(crate) divert: Spare,
    pub(crate) throttle: Shaping,
    pub(crate) retry: Again,
    pub(crate) memory: Memory,
    pub(crate) emergency: Alarm,
}

fn within(field: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!(
        "policies.{field} = {value}: from {least} to {most}"
    ))
}

impl Mechanisms {
    /// Whether all values are possible, each by itself.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Mechanisms {
            batch,
            divert,
            throttle,
            retry,
            memory,
            emergency,
        } = self;
        within("batch.most", batch.most as f64, 1.0, 256.0)?;
        within("batch.target_services", batch.target_services, 0.001, 1e6)?;
        within("divert.workers", divert.workers as f64, 0.0, 10_000.0)?;
        within("throttle.level", throttle.level, 0.0, 1000.0)?;
        within("throttle.burst", f64::from(throttle.burst), 1.0, 256.0)?;
        within("retry.tries", f64::from(retry.tries), 1.0, 10.0)?;
        within("retry.first_services", retry.first_services, 0.0, 1e6)?;
        within("retry.longest_services", retry.longest_services, 0.0, 1e6)?;
        if retry.longest_services < retry.first_services {
            return Err(format!(
                "policies.retry.longest_services = {}: at least first_services = {}",
                retry.longest_services, retry.first_services
            ));
        }
        within("retry.budget_share", retry.budget_share, 0.0, 1000.0)?;
        within("retry.budget_reserve", retry.budget_reserve, 1.0, 1e9)?;
        within("memory.low", memory.low, 0.0, 1.0)?;
        within("memory.high", memory.high, 0.0, 1.0)?;
        if memory.high <= memory.low {
            return Err(format!(
                "policies.memory.high = {}: more than low = {}",
                memory.high, memory.low
            ));
        }
        within("emergency.ratio", emergency.ratio, 1.0, 1000.0)?;
        let spans = [
            ("emergency.window_services", emergency.window_services),
            ("emergency.hold_services", emergency.hold_services),
        ];
        spans
            .into_iter()
            .try_for_each(|(field, services)| within(field, services, 0.001, 1e6))
    }

    /// Whether that one is asked for; none of these has another name.
    pub(crate) fn asks_for(&self, mechanism: &str) -> Option<bool> {
        Some(match mechanism {
            "batch" => self.batch.size != HowLarge::None,
            "divert" => self.divert.workers > 0,
            "throttle" => self.throttle.level > 0.0,
            "retry" | "retry_budget" => self.retry.tries > 1,
            "memory" => self.memory.limit_bytes > 0,
            "emergency" => self.emergency.on,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_there() {
        let none = Mechanisms::default();
        assert_eq!(none.check(), Ok(()));
        for name in [
            "batch",
            "divert",
            "throttle",
            "retry",
            "retry_budget",
            "memory",
            "emergency",
        ] {
            assert_eq!(none.asks_for(name), Some(false), "{name}");
        }
        assert_eq!(none.asks_for("breaker"), None);
    }
}
