//! What the workers are charged for a refusal.

use std::str::FromStr;

use crate::scenario::{Mode, Scenario};
use crate::{calibrate, system};

/// Where the cost of a refusal is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Refusal {
    /// What the scenario says, so that runs repeat.
    #[default]
    Declared,
    /// What each system takes on this machine now.
    Measured,
    /// So many nanoseconds.
    Nanoseconds(u64),
}

impl FromStr for Refusal {
    type Err = String;

    fn from_str(text: &str) -> Result<Refusal, String> {
        if text == "measured" {
            return Ok(Refusal::Measured);
        }
        let ns = text.parse().ok().filter(|ns| *ns <= 1_000_000_000);
        ns.map(Refusal::Nanoseconds)
            .ok_or_else(|| "`measured`, or nanoseconds up to 1000000000".to_owned())
    }
}

/// What a refusal costs the workers in that scenario and system; on the wall clock nothing, for there
/// it costs what it costs.
pub(crate) fn charge(refusal: Refusal, scenario: &Scenario, system: &str) -> Result<u64, String> {
    Ok(match (scenario.mode, refusal) {
        (Mode::Wall, _) => 0,
        (Mode::Simulated, Refusal::Declared) if system::is_baseline(system) => {
            scenario.baselines.refusal_ns
        }
        (Mode::Simulated, Refusal::Declared) => scenario.refusal_ns,
        (Mode::Simulated, Refusal::Nanoseconds(ns)) => ns,
        (Mode::Simulated, Refusal::Measured) => calibrate::refusal_ns(scenario, system, 1)?,
    })
}
