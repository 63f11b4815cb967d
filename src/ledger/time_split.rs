//! Where an island's time went.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an island did in a stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spent {
    Busy,
    WaitingForInput,
    WaitingForDemand,
}

#[derive(Default, Debug)]
pub(crate) struct TimeLedger {
    busy_ns: AtomicU64,
    input_ns: AtomicU64,
    demand_ns: AtomicU64,
}

impl TimeLedger {
    /// Adds a stretch. Only the island itself writes.
    pub(crate) fn add(&self, spent: Spent, ns: u64) {
        let counter = match spent {
            Spent::Busy => &self.busy_ns,
            Spent::WaitingForInput => &self.input_ns,
            Spent::WaitingForDemand => &self.demand_ns,
        };
        counter.store(counter.load(Ordering::Relaxed) + ns, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> TimeSplit {
        TimeSplit {
            busy_ns: self.busy_ns.load(Ordering::Relaxed),
            waiting_for_input_ns: self.input_ns.load(Ordering::Relaxed),
            waiting_for_demand_ns: self.demand_ns.load(Ordering::Relaxed),
        }
    }
}

/// Where an island's time went, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeSplit {
    /// Running operators.
    pub busy_ns: u64,
    /// Nothing to do: upstream had no element.
    pub waiting_for_input_ns: u64,
    /// Not allowed to: downstream had no demand.
    pub waiting_for_demand_ns: u64,
}

impl TimeSplit {
    /// The share of time spent running, 0..1; 0 before anything ran.
    #[must_use]
    pub fn busy_share(&self) -> f64 {
        let all = self.busy_ns + self.waiting_for_input_ns + self.waiting_for_demand_ns;
        if all == 0 {
            0.0
        } else {
            self.busy_ns as f64 / all as f64
        }
    }
}
