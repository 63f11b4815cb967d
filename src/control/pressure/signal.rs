//! What pressure is read from, and how a value becomes a score.

use std::fmt;
use std::time::Duration;

/// A thing that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Signal {
    /// How long elements wait, in seconds.
    QueueDelay,
    /// The share of slow calls, 0 to 1.
    SlowCalls,
    /// How long a task that could run waits to, in seconds.
    RuntimeLag,
    /// Processor time used, as a share of what may be used.
    Cpu,
    /// Memory used, as a share of what may be used.
    Memory,
    /// How long a server has us wait, because we ask too much of it, in seconds.
    Throttle,
}

impl Signal {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, the fastest first.
    pub const ALL: [Signal; Signal::COUNT] = [
        Signal::QueueDelay,
        Signal::SlowCalls,
        Signal::RuntimeLag,
        Signal::Cpu,
        Signal::Memory,
        Signal::Throttle,
    ];

    /// The name reports use: `queue_delay` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Signal::QueueDelay => "queue_delay",
            Signal::SlowCalls => "slow_calls",
            Signal::RuntimeLag => "runtime_lag",
            Signal::Cpu => "cpu",
            Signal::Memory => "memory",
            Signal::Throttle => "throttle",
        }
    }

    pub(super) const fn because(self) -> &'static str {
        match self {
            Signal::QueueDelay => "the queue delay is the greatest",
            Signal::SlowCalls => "the slow calls are the greatest",
            Signal::RuntimeLag => "the runtime lag is the greatest",
            Signal::Cpu => "the processor is the greatest",
            Signal::Memory => "the memory is the greatest",
            Signal::Throttle => "the throttle of a server is the greatest",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that was measured, with its unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reading {
    /// The longest an element waited in a queue of late, or the shortest of a window: what the stage
    /// reports as its delay.
    QueueDelay(Duration),
    /// Of the calls of late, the share that was slow, those that hang counted: 0 to 1.
    SlowCalls(f64),
    /// How long a task that could run waited to.
    RuntimeLag(Duration),
    /// Processor time used, as a share of the quota: 1 is all of it.
    Cpu(f64),
    /// Memory used, as a share of the limit or the budget: 1 is all of it.
    Memory(f64),
    /// How long a server had us wait before it answered, since we had used up what it grants: what a broker
    /// with quotas says.
    Throttle(Duration),
    /// How many elements wait. The processor counts only while some do: one that is busy with work
    /// that is asked for is no overload.
    Queued(usize),
}

impl Reading {
    /// Which signal it is of and its value in the signal's unit; `None` for [`Reading::Queued`].
    #[must_use]
    pub fn value(self) -> Option<(Signal, f64)> {
        Some(match self {
            Reading::QueueDelay(delay) => (Signal::QueueDelay, delay.as_secs_f64()),
            Reading::SlowCalls(share) => (Signal::SlowCalls, share),
            Reading::RuntimeLag(lag) => (Signal::RuntimeLag, lag.as_secs_f64()),
            Reading::Cpu(share) => (Signal::Cpu, share),
            Reading::Memory(share) => (Signal::Memory, share),
            Reading::Throttle(wait) => (Signal::Throttle, wait.as_secs_f64()),
            Reading::Queued(_) => return None,
        })
    }
}

/// From where to where a signal counts: below `low` its score is 0, from `high` on it is 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Band {
    /// In the unit of the signal.
    pub low: f64,
    /// In the unit of the signal; more than `low`.
    pub high: f64,
}

impl Band {
    pub(super) fn score(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}
