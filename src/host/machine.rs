//! What the machine itself says, where no group limits the process.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::sample::{CpuUse, MemoryUse, Origin};

/// Read with sysinfo; where it knows the machine not, nothing is read.
#[derive(Debug)]
pub(super) struct Machine {
    system: Option<System>,
    cpu_looks: u32,
}

impl Machine {
    pub(super) fn new() -> Machine {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Machine {
            system: System::new_with_specifics(what).ok(),
            cpu_looks: 0,
        }
    }

    /// `None` until it was looked at twice: usage is a difference.
    pub(super) fn cpu(&mut self) -> Option<CpuUse> {
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        self.cpu_looks = self.cpu_looks.saturating_add(1);
        let cores = system.cpus().len();
        (cores > 0 && self.cpu_looks > 1).then(|| CpuUse {
            share: f64::from(system.global_cpu_usage()) / 100.0,
            cores: cores as f64,
            origin: Origin::Machine,
        })
    }

    pub(super) fn memory(&mut self) -> Option<MemoryUse> {
        let system = self.system.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let limit_bytes = system.total_memory();
        (limit_bytes > 0).then(|| MemoryUse {
            used_bytes: limit_bytes.saturating_sub(system.available_memory()),
            limit_bytes,
            origin: Origin::Machine,
        })
    }
}
