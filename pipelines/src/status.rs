//! What the system says of this process's memory.

use std::fs;

/// A line of the process's status, in KiB: `VmRSS`, or `VmHWM` for the most so far. `None` where the
/// system does not tell.
pub(crate) fn kib(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
