//! How a priority queue stands.

use crate::class::Class;

/// How the lane of a class stands, and what became of the elements of that class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneSnapshot {
    /// Elements held.
    pub items: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Elements that were queued.
    pub queued: u64,
    /// Elements that were served.
    pub served: u64,
    /// Of those, the ones that were served while a higher class waited.
    pub aged: u64,
    /// Elements that made way for others and were shed.
    pub evicted: u64,
    /// Elements that made way for others and were deferred or diverted.
    pub evicted_elsewhere: u64,
    /// Elements that were removed: what was held of a source that went back, or of an ended run.
    pub removed: u64,
    /// Offers that were refused at once.
    pub refused: u64,
    /// Offers that were refused after they had waited as long as they may.
    pub timed_out: u64,
    /// Offers that were deferred.
    pub deferred: u64,
    /// Offers that were diverted.
    pub diverted: u64,
    /// Answers that told an offer to wait: each asks again.
    pub told_to_wait: u64,
}

/// How a priority queue stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PrioritySnapshot {
    /// Elements held.
    pub items: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The most elements it ever held.
    pub peak_items: usize,
    /// The most bytes it ever held.
    pub peak_bytes: u64,
    /// By the number of the class.
    pub lanes: [LaneSnapshot; Class::COUNT],
}

impl PrioritySnapshot {
    /// The lane of that class.
    #[must_use]
    pub fn lane(&self, class: Class) -> &LaneSnapshot {
        &self.lanes[class.index()]
    }
}
