//! What a controller learns from a stage.

use std::time::Duration;

/// What a stage saw since the last sample: one a fill. All of it is measured by the stage; a
/// controller reads no clock.
///
/// Every **try** is a call of its own, with its own start and end: a call that succeeded at its third
/// try is two failures and one success, and the delays between tries are nobody's service time.
/// Recorded as one slow success, retries would look like a service that became slow, and a limit
/// would answer by a cut where nothing is queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Calls that ended.
    pub count: usize,
    /// Of those, the ones that failed.
    pub failures: usize,
    /// Of those, the ones that ended because of overload where they went: a refusal, a timeout. They
    /// say nothing about the service time.
    pub drops: usize,
    /// The service time of the calls that ended, on average, those of `drops` left out; without what
    /// they waited before.
    pub service: Duration,
    /// The longest an element waited before its call began.
    pub wait: Duration,
    /// Calls in flight when the sample was taken.
    pub in_flight: usize,
    /// The most that were in flight since the last sample.
    pub in_flight_peak: usize,
    /// How long the oldest call in flight has been so.
    pub oldest: Duration,
    /// Elements that waited for a call when the sample was taken.
    pub queued: usize,
}

impl Sample {
    /// Calls that ended and say something about the service time.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.count.saturating_sub(self.drops)
    }

    /// The most that are known to have been in flight at once.
    #[must_use]
    pub fn busiest(&self) -> usize {
        self.in_flight_peak.max(self.in_flight)
    }
}
