//! What the host looked like at one moment.

use std::time::Duration;

use crate::control::Reading;
use crate::time::Time;

/// Who says how much may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A control group of version 1.
    CgroupV1,
    /// A control group of version 2.
    CgroupV2,
    /// The machine itself: no group limits it.
    Machine,
    /// A declared [`MemoryBudget`](super::MemoryBudget).
    Budget,
    /// A [`Script`](super::Script).
    Script,
}

/// Processor time since the sample before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CpuUse {
    /// What was used, as a share of what may be: 1 is all of it. A group may exceed its quota for a
    /// moment.
    pub share: f64,
    /// How many processors may be used.
    pub cores: f64,
    /// Who says so.
    pub origin: Origin,
}

/// Memory in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryUse {
    /// Bytes in use: of a group without the pages of files that could be dropped at once, as
    /// Kubernetes counts its working set.
    pub used_bytes: u64,
    /// Bytes that may be used.
    pub limit_bytes: u64,
    /// Who says so.
    pub origin: Origin,
}

impl MemoryUse {
    /// What is used, as a share of the limit; 1 where the limit is 0.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.limit_bytes == 0 {
            1.0
        } else {
            self.used_bytes as f64 / self.limit_bytes as f64
        }
    }

    /// The one that is nearer to its limit.
    pub(super) fn tighter(self, other: MemoryUse) -> MemoryUse {
        if other.share() > self.share() {
            other
        } else {
            self
        }
    }
}

/// What was measured at one moment. `None` is what could not be, or not yet.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct HostSample {
    /// When.
    pub at: Time,
    /// The processor.
    pub cpu: Option<CpuUse>,
    /// The memory.
    pub memory: Option<MemoryUse>,
    /// How long a task that could run waited to, on the runtime that is watched.
    pub runtime_lag: Option<Duration>,
}

impl HostSample {
    /// Nothing measured, for scripts.
    #[must_use]
    pub fn at(at: Time) -> HostSample {
        HostSample {
            at,
            ..HostSample::default()
        }
    }

    /// With that share of one processor in use.
    #[must_use]
    pub fn with_cpu(mut self, share: f64) -> HostSample {
        self.cpu = Some(CpuUse {
            share,
            cores: 1.0,
            origin: Origin::Script,
        });
        self
    }

    /// With so many bytes in use.
    #[must_use]
    pub fn with_memory(mut self, used_bytes: u64, limit_bytes: u64) -> HostSample {
        self.memory = Some(MemoryUse {
            used_bytes,
            limit_bytes,
            origin: Origin::Script,
        });
        self
    }

    /// With that lag of the runtime.
    #[must_use]
    pub fn with_lag(mut self, lag: Duration) -> HostSample {
        self.runtime_lag = Some(lag);
        self
    }

    /// What there is, for a [`Pressure`](crate::control::Pressure).
    pub fn readings(&self) -> impl Iterator<Item = Reading> + use<> {
        let cpu = self.cpu.map(|cpu| Reading::Cpu(cpu.share));
        let memory = self.memory.map(|memory| Reading::Memory(memory.share()));
        let lag = self.runtime_lag.map(Reading::RuntimeLag);
        [cpu, memory, lag].into_iter().flatten()
    }
}

/// Where samples come from: the machine, or a script.
pub trait HostSource: Send + Sync {
    /// The latest sample as of then.
    fn latest(&self, now: Time) -> HostSample;
}
