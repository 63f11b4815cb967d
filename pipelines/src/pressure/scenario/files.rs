//! Where scenarios and the files they name come from: those that come with the program, and others.

use std::path::{Path, PathBuf};

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        /// The scenarios that come with the program, by name.
        pub(crate) const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../scenarios/", $name, ".toml")))),+];
    };
}

built_in!(
    "sweep",
    "sweep_bimodal",
    "step",
    "step_bimodal",
    "spike",
    "ramp",
    "sawtooth",
    "flash_crowd",
    "replay",
    "bursts",
    "slow_consumer",
    "stall_50",
    "stall_200",
    "stall_1000",
    "stalls",
    "cpu_steal",
    "memory_pressure",
    "errors",
    "hang",
    "grey",
    "retry_storm",
    "class_shift",
    "high_over_capacity",
    "mislabelled",
    "trace_service",
    "unknown_capacity",
    "deferral",
    "batch",
    "rate_limited",
    "retries",
    "retry_budget",
    "memory_gate",
    "emergency",
    "divert",
    "starving",
    "lost_answers",
    "undeclared_deadlines",
    "long_queue",
    "wall_100us",
    "wall_1ms",
);

/// Every field, with what it means.
pub(crate) const FIELDS: &str = include_str!("../../../scenarios/FIELDS.toml");

/// The data files that come with the program.
const DATA: &[(&str, &str)] = &[
    (
        "data/flash_crowd.csv",
        include_str!("../../../scenarios/data/flash_crowd.csv"),
    ),
    (
        "data/service_us.txt",
        include_str!("../../../scenarios/data/service_us.txt"),
    ),
];

/// Reads the files that a scenario names, relative to the scenario's own.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: Option<PathBuf>,
}

impl Files {
    /// Those that come with the program alone.
    pub(crate) fn none() -> Files {
        Files { folder: None }
    }

    /// Beside the scenario in that file.
    pub(crate) fn beside(scenario: &Path) -> Files {
        Files {
            folder: Some(scenario.parent().unwrap_or(Path::new("")).to_owned()),
        }
    }

    pub(crate) fn read(&self, field: &str, file: &Path) -> Result<String, String> {
        let told = |why: String| format!("{field} = {}: {why}", file.display());
        match &self.folder {
            Some(folder) => {
                std::fs::read_to_string(folder.join(file)).map_err(|error| told(error.to_string()))
            }
            None => DATA
                .iter()
                .find(|(name, _)| Path::new(name) == file)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| told("no such file".to_owned())),
        }
    }
}
