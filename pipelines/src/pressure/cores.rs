//! Which processors a run on the wall clock has.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where the producers run, and where the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cores {
    /// Wherever the machine puts them: all share all processors.
    #[default]
    Any,
    /// The system has a processor, the producers another.
    Apart,
    /// All share one processor.
    One,
}

/// A side of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    System,
    Producers,
}

impl Cores {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cores::Any => "any",
            Cores::Apart => "apart",
            Cores::One => "one",
        }
    }

    /// Keeps the calling thread to what its side may use. Where that cannot be done it says why.
    pub(crate) fn pin(self, side: Side) -> Result<(), String> {
        let place = match (self, side) {
            (Cores::Any, _) => return Ok(()),
            (Cores::Apart, Side::Producers) => 1,
            (Cores::Apart, Side::System) | (Cores::One, _) => 0,
        };
        let myself = Pid::from_raw(0);
        let allowed = sched_getaffinity(myself).map_err(|error| error.to_string())?;
        let core = (0..CpuSet::count())
            .filter(|core| allowed.is_set(*core).unwrap_or(false))
            .nth(place)
            .ok_or("cores: there are fewer processors than that needs")?;
        let mut set = CpuSet::new();
        set.set(core)
            .and_then(|()| sched_setaffinity(myself, &set))
            .map_err(|error| error.to_string())
    }
}
