//! What goes wrong, and when.

use serde::{Deserialize, Serialize};

use super::class::Rank;
use crate::random::Random;

/// A fault that begins `at_ms` after the start and lasts `for_ms`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Workers are frozen.
    Stall { at_ms: u64, for_ms: u64 },
    /// Everything takes so many times as long.
    SlowSink {
        at_ms: u64,
        for_ms: u64,
        factor: f64,
    },
    /// That share of the calls that start does not return before the fault is over.
    Hang { at_ms: u64, for_ms: u64, share: f64 },
    /// That share of the calls that start fails: of an element all tries, or each by itself.
    Errors {
        at_ms: u64,
        for_ms: u64,
        share: f64,
        #[serde(default)]
        each_try: bool,
    },
    /// That share of the calls that start takes so many times as long.
    Grey {
        at_ms: u64,
        for_ms: u64,
        share: f64,
        factor: f64,
    },
    /// Others take that share of the processor.
    CpuSteal { at_ms: u64, for_ms: u64, share: f64 },
    /// Elements are so many times as large.
    MemoryGrowth {
        at_ms: u64,
        for_ms: u64,
        factor: f64,
    },
    /// Whoever was not served in time offers again, so many times, after that wait.
    RetryStorm {
        at_ms: u64,
        for_ms: u64,
        tries: u32,
        after_ms: f64,
    },
    /// No more than so many calls a second are served, in multiples of the capacity, and so many at
    /// once; others fail, after a tenth of their time.
    RateLimit {
        at_ms: u64,
        for_ms: u64,
        level: f64,
        burst: u32,
    },
    /// That share of one class comes as another.
    ClassShift {
        at_ms: u64,
        for_ms: u64,
        from: Rank,
        to: Rank,
        share: f64,
    },
}

const MS: u64 = 1_000_000;

impl Fault {
    /// From when to when, in nanoseconds after the start.
    pub(crate) fn window(&self) -> (u64, u64) {
        let (at_ms, for_ms) = match self {
            Fault::Stall { at_ms, for_ms }
            | Fault::SlowSink { at_ms, for_ms, .. }
            | Fault::Hang { at_ms, for_ms, .. }
            | Fault::Errors { at_ms, for_ms, .. }
            | Fault::Grey { at_ms, for_ms, .. }
            | Fault::CpuSteal { at_ms, for_ms, .. }
            | Fault::MemoryGrowth { at_ms, for_ms, .. }
            | Fault::RetryStorm { at_ms, for_ms, .. }
            | Fault::RateLimit { at_ms, for_ms, .. }
            | Fault::ClassShift { at_ms, for_ms, .. } => (at_ms, for_ms),
        };
        (at_ms * MS, (at_ms + for_ms) * MS)
    }

    pub(crate) fn is_on(&self, at_ns: u64) -> bool {
        let (from, to) = self.window();
        (from..to).contains(&at_ns)
    }

    /// Whether a breaker has a reason to open during it: calls fail, hang or are slow.
    pub(crate) fn breaks_calls(&self) -> bool {
        matches!(
            self,
            Fault::Stall { .. }
                | Fault::SlowSink { .. }
                | Fault::Hang { .. }
                | Fault::Errors { .. }
                | Fault::Grey { .. }
                | Fault::RateLimit { .. }
                | Fault::CpuSteal { .. }
        )
    }

    /// How fast work goes on during it.
    fn speed(&self) -> f64 {
        match self {
            Fault::Stall { .. } => 0.0,
            Fault::SlowSink { factor, .. } => 1.0 / factor,
            Fault::CpuSteal { share, .. } => 1.0 - share,
            _ => 1.0,
        }
    }

    pub(crate) fn check(&self, number: usize, duration_ms: u64) -> Result<(), String> {
        let field = format!("faults[{number}]");
        let (from, to) = self.window();
        if from >= to {
            return Err(format!("{field}.for_ms = 0: at least 1"));
        }
        if from >= duration_ms * MS {
            return Err(format!(
                "{field}.at_ms = {}: the run ends at {duration_ms}",
                from / MS
            ));
        }
        let (share, factor) = match self {
            Fault::Hang { share, .. }
            | Fault::Errors { share, .. }
            | Fault::ClassShift { share, .. } => (*share, 1.0),
            Fault::SlowSink { factor, .. } | Fault::MemoryGrowth { factor, .. } => (1.0, *factor),
            Fault::Grey { share, factor, .. } => (*share, *factor),
            Fault::CpuSteal { share, .. } => {
                if *share >= 1.0 {
                    return Err(format!("{field}.share = {share}: less than 1"));
                }
                (*share, 1.0)
            }
            Fault::Stall { .. } | Fault::RetryStorm { .. } => (1.0, 1.0),
            Fault::RateLimit { level, burst, .. } => {
                if !(0.001..=1000.0).contains(level) {
                    return Err(format!("{field}.level = {level}: from 0.001 to 1000"));
                }
                if *burst == 0 {
                    return Err(format!("{field}.burst = 0: at least 1"));
                }
                (1.0, 1.0)
            }
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("{field}.share = {share}: from 0 to 1"));
        }
        if !(1.0..=10_000.0).contains(&factor) {
            return Err(format!("{field}.factor = {factor}: from 1 to 10000"));
        }
        if let Fault::RetryStorm {
            tries, after_ms, ..
        } = self
        {
            if !(1..=10).contains(tries) {
                return Err(format!("{field}.tries = {tries}: from 1 to 10"));
            }
            if !(0.0..=60_000.0).contains(after_ms) {
                return Err(format!("{field}.after_ms = {after_ms}: from 0 to 60000"));
            }
        }
        Ok(())
    }
}

/// When a call ends, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    pub(crate) at_ns: u64,
    pub(crate) failed: bool,
}

/// The faults of a run, as calls meet them.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    faults: Vec<Fault>,
    /// The times at which the speed changes, in order.
    edges: Vec<u64>,
    seed: u64,
}

impl Timeline {
    pub(crate) fn new(faults: &[Fault], seed: u64) -> Timeline {
        let mut edges: Vec<u64> = faults
            .iter()
            .filter(|fault| fault.speed() < 1.0)
            .flat_map(|fault| <[u64; 2]>::from(fault.window()))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        Timeline {
            faults: faults.to_vec(),
            edges,
            seed,
        }
    }

    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn speed(&self, at_ns: u64) -> f64 {
        let on = self.faults.iter().filter(|fault| fault.is_on(at_ns));
        on.map(Fault::speed).product()
    }

    /// When work of that length that starts then is done.
    fn work(&self, start_ns: u64, work_ns: u64) -> u64 {
        let mut now = start_ns;
        let mut left = work_ns as f64;
        loop {
            let index = self.edges.partition_point(|edge| *edge <= now);
            let Some(edge) = self.edges.get(index) else {
                return now + left.ceil() as u64;
            };
            let speed = self.speed(now);
            let until_edge = (edge - now) as f64 * speed;
            if left <= until_edge {
                return now + (left / speed).ceil() as u64;
            }
            left -= until_edge;
            now = *edge;
        }
    }

    /// The end of a call that starts then, the first try or a later one. What happens to a call is drawn
    /// from the seed and its number alone, so that it is the same in every system.
    pub(crate) fn call(&self, id: u32, tries: u32, start_ns: u64, service_ns: u64) -> Ending {
        let mut service = service_ns as f64;
        let mut held_until = 0;
        let mut failed = false;
        for (number, fault) in self.faults.iter().enumerate() {
            if !fault.is_on(start_ns) {
                continue;
            }
            let tries = match fault {
                Fault::Errors { each_try: true, .. } => u64::from(tries.saturating_sub(1)),
                _ => 0,
            };
            let mut random = Random::new(
                self.seed ^ (u64::from(id) << 8) ^ number as u64 ^ (tries << 40),
                "what happens to a call",
            );
            match fault {
                Fault::Hang { share, .. } if random.happens(*share) => {
                    held_until = held_until.max(fault.window().1);
                }
                Fault::Errors { share, .. } if random.happens(*share) => failed = true,
                Fault::Grey { share, factor, .. } if random.happens(*share) => service *= factor,
                _ => {}
            }
        }
        Ending {
            at_ns: self.work(start_ns, service as u64).max(held_until),
            failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stands_still_in_a_stall_and_crawls_behind_a_slow_sink() {
        let faults = [
            Fault::Stall {
                at_ms: 10,
                for_ms: 50,
            },
            Fault::SlowSink {
                at_ms: 100,
                for_ms: 100,
                factor: 4.0,
            },
        ];
        let timeline = Timeline::new(&faults, 1);
        for (start, work, end) in [
            (0, 5, 5),
            (0, 12, 62),
            (20, 1, 61),
            (100, 10, 140),
            (192, 10, 208),
            (300, 3, 303),
        ] {
            assert_eq!(
                timeline.work(start * MS, work * MS),
                end * MS,
                "from {start}"
            );
        }
    }

    #[test]
    fn a_share_of_the_calls_hangs_until_the_fault_is_over() {
        let fault = Fault::Hang {
            at_ms: 0,
            for_ms: 100,
            share: 0.25,
        };
        let timeline = Timeline::new(&[fault], 7);
        let hung = (0..10_000)
            .filter(|id| timeline.call(*id, 1, 5 * MS, MS).at_ns == 100 * MS)
            .count();
        assert!((2300..2700).contains(&hung), "{hung}");
        assert_eq!(timeline.call(1, 1, 100 * MS, MS).at_ns, 101 * MS);
    }

    #[test]
    fn a_later_try_fares_like_the_first_unless_each_is_drawn() {
        let of = |each_try: bool| {
            let fault = Fault::Errors {
                at_ms: 0,
                for_ms: 100,
                share: 0.5,
                each_try,
            };
            let timeline = Timeline::new(&[fault], 7);
            let failed = move |id, tries| timeline.call(id, tries, MS, MS).failed;
            (0..1000)
                .filter(|id| failed(*id, 1) == failed(*id, 2))
                .count()
        };
        assert_eq!(of(false), 1000);
        assert!((430..570).contains(&of(true)), "{}", of(true));
    }
}
