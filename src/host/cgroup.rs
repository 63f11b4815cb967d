//! What the control groups of Linux say that a process may use, and how much of it is in use.
//!
//! A process is in one group of each hierarchy; each group on the way up to the root may have a limit.
//! All of them hold, and what others in the same group use counts too: so each level is compared with
//! its own use, and the tightest one is told.
//!
//! Files: version 2 `memory.max`, `memory.high`, `memory.current`, `memory.stat`, `cpu.max`, `cpu.stat`;
//! version 1 `memory.limit_in_bytes`, `memory.usage_in_bytes`, `memory.stat`, `cpu.cfs_quota_us`,
//! `cpu.cfs_period_us`, `cpuacct.usage`. A machine may have both: version 1 is taken where it has the
//! controller.

use std::path::{Path, PathBuf};

use super::error::{HostError, keyed, number, read, read_needed};
use super::sample::{CpuUse, MemoryUse, Origin};
use crate::time::Time;

/// The groups of a process.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    memory: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
    /// Version 1 counts processor time in a hierarchy of its own.
    cpuacct: Option<Hierarchy>,
    /// What each level had used when it was last looked at, and when.
    cpu_before: Vec<(PathBuf, Time, u64)>,
}

/// The groups from that of the process up to the root.
#[derive(Clone, Debug)]
struct Hierarchy {
    origin: Origin,
    base: PathBuf,
    /// The group below the base.
    group: PathBuf,
}

/// From more bytes than that on a limit of version 1 is none: it is the largest number of whole pages.
const NO_LIMIT_BYTES: u64 = 1 << 62;

impl Cgroups {
    /// The groups of this process; none on a system without.
    ///
    /// # Errors
    /// [`HostError`]: the file that says in which groups it is cannot be understood.
    pub fn of_this_process() -> Result<Cgroups, HostError> {
        Cgroups::under(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"))
    }

    /// The groups in a tree that is mounted at `root`, for a process whose `membership` is a file like
    /// `/proc/self/cgroup`. Without that file there are none.
    ///
    /// A group that is not in the tree is looked for at its root: a container sees its own group there.
    ///
    /// # Errors
    /// [`HostError`]: the membership cannot be understood.
    pub fn under(root: &Path, membership: &Path) -> Result<Cgroups, HostError> {
        let Some(text) = read(membership)? else {
            return Ok(Cgroups::default());
        };
        let mut found = Cgroups::default();
        let mut unified = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(names), Some(group)) = (parts.next(), parts.next(), parts.next())
            else {
                let expected = "number:controllers:group";
                return Err(HostError::malformed(membership, line, expected));
            };
            if names.is_empty() {
                let base = [root.to_owned(), root.join("unified")]
                    .into_iter()
                    .find(|base| base.join("cgroup.controllers").exists());
                unified = base.map(|base| Hierarchy::new(Origin::CgroupV2, base, group));
                continue;
            }
            for name in names.split(',') {
                let slot = match name {
                    "memory" => &mut found.memory,
                    "cpu" => &mut found.cpu,
                    "cpuacct" => &mut found.cpuacct,
                    _ => continue,
                };
                let base = [root.join(name), root.join(names)]
                    .into_iter()
                    .find(|base| base.is_dir());
                *slot = base.map(|base| Hierarchy::new(Origin::CgroupV1, base, group));
            }
        }
        found.memory = found.memory.or_else(|| unified.clone());
        found.cpu = found.cpu.or(unified);
        Ok(found)
    }

    /// The memory of the level that is nearest to its limit; `None` where no level has one.
    ///
    /// # Errors
    /// [`HostError`]: a file that is there cannot be understood, or one that must be is not.
    pub fn memory(&self) -> Result<Option<MemoryUse>, HostError> {
        let Some(hierarchy) = &self.memory else {
            return Ok(None);
        };
        let mut tightest: Option<MemoryUse> = None;
        for folder in hierarchy.levels() {
            let level = match hierarchy.origin {
                Origin::CgroupV1 => memory_v1(&folder)?,
                _ => memory_v2(&folder)?,
            };
            if let Some(level) = level {
                tightest = Some(tightest.map_or(level, |tightest| tightest.tighter(level)));
            }
        }
        Ok(tightest)
    }

    /// The processor time since the last call, of the level that used most of its quota. `None` where
    /// no level has a quota, and at the first call.
    ///
    /// # Errors
    /// [`HostError`]: a file that is there cannot be understood, or one that must be is not.
    pub fn cpu(&mut self, now: Time) -> Result<Option<CpuUse>, HostError> {
        let Some(hierarchy) = &self.cpu else {
            return Ok(None);
        };
        let (mut tightest, mut seen) = (None::<CpuUse>, Vec::new());
        for folder in hierarchy.levels() {
            let quota = match hierarchy.origin {
                Origin::CgroupV1 => quota_v1(&folder)?,
                _ => quota_v2(&folder)?,
            };
            let Some(cores) = quota else { continue };
            let used_ns = match hierarchy.origin {
                Origin::CgroupV1 => self.used_v1(&folder, hierarchy)?,
                _ => used_v2(&folder)?,
            };
            let before = self.cpu_before.iter().find(|(of, ..)| *of == folder);
            if let Some((_, then, used_before_ns)) = before {
                let span_ns = now.since(*then).as_nanos() as f64;
                if span_ns > 0.0 {
                    let used = used_ns.saturating_sub(*used_before_ns) as f64;
                    let share = used / span_ns / cores;
                    if tightest.is_none_or(|tightest| share > tightest.share) {
                        let origin = hierarchy.origin;
                        tightest = Some(CpuUse {
                            share,
                            cores,
                            origin,
                        });
                    }
                }
            }
            seen.push((folder, now, used_ns));
        }
        self.cpu_before = seen;
        Ok(tightest)
    }

    /// The same group in the hierarchy that counts; if it is not there, the one the process is in.
    fn used_v1(&self, folder: &Path, cpu: &Hierarchy) -> Result<u64, HostError> {
        let beside = folder.join("cpuacct.usage");
        let file = match &self.cpuacct {
            _ if beside.exists() => beside,
            Some(counts) => {
                let group = folder.strip_prefix(&cpu.base).unwrap_or(Path::new(""));
                let same = counts.base.join(group);
                let own = counts.base.join(&counts.group);
                let folder = if same.is_dir() { same } else { own };
                folder.join("cpuacct.usage")
            }
            None => beside,
        };
        number(&file, &read_needed(&file)?)
    }
}

impl Hierarchy {
    fn new(origin: Origin, base: PathBuf, group: &str) -> Hierarchy {
        let group = Path::new(group.trim_start_matches('/'));
        let steps_out = group
            .components()
            .any(|part| matches!(part, std::path::Component::ParentDir));
        let is_there = !steps_out && base.join(group).is_dir();
        let group = if is_there { group } else { Path::new("") };
        Hierarchy {
            origin,
            group: group.to_owned(),
            base,
        }
    }

    /// The folders from the group up to the base.
    fn levels(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.group.ancestors().map(|group| self.base.join(group))
    }
}

fn memory_v1(folder: &Path) -> Result<Option<MemoryUse>, HostError> {
    let file = folder.join("memory.limit_in_bytes");
    let Some(text) = read(&file)? else {
        return Ok(None);
    };
    let limit_bytes = number(&file, &text)?;
    if limit_bytes >= NO_LIMIT_BYTES {
        return Ok(None);
    }
    let used = folder.join("memory.usage_in_bytes");
    memory_in_use(
        folder,
        &used,
        "total_inactive_file",
        limit_bytes,
        Origin::CgroupV1,
    )
    .map(Some)
}

fn memory_v2(folder: &Path) -> Result<Option<MemoryUse>, HostError> {
    let mut limit_bytes = None;
    // Above `high` a group is slowed down, above `max` it is killed: both must be kept away from.
    for name in ["memory.max", "memory.high"] {
        let file = folder.join(name);
        match read(&file)?.as_deref().map(str::trim) {
            None | Some("max") => {}
            Some(text) => {
                let limit = number(&file, text)
                    .map_err(|_| HostError::malformed(&file, text, "a number or `max`"))?;
                limit_bytes = Some(limit_bytes.map_or(limit, |least: u64| least.min(limit)));
            }
        }
    }
    let Some(limit_bytes) = limit_bytes else {
        return Ok(None);
    };
    let used = folder.join("memory.current");
    memory_in_use(
        folder,
        &used,
        "inactive_file",
        limit_bytes,
        Origin::CgroupV2,
    )
    .map(Some)
}

fn memory_in_use(
    folder: &Path,
    used: &Path,
    droppable: &str,
    limit_bytes: u64,
    origin: Origin,
) -> Result<MemoryUse, HostError> {
    let used_bytes = number(used, &read_needed(used)?)?;
    let stat = folder.join("memory.stat");
    let droppable_bytes = match read(&stat)? {
        Some(text) => keyed(&stat, &text, droppable)?.unwrap_or(0),
        None => 0,
    };
    Ok(MemoryUse {
        used_bytes: used_bytes.saturating_sub(droppable_bytes),
        limit_bytes,
        origin,
    })
}

fn quota_v1(folder: &Path) -> Result<Option<f64>, HostError> {
    let file = folder.join("cpu.cfs_quota_us");
    match read(&file)?.as_deref().map(str::trim) {
        None | Some("-1") => Ok(None),
        Some(text) => {
            let period = folder.join("cpu.cfs_period_us");
            cores(
                &file,
                text,
                number(&file, text)?,
                number(&period, &read_needed(&period)?)?,
            )
        }
    }
}

fn quota_v2(folder: &Path) -> Result<Option<f64>, HostError> {
    let file = folder.join("cpu.max");
    let Some(text) = read(&file)? else {
        return Ok(None);
    };
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("max"), _) => Ok(None),
        (Some(quota), Some(period)) => {
            let malformed =
                |_| HostError::malformed(&file, &text, "a quota or `max`, and a period");
            let quota = number(&file, quota).map_err(malformed)?;
            let period = number(&file, period).map_err(malformed)?;
            cores(&file, &text, quota, period)
        }
        _ => Err(HostError::malformed(
            &file,
            &text,
            "a quota or `max`, and a period",
        )),
    }
}

fn cores(file: &Path, text: &str, quota: u64, period: u64) -> Result<Option<f64>, HostError> {
    if quota == 0 || period == 0 {
        let expected = "a quota and a period above 0";
        return Err(HostError::malformed(file, text, expected));
    }
    Ok(Some(quota as f64 / period as f64))
}

fn used_v2(folder: &Path) -> Result<u64, HostError> {
    let file = folder.join("cpu.stat");
    let text = read_needed(&file)?;
    let used_us = keyed(&file, &text, "usage_usec")?;
    let missing = || HostError::malformed(&file, &text, "a line `usage_usec`");
    Ok(used_us.ok_or_else(missing)?.saturating_mul(1000))
}
