//! What a controller learns from a stage.

use std::time::Duration;

/// What a stage saw since the last sample: one a fill. All of it is measured by the stage; a
/// controller reads no clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Calls that ended.
    pub count: usize,
    /// Of those, the ones that failed.
    pub failures: usize,
    /// Of those, the ones that ended because of overload where they went: a refusal, a timeout. They
    /// say nothing about the service time.
    pub drops: usize,
    /// The service time of the calls that ended, on average; without what they waited before.
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
