//! Samples as they are written down, for simulated time.

use super::sample::{HostSample, HostSource};
use crate::time::Time;

/// Gives each sample from its time on, until the next.
///
/// # Example
/// ```
/// use forebay::host::{HostSample, HostSource, Script};
/// use forebay::time::Time;
///
/// let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
/// let script = Script::new([
///     HostSample::at(at(0)).with_memory(10, 100),
///     HostSample::at(at(5)).with_memory(95, 100),
/// ]);
/// assert_eq!(script.latest(at(4)).memory.map(|memory| memory.used_bytes), Some(10));
/// assert_eq!(script.latest(at(5)).memory.map(|memory| memory.used_bytes), Some(95));
/// assert_eq!(script.latest(at(9)).at, at(9), "it is as fresh as asked for");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    samples: Vec<HostSample>,
}

impl Script {
    /// Samples in any order: their times say it.
    pub fn new(samples: impl IntoIterator<Item = HostSample>) -> Script {
        let mut samples: Vec<HostSample> = samples.into_iter().collect();
        samples.sort_by_key(|sample| sample.at);
        Script { samples }
    }
}

impl HostSource for Script {
    fn latest(&self, now: Time) -> HostSample {
        let past = self.samples.partition_point(|sample| sample.at <= now);
        let latest = past.checked_sub(1).and_then(|last| self.samples.get(last));
        HostSample {
            at: now,
            ..latest.copied().unwrap_or_default()
        }
    }
}
