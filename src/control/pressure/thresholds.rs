//! A consumer's plain test: is any figure over its limit, and what does it do then.

use std::fmt;
use std::time::Duration;

use crate::class::Class;

/// What a consumer sees of itself before it takes the next batch.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ConsumerReading {
    /// How many more elements could be processed at once.
    pub free_slots: usize,
    /// How long an element took of late, on average.
    pub average: Duration,
    /// Memory used, as a share of the limit: 0 to 1.
    pub memory: f64,
    /// Processor time used, as a share of the quota: 0 to 1.
    pub cpu: f64,
}

/// One figure that is over its limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Breach {
    /// Fewer slots are free than must be.
    Slots {
        /// How many are.
        free: usize,
    },
    /// Elements take too long.
    Average(Duration),
    /// Too much memory is used.
    Memory(f64),
    /// Too much processor time is used.
    Cpu(f64),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::Slots { free } => write!(f, "only {free} slots are free"),
            Breach::Average(average) => write!(f, "an element takes {average:?}"),
            Breach::Memory(share) => write!(f, "memory is at {:.0} %", share * 100.0),
            Breach::Cpu(share) => write!(f, "the processor is at {:.0} %", share * 100.0),
        }
    }
}

/// How a consumer goes through its next batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consumption {
    /// At once, as many as there are slots free.
    Parallel {
        /// How many.
        at_once: usize,
    },
    /// From a smaller batch, one by one, the highest class first; elements of that class and of lower
    /// ones wait for a later batch, and are counted.
    Sequential {
        /// The highest class that waits.
        defer_from: Class,
    },
}

/// The limits of a consumer, in the sense of its source document: strictly more than a limit, or
/// strictly fewer free slots, is pressure. There is no hysteresis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Thresholds {
    /// How many elements are processed at once.
    pub slots: usize,
    /// Fewer free slots than that are pressure.
    pub free_slots_least: usize,
    /// A longer average is pressure.
    pub average_most: Duration,
    /// A greater share of the memory is pressure.
    pub memory_most: f64,
    /// A greater share of the processor is pressure.
    pub cpu_most: f64,
}

impl Thresholds {
    /// The figures of the document: fewer than 2 of 10 slots free, more than 5 s on average, more
    /// than 80 % of the memory, more than 90 % of the processor.
    #[must_use]
    pub const fn a7() -> Thresholds {
        Thresholds {
            slots: 10,
            free_slots_least: 2,
            average_most: Duration::from_secs(5),
            memory_most: 0.8,
            cpu_most: 0.9,
        }
    }

    /// The figures that are over their limits.
    pub fn breaches(&self, reading: &ConsumerReading) -> impl Iterator<Item = Breach> + use<> {
        let free = reading.free_slots;
        let slots = (free < self.free_slots_least).then_some(Breach::Slots { free });
        let average =
            (reading.average > self.average_most).then_some(Breach::Average(reading.average));
        let memory = (reading.memory > self.memory_most).then_some(Breach::Memory(reading.memory));
        let cpu = (reading.cpu > self.cpu_most).then_some(Breach::Cpu(reading.cpu));
        [slots, average, memory, cpu].into_iter().flatten()
    }

    /// How to go through the next batch: with any breach one by one, HIGH first, LOW deferred.
    #[must_use]
    pub fn consumption(&self, reading: &ConsumerReading) -> Consumption {
        if self.breaches(reading).next().is_some() {
            return Consumption::Sequential {
                defer_from: Class::LOW,
            };
        }
        Consumption::Parallel {
            at_once: reading.free_slots.min(self.slots),
        }
    }
}
