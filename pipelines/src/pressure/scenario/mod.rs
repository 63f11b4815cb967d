//! What is run: a TOML file, read strictly. `pressure list --fields` prints what every field means.

mod class;
mod expect;
mod fault;
mod files;
mod load;
mod mechanism;
mod policy;
mod service;

pub(crate) use class::{ByClass, Rank};
pub(crate) use expect::Expect;
pub(crate) use fault::{Fault, Timeline};
pub(crate) use files::{BUILT_IN, FIELDS, Files};
pub(crate) use load::{Load, Recorded, Spacing};
pub(crate) use mechanism::Memory;
pub(crate) use policy::{Baselines, HowMany, MECHANISMS, Open, Order, Policies};
pub(crate) use service::{Service, Times};

use serde::{Deserialize, Serialize};

use crate::cores::Cores;
use crate::system;

/// The clock a scenario runs by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Exact, from a seed.
    #[default]
    Simulated,
    /// This machine, now.
    Wall,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Simulated => "simulated",
            Mode::Wall => "wall",
        }
    }
}

/// What work does on the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Keeps a processor busy.
    #[default]
    Busy,
    /// Waits.
    Asleep,
}

/// What is measured when.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Measure {
    pub(crate) leave_out: f64,
    pub(crate) step_at_ms: Option<u64>,
    pub(crate) step_until_ms: Option<u64>,
    pub(crate) step_every_ms: Option<u64>,
    pub(crate) spike_at_ms: Option<u64>,
    pub(crate) spike_until_ms: Option<u64>,
    pub(crate) spike_every_ms: Option<u64>,
    pub(crate) inversion_grace_us: f64,
    pub(crate) lag_p99_us_max: f64,
    pub(crate) drain_ms: Option<u64>,
}

impl Default for Measure {
    fn default() -> Measure {
        Measure {
            leave_out: 0.2,
            step_at_ms: None,
            step_until_ms: None,
            step_every_ms: None,
            spike_at_ms: None,
            spike_until_ms: None,
            spike_every_ms: None,
            inversion_grace_us: 0.0,
            lag_p99_us_max: 5_000.0,
            drain_ms: None,
        }
    }
}

fn five_seeds() -> Vec<u64> {
    vec![1, 2, 3, 4, 5]
}

fn ten_services() -> ByClass<f64> {
    ByClass::make(|_| 10.0)
}

const fn a_kibibyte() -> u64 {
    1024
}

/// Measured by `pressure calibrate`, one at a time, and rounded up.
const fn refusal_ns() -> u64 {
    1000
}

const fn two() -> usize {
    2
}

/// A load test.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default = "five_seeds")]
    pub(crate) seeds: Vec<u64>,
    pub(crate) duration_ms: u64,
    pub(crate) workers: usize,
    #[serde(default)]
    pub(crate) call_us: f64,
    #[serde(default)]
    pub(crate) work: Work,
    #[serde(default = "ten_services")]
    pub(crate) deadline_services: ByClass<f64>,
    #[serde(default = "a_kibibyte")]
    pub(crate) item_bytes: u64,
    #[serde(default = "refusal_ns")]
    pub(crate) refusal_ns: u64,
    #[serde(default = "two")]
    pub(crate) producers: usize,
    #[serde(default)]
    pub(crate) cores: Cores,
    #[serde(default)]
    pub(crate) systems: Vec<String>,
    pub(crate) service: Service,
    pub(crate) load: Load,
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    #[serde(default)]
    pub(crate) policies: Policies,
    #[serde(default)]
    pub(crate) baselines: Baselines,
    #[serde(default)]
    pub(crate) measure: Measure,
    #[serde(default)]
    pub(crate) expect: Expect,
}

impl Scenario {
    /// Reads a scenario; says which field is unknown, missing or impossible.
    pub(crate) fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether all values are possible.
    pub(crate) fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(format!(
                "name = `{}`: letters, digits, `_` and `-`",
                self.name
            ));
        }
        if self.seeds.is_empty() {
            return Err("seeds: at least one".to_owned());
        }
        if !(10..=3_600_000).contains(&self.duration_ms) {
            let ms = self.duration_ms;
            return Err(format!("duration_ms = {ms}: from 10 to 3600000"));
        }
        if !(1..=10_000).contains(&self.workers) {
            return Err(format!("workers = {}: from 1 to 10000", self.workers));
        }
        if self.mode == Mode::Wall && self.work == Work::Busy && self.workers != 1 {
            let workers = self.workers;
            return Err(format!(
                "workers = {workers}: 1 on the wall clock where work = busy: each would need a core"
            ));
        }
        for rank in Rank::ALL {
            let services = *self.deadline_services.of(rank);
            if !(0.01..=1e6).contains(&services) {
                let class = rank.name();
                return Err(format!(
                    "deadline_services.{class} = {services}: from 0.01 to 1000000"
                ));
            }
        }
        if !(1..=1 << 30).contains(&self.item_bytes) {
            return Err(format!("item_bytes = {}: from 1 to 2^30", self.item_bytes));
        }
        if !(0.0..=10e6).contains(&self.call_us) {
            return Err(format!("call_us = {}: from 0 to 10000000", self.call_us));
        }
        if self.refusal_ns > 1_000_000_000 {
            let ns = self.refusal_ns;
            return Err(format!("refusal_ns = {ns}: up to 1000000000"));
        }
        if !(1..=64).contains(&self.producers) {
            return Err(format!("producers = {}: from 1 to 64", self.producers));
        }
        for name in &self.systems {
            system::known(name).map_err(|why| format!("systems: {why}"))?;
        }
        self.service.check()?;
        self.load.check()?;
        for (number, fault) in self.faults.iter().enumerate() {
            fault.check(number, self.duration_ms)?;
        }
        self.policies.check()?;
        self.baselines.check()?;
        self.measure.check(self.duration_ms)?;
        let goodput_most = if self.call_us > 0.0 { 1000.0 } else { 1.0 };
        self.expect.check(&self.load.sweep, goodput_most)
    }

    /// How long services and calls take.
    pub(crate) fn times(&self, files: &Files) -> Result<Times, String> {
        self.service.times(files, self.call_us)
    }

    /// The runs it stands for: one, or one for each level of its sweep.
    pub(crate) fn levels(&self) -> Vec<Option<f64>> {
        if self.load.sweep.is_empty() {
            vec![None]
        } else {
            self.load.sweep.iter().map(|level| Some(*level)).collect()
        }
    }

    /// The load of one of its runs.
    pub(crate) fn load_at(&self, level: Option<f64>) -> Load {
        level.map_or_else(|| self.load.clone(), |level| self.load.at(level))
    }

    /// The same at half the capacity and with no faults: what HIGH's latency is compared with.
    pub(crate) fn reference(&self) -> Scenario {
        Scenario {
            load: self.load.at(0.5),
            faults: Vec::new(),
            expect: Expect::default(),
            measure: Measure {
                leave_out: self.measure.leave_out,
                lag_p99_us_max: self.measure.lag_p99_us_max,
                ..Measure::default()
            },
            ..self.clone()
        }
    }
}

impl Measure {
    fn check(&self, duration_ms: u64) -> Result<(), String> {
        if !(0.0..=0.9).contains(&self.leave_out) {
            return Err(format!(
                "measure.leave_out = {}: from 0 to 0.9",
                self.leave_out
            ));
        }
        if !(0.0..=1e6).contains(&self.inversion_grace_us) {
            let us = self.inversion_grace_us;
            return Err(format!(
                "measure.inversion_grace_us = {us}: from 0 to 1000000"
            ));
        }
        if !(0.0..=1e9).contains(&self.lag_p99_us_max) {
            let us = self.lag_p99_us_max;
            return Err(format!(
                "measure.lag_p99_us_max = {us}: from 0 to 1000000000"
            ));
        }
        let begins_ms = (duration_ms as f64 * self.leave_out) as u64;
        let pairs = [
            (
                "step",
                self.step_at_ms,
                self.step_until_ms,
                self.step_every_ms,
                0,
            ),
            // Queue delay before it is taken from what is not left out.
            (
                "spike",
                self.spike_at_ms,
                self.spike_until_ms,
                self.spike_every_ms,
                begins_ms + 1,
            ),
        ];
        for (what, at, until, every, least) in pairs {
            let length = until
                .zip(at)
                .map_or(0, |(until, at)| until.saturating_sub(at));
            if let Some(every) = every.filter(|every| length == 0 || *every < length) {
                return Err(format!(
                    "measure.{what}_every_ms = {every}: at least the {length} ms from \
                     measure.{what}_at_ms to measure.{what}_until_ms"
                ));
            }
            match (at, until) {
                (None, None) => {}
                (Some(at), Some(until)) if least <= at && at < until && until <= duration_ms => {}
                _ => {
                    return Err(format!(
                        "measure.{what}_at_ms and measure.{what}_until_ms: both, in order, from \
                         {least} on, within the run"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    /// The paths of all keys, whatever their place in a list.
    fn keys(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = format!("{path}.{key}");
                    keys(value, &path, found);
                    found.insert(path);
                }
            }
            toml::Value::Array(values) => {
                for value in values {
                    keys(value, path, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_field_is_told() {
        let told: toml::Value = toml::from_str(FIELDS).unwrap();
        let scenario = Scenario::parse(FIELDS).unwrap();
        let known = toml::Value::try_from(&scenario).unwrap();
        let (mut all, mut documented) = (BTreeSet::new(), BTreeSet::new());
        keys(&known, "", &mut all);
        keys(&told, "", &mut documented);
        assert_eq!(all, documented);
        // What has no default is not in there unless it is told: count those of the source.
        for field in ["replay = ", "[[expect.at]]", "level"] {
            assert!(FIELDS.contains(field), "{field}");
        }
        let absent = format!("{:?}", scenario.expect).matches("None").count();
        assert_eq!(absent, 1, "all gates but `level` have an example");
        let absent = format!("{:?}", scenario.measure).matches("None").count();
        assert_eq!(absent, 0, "all of `measure` has an example");
        assert_eq!(scenario.faults.len(), 10, "every kind of fault");
    }

    #[test]
    fn every_scenario_that_ships_is_right_and_finds_its_files() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(text).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(scenario.name, *name);
            scenario.times(&Files::none()).unwrap();
            scenario.load.recorded(&Files::none()).unwrap();
        }
    }
}
