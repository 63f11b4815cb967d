//! The account of one stage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::task::AtomicWaker;

use super::latency::{Latency, LatencyLedger};
use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};

/// The class index of elements without a class.
pub(crate) const UNCLASSIFIED: usize = Class::COUNT;

/// Which settlements of a stage: class index (8 for unclassified), kind and reason.
pub type StageKey = (usize, Kind, Reason);

/// What elements were meant for, such as a topic, and how they ended.
pub type DestinationKey = (Arc<str>, Kind);

/// Settlements of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// The class, `None` for unclassified.
    pub class: Option<Class>,
    /// How they ended.
    pub outcome: Outcome,
    /// How many.
    pub count: u64,
}

#[derive(Default, Debug)]
pub(crate) struct StageLedger {
    // Written by the island that runs the stage alone: a load and a store, no locked instruction.
    entered: AtomicU64,
    left: AtomicU64,
    /// By a side output: of a boundary, another island hands those on.
    left_aside: AtomicU64,
    made: AtomicU64,
    merged: AtomicU64,
    held: AtomicU64,
    held_bytes: AtomicU64,
    held_peak: AtomicU64,
    alerts: AtomicU64,
    /// Deliveries by class, the one outcome that is frequent when all is well.
    delivered: [AtomicU64; Class::COUNT + 1],
    settled: Mutex<BTreeMap<StageKey, u64>>,
    destinations: Mutex<BTreeMap<DestinationKey, u64>>,
    latency: LatencyLedger,
    /// Where a stage is run by two islands: how to measure what it holds.
    probe: OnceLock<Probe>,
    /// Part of a cycle: who waits for its elements to move.
    watcher: OnceLock<Arc<AtomicWaker>>,
}

/// Measures what a stage holds, in elements.
struct Probe(Box<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

/// How far a stage has come: the counters that a trace compares from poll to poll.
#[cfg(feature = "testkit")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) entered: u64,
    pub(crate) left: u64,
    pub(crate) settled: u64,
    /// Of those, the ones that user code panicked on.
    pub(crate) panicked: u64,
}

/// Released, so that whoever sees a removal sees the additions before it.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Release);
}

/// What came into being at a stage, and what was removed there for good.
pub(crate) struct Flows {
    pub(crate) made: u64,
    pub(crate) gone: u64,
}

impl StageLedger {
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Acquire)
    }

    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire) + self.left_aside.load(Ordering::Acquire)
    }

    /// What was removed is read first.
    pub(crate) fn flows(&self) -> Flows {
        let settled: u64 = match self.settled.lock() {
            Ok(settled) => settled.values().sum(),
            Err(poisoned) => poisoned.into_inner().values().sum(),
        };
        let delivered = self
            .delivered
            .iter()
            .map(|count| count.load(Ordering::Acquire));
        let gone = settled + delivered.sum::<u64>() + self.merged.load(Ordering::Acquire);
        Flows {
            made: self.made.load(Ordering::Acquire),
            gone,
        }
    }

    /// Wakes whoever is registered there when elements enter or end here.
    pub(crate) fn watch(&self, watcher: &Arc<AtomicWaker>) {
        let _ = self.watcher.set(Arc::clone(watcher));
    }

    fn tell_watcher(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.wake();
        }
    }

    pub(crate) fn enter(&self, count: usize) {
        add(&self.entered, count as u64);
        self.tell_watcher();
    }

    pub(crate) fn leave(&self, count: usize) {
        add(&self.left, count as u64);
    }

    /// Counts elements that left by a side output.
    pub(crate) fn leave_aside(&self, count: usize) {
        add(&self.left_aside, count as u64);
    }

    pub(crate) fn make(&self, count: usize) {
        add(&self.made, count as u64);
    }

    pub(crate) fn merge(&self, count: usize) {
        add(&self.merged, count as u64);
    }

    pub(crate) fn hold(&self, items: usize, bytes: usize) {
        let items = items as u64;
        self.held.store(items, Ordering::Relaxed);
        self.held_bytes.store(bytes as u64, Ordering::Relaxed);
        if items > self.held_peak.load(Ordering::Relaxed) {
            self.held_peak.store(items, Ordering::Relaxed);
        }
    }

    /// So many alerts there were in all.
    pub(crate) fn alert(&self, alerts: u64) {
        self.alerts.store(alerts, Ordering::Relaxed);
    }

    pub(crate) fn probe(&self, probe: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.probe.set(Probe(Box::new(probe)));
    }

    /// Counts settlements. Any thread may: a sink's completions come from where they come from.
    pub(crate) fn settle(&self, class: Option<Class>, outcome: Outcome, count: usize) {
        let class = class.map_or(UNCLASSIFIED, Class::index);
        if outcome == Outcome::Delivered {
            self.delivered[class].fetch_add(count as u64, Ordering::Release);
            self.tell_watcher();
            return;
        }
        let mut settled = match self.settled.lock() {
            Ok(settled) => settled,
            Err(poisoned) => poisoned.into_inner(),
        };
        *settled
            .entry((class, outcome.kind(), outcome.reason()))
            .or_default() += count as u64;
        drop(settled);
        self.tell_watcher();
    }

    /// Counts elements by what they were meant for. They are settled besides.
    pub(crate) fn count_destination(&self, destination: &Arc<str>, kind: Kind, count: u64) {
        let mut destinations = match self.destinations.lock() {
            Ok(destinations) => destinations,
            Err(poisoned) => poisoned.into_inner(),
        };
        *destinations
            .entry((Arc::clone(destination), kind))
            .or_default() += count;
    }

    /// Elements measured to be inside.
    pub(crate) fn held(&self) -> u64 {
        match self.probe.get() {
            Some(probe) => (probe.0)(),
            None => self.held.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn latency(&self) -> &LatencyLedger {
        &self.latency
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn progress(&self) -> Progress {
        let settled = match self.settled.lock() {
            Ok(settled) => settled,
            Err(poisoned) => poisoned.into_inner(),
        };
        let panicked = settled
            .iter()
            .filter(|((_, _, why), _)| *why == Reason::Panicked)
            .map(|(_, n)| n)
            .sum();
        let delivered: u64 = self
            .delivered
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum();
        Progress {
            entered: self.entered.load(Ordering::Relaxed),
            left: self.left(),
            settled: settled.values().sum::<u64>() + delivered,
            panicked,
        }
    }

    pub(crate) fn counts(&self) -> StageCounts {
        let mut settled = match self.settled.lock() {
            Ok(settled) => settled.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        for (class, count) in self.delivered.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                settled.insert((class, Kind::Delivered, Reason::Plain), count);
            }
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StageCounts {
            entered: read(&self.entered),
            left: self.left(),
            made: read(&self.made),
            merged: read(&self.merged),
            held: self.held(),
            held_bytes: read(&self.held_bytes),
            held_peak: read(&self.held_peak),
            alerts: read(&self.alerts),
            settled,
            destinations: match self.destinations.lock() {
                Ok(destinations) => destinations.clone(),
                Err(poisoned) => poisoned.into_inner().clone(),
            },
            latency: self.latency.read(),
        }
    }
}

/// The account of one stage at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StageCounts {
    /// Elements that came in.
    pub entered: u64,
    /// Elements handed on.
    pub left: u64,
    /// Elements the stage made: copies, expansions, what a source read.
    pub made: u64,
    /// Elements that were merged into others.
    pub merged: u64,
    /// Elements measured to be inside.
    pub held: u64,
    /// Their bytes, where the stage weighs them.
    pub held_bytes: u64,
    /// The most elements ever inside.
    pub held_peak: u64,
    /// Emergencies that the admission this stage goes by has gone through, or dead letters that somebody
    /// should look at. Stages that share an admission show the same.
    pub alerts: u64,
    /// Elements that ended here, by class, kind and reason.
    pub settled: BTreeMap<StageKey, u64>,
    /// What became of elements by what they were meant for, of a sink that tells it: `to_kafka` does, by topic.
    /// A record that went to the dead letters instead counts as dead-lettered where it was meant for.
    pub destinations: BTreeMap<DestinationKey, u64>,
    /// How long elements that were delivered here took from their source, by class.
    pub latency: Latency,
}

impl StageCounts {
    /// Elements that ended here.
    #[must_use]
    pub fn settled_total(&self) -> u64 {
        self.settled.values().sum()
    }

    /// Elements that ended here in that way, over all classes.
    #[must_use]
    pub fn outcome(&self, kind: Kind) -> u64 {
        self.settled
            .iter()
            .filter(|((_, of, _), _)| *of == kind)
            .map(|(_, count)| count)
            .sum()
    }

    /// Elements that ended here for that reason, over all classes.
    #[must_use]
    pub fn reason(&self, reason: Reason) -> u64 {
        self.settled
            .iter()
            .filter(|((_, _, of), _)| *of == reason)
            .map(|(_, count)| count)
            .sum()
    }

    /// The settlements, one by one.
    pub fn settlements(&self) -> impl Iterator<Item = Settlement> + '_ {
        self.settled
            .iter()
            .map(|((class, kind, reason), count)| Settlement {
                class: Class::new(u8::try_from(*class).unwrap_or(u8::MAX)),
                outcome: Outcome::of(*kind, *reason),
                count: *count,
            })
    }

    /// Adds the account of another stage of the same kind.
    pub fn add(&mut self, other: &StageCounts) {
        self.entered += other.entered;
        self.left += other.left;
        self.made += other.made;
        self.merged += other.merged;
        self.held += other.held;
        self.held_bytes += other.held_bytes;
        self.held_peak = self.held_peak.max(other.held_peak);
        self.alerts = self.alerts.max(other.alerts);
        for (key, count) in &other.settled {
            *self.settled.entry(*key).or_default() += count;
        }
        for (key, count) in &other.destinations {
            *self.destinations.entry(key.clone()).or_default() += count;
        }
        self.latency.add(&other.latency);
    }

    /// How many elements the stage lost (positive) or doubled (negative); 0 when it is quiescent
    /// and sound.
    #[must_use]
    pub fn missing(&self) -> i64 {
        let came = self.entered + self.made;
        let went = self.left + self.merged + self.settled_total() + self.held;
        i64::try_from(i128::from(came) - i128::from(went)).unwrap_or(i64::MAX)
    }

    /// Whether every element that came is accounted for.
    #[must_use]
    pub fn check(&self) -> bool {
        self.missing() == 0
    }
}
