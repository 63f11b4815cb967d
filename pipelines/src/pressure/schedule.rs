//! The arrivals of a run, all drawn before it begins: every system gets the same ones.

use crate::random::Random;
use crate::scenario::{Fault, Files, Load, Rank, Recorded, Scenario, Spacing, Times};

/// One element as it is to be offered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Arrival {
    /// When it is to start, in nanoseconds after the start of the run.
    pub(crate) at_ns: u64,
    /// How long the work on it takes.
    pub(crate) service_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) rank: Rank,
    /// How often it was offered before.
    pub(crate) tries: u32,
}

/// What has to be known to draw a schedule.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) load: Load,
    pub(crate) times: &'a Times,
    pub(crate) files: &'a Files,
    pub(crate) capacity_per_s: f64,
    pub(crate) seed: u64,
}

/// The load is taken to be constant for that long.
const SLOT_NS: u64 = 100_000;

impl Draw<'_> {
    /// All arrivals, in order of time.
    pub(crate) fn schedule(&self) -> Result<Vec<Arrival>, String> {
        let duration_ns = self.scenario.duration_ms * 1_000_000;
        let mut starts: Vec<Recorded> = match self.load.recorded(self.files)? {
            Some(mut recorded) => {
                recorded.retain(|arrival| arrival.at_ns < duration_ns);
                recorded
            }
            None => Rank::ALL
                .into_iter()
                .flat_map(|rank| self.of_class(rank, duration_ns))
                .collect(),
        };
        starts.sort_by_key(|start| (start.at_ns, start.rank.index()));
        let mut services = Random::new(self.seed, "service");
        let mut shifts = Random::new(self.seed, "class shift");
        let faults = &self.scenario.faults;
        let arrivals = starts.into_iter().map(|start| {
            let mut arrival = Arrival {
                at_ns: start.at_ns,
                service_ns: self.times.draw(&mut services),
                bytes: self.scenario.item_bytes,
                rank: start.rank,
                tries: 0,
            };
            for fault in faults.iter().filter(|fault| fault.is_on(start.at_ns)) {
                match fault {
                    Fault::MemoryGrowth { factor, .. } => {
                        arrival.bytes = (arrival.bytes as f64 * factor) as u64;
                    }
                    Fault::ClassShift {
                        from, to, share, ..
                    } if arrival.rank == *from && shifts.happens(*share) => arrival.rank = *to,
                    _ => {}
                }
            }
            arrival
        });
        Ok(arrivals.collect())
    }

    /// The arrivals of one class: a process of rate 1, stretched by the load.
    fn of_class(&self, rank: Rank, duration_ns: u64) -> Vec<Recorded> {
        let mut random = Random::new(self.seed, rank.name());
        let mut gap = || match self.load.arrivals {
            Spacing::Poisson => random.exponential(),
            Spacing::Constant => 1.0,
        };
        let mut arrivals = Vec::new();
        let mut until_next = gap();
        let mut slot = 0;
        while slot < duration_ns {
            let end = (slot + SLOT_NS).min(duration_ns);
            let middle_ms = (slot + end) as f64 / 2e6;
            let per_ns = self.load.level(rank, middle_ms) * self.capacity_per_s / 1e9;
            let mut now = slot as f64;
            let mut left = (end - slot) as f64 * per_ns;
            while until_next <= left {
                left -= until_next;
                now += until_next / per_ns;
                arrivals.push(Recorded {
                    at_ns: (now as u64).min(end - 1),
                    rank,
                });
                until_next = gap();
            }
            until_next -= left;
            slot = end;
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scenario(extra: &str) -> Scenario {
        let text = format!(
            "name = \"a\"\nabout = \"b\"\nduration_ms = 2000\nworkers = 1\n{extra}\n\
             [service]\nkind = \"constant\"\nmean_us = 100\n"
        );
        Scenario::parse(&text).unwrap()
    }

    fn schedule(scenario: &Scenario, seed: u64) -> Vec<Arrival> {
        let files = Files::none();
        let times = scenario.times(&files).unwrap();
        let draw = Draw {
            scenario,
            load: scenario.load_at(scenario.levels()[0]),
            times: &times,
            files: &files,
            capacity_per_s: 10_000.0,
            seed,
        };
        draw.schedule().unwrap()
    }

    #[test]
    fn the_rate_is_the_one_asked_for_in_each_stretch() {
        let scenario =
            scenario("load.total = [{ shape = \"steps\", levels = [0.5, 3.0], each_ms = 1000 }]");
        let arrivals = schedule(&scenario, 1);
        let of = |rank: Rank, second: u64| {
            let within = |a: &&Arrival| a.rank == rank && a.at_ns / 1_000_000_000 == second;
            arrivals.iter().filter(within).count() as f64
        };
        for (rank, second, wanted) in [
            (Rank::High, 0, 4_000.0),
            (Rank::Low, 0, 500.0),
            (Rank::High, 1, 4_000.0),
            (Rank::Medium, 1, 13_000.0),
        ] {
            let got = of(rank, second);
            let four_sigma = 4.0 * f64::sqrt(wanted);
            assert!(
                (got - wanted).abs() < four_sigma,
                "{rank:?} {second}: {got}"
            );
        }
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at_ns));
        assert_eq!(arrivals, schedule(&scenario, 1));
        assert_ne!(arrivals, schedule(&scenario, 2));
    }

    #[test]
    fn even_spacing_is_even() {
        let scenario = scenario(
            "load.arrivals = \"constant\"\nload.total = [{ shape = \"constant\", level = 0.4 }]",
        );
        let arrivals = schedule(&scenario, 1);
        assert_eq!(arrivals.len(), 7999);
        for pair in arrivals.windows(2) {
            assert!((pair[1].at_ns - pair[0].at_ns).abs_diff(250_000) <= 1);
        }
    }
}
