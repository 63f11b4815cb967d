//! What brokers with quotas say: how long they have a client wait.

use std::time::Duration;

use rdkafka::statistics::Statistics;

use crate::control::{PressureHandle, PressureMember, Reading};
use crate::sync::{Mutex, lock};
use crate::time;

/// How often a client tells its figures, where they are a signal of pressure: twice within the time after
/// which a pressure forgets.
pub(super) const EVERY_MS: u64 = 500;

/// Tells a pressure of it, if there is one.
pub(super) struct Throttle(Option<Mutex<PressureMember>>);

impl Throttle {
    pub(super) fn new(pressure: Option<&PressureHandle>) -> Throttle {
        Throttle(pressure.map(|pressure| Mutex::new(pressure.join())))
    }

    /// The longest that any broker had it wait since the last time.
    pub(super) fn hear(&self, statistics: &Statistics) {
        let Some(member) = &self.0 else {
            return;
        };
        let brokers = statistics.brokers.values();
        let waits = brokers.filter_map(|broker| Some(broker.throttle.as_ref()?.max));
        let millis = waits.max().unwrap_or(0);
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        lock(member).read(time::now(), Reading::Throttle(wait));
    }
}
