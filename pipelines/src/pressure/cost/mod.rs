//! What the whole stack costs while there is no overload: the processor time of a completed element,
//! against that of a bare pipeline with the same source and the same service.
//!
//! Both run by turns, each time in a process of its own, which another one feeds through a pipe at a
//! part of the capacity: open loop, so that both are offered the same. The two of a round follow each
//! other in random order, so that what else the machine does meets both alike, and their ratio is what
//! counts.

mod interval;
mod part;
mod stack;

use std::env::current_exe;
use std::fmt::Write as _;
use std::io::Read;
use std::process::{Command, Stdio};

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::random::Random;
use crate::spin;
use interval::Interval;
pub(crate) use part::Part;
use part::{Cost, Produced, told};
use stack::Which;

/// A round counts if that part of what was offered was completed.
const COMPLETED: f64 = 0.99;

/// What is compared, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Pairs of runs, one of each pipeline
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    pairs: u64,
    /// How long elements are offered in each run
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// How long the work on an element keeps the processor busy
    #[arg(long, value_name = "US", default_value_t = 10.0)]
    service_us: f64,
    /// What is offered, against what one processor can do
    #[arg(long, value_name = "LEVEL", default_value_t = 0.5)]
    level: f64,
    /// Elements that come at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=4_000))]
    batch: u64,
    /// Threads of the runtime that is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// A pair counts if its producers were no later, 99th percentile
    #[arg(long, value_name = "US", default_value_t = 2_000.0)]
    late_us: f64,
    /// By this the order within the pairs is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Count instructions instead, in simulated time under callgrind (valgrind must be there)
    #[arg(long)]
    instructions: bool,
    /// Print one object of figures
    #[arg(long)]
    json: bool,
}

/// One run of each.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
struct Pair {
    bare_ns: f64,
    full_ns: f64,
    ratio: f64,
}

/// What all rounds came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Compared {
    service_us: f64,
    level: f64,
    batch: u64,
    threads: u64,
    seed: u64,
    pairs: Vec<Pair>,
    /// Pairs that did not count: producers were late, or elements were not completed.
    void: u64,
    bare_ns: f64,
    full_ns: f64,
    /// What the stack costs more, as a part of what the bare pipeline costs.
    overhead: Interval,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
struct Instructions {
    batch: u64,
    bare: f64,
    full: f64,
}

impl Options {
    /// Whether all values are possible.
    pub(crate) fn check(&self) -> Result<(), String> {
        let within = [
            ("--seconds", self.seconds, 0.05, 3600.0),
            ("--service-us", self.service_us, 0.1, 100_000.0),
            ("--level", self.level, 0.01, 0.95),
        ];
        for (name, value, least, most) in within {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} {value}: from {least} to {most}"));
            }
        }
        Ok(())
    }

    fn service_ns(&self) -> u64 {
        (self.service_us * 1e3) as u64
    }

    fn every_ns(&self) -> u64 {
        (self.batch as f64 * self.service_us * 1e3 / self.level) as u64
    }

    /// Compares, and says in words or as JSON what came out.
    pub(crate) fn run(&self) -> Result<String, String> {
        if self.instructions {
            let counted = self.count()?;
            return if self.json {
                serde_json::to_string(&counted).map_err(told)
            } else {
                Ok(counted.in_words())
            };
        }
        let compared = self.compare()?;
        if self.json {
            serde_json::to_string(&compared).map_err(told)
        } else {
            Ok(compared.in_words())
        }
    }

    fn compare(&self) -> Result<Compared, String> {
        let turns = spin::turns(self.service_us * 1e3);
        let mut random = Random::new(self.seed, "order of pairs");
        let (mut pairs, mut void) = (Vec::new(), 0);
        while (pairs.len() as u64) < self.pairs {
            let bare_first = random.happens(0.5);
            let order = if bare_first {
                Which::BOTH
            } else {
                [Which::Full, Which::Bare]
            };
            let [first, second] = order.map(|which| self.round(which, turns));
            let (Some(first), Some(second)) = (first?, second?) else {
                void += 1;
                if void > self.pairs {
                    return Err(format!(
                        "{void} pairs were void: the machine is too busy to offer the load on time"
                    ));
                }
                continue;
            };
            let (bare_ns, full_ns) = if bare_first {
                (first, second)
            } else {
                (second, first)
            };
            pairs.push(Pair {
                bare_ns,
                full_ns,
                ratio: full_ns / bare_ns,
            });
        }
        let mean = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let more: Vec<f64> = pairs.iter().map(|pair| pair.ratio - 1.0).collect();
        Ok(Compared {
            service_us: self.service_us,
            level: self.level,
            batch: self.batch,
            threads: self.threads,
            seed: self.seed,
            void,
            bare_ns: mean(|pair| pair.bare_ns),
            full_ns: mean(|pair| pair.full_ns),
            overhead: Interval::of(&more).ok_or("fewer than two pairs")?,
            pairs,
        })
    }

    /// Nanoseconds of processor time for a completed element; `None` if the run does not count.
    fn round(&self, which: Which, turns: u64) -> Result<Option<f64>, String> {
        let every_ns = self.every_ns();
        let batches = (self.seconds * 1e9 / every_ns as f64).ceil() as u64;
        let mut producer = part("produce", &[self.batch, every_ns, batches])?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(told)?;
        let elements = producer.stdout.take().ok_or("the producer has no output")?;
        let mut measured = part("measure", &[])?
            .arg(which.name())
            .args([self.service_ns(), turns, self.threads].map(|number| number.to_string()))
            .stdin(elements)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(told)?;
        let cost: Result<Cost, String> = said(measured.stdout.take());
        let produced: Result<Produced, String> = said(producer.stderr.take());
        let ends = [measured.wait(), producer.wait()];
        let (cost, produced) = (cost?, produced?);
        for end in ends {
            if !end.map_err(told)?.success() {
                return Err("a part of the comparison failed".to_owned());
            }
        }
        let completed = cost.completed as f64;
        let counts =
            produced.lag_p99_us <= self.late_us && completed >= COMPLETED * produced.sent as f64;
        Ok(counts.then(|| cost.cpu_ns as f64 / completed))
    }

    /// Instructions an element, by the difference of a long run and a short one.
    fn count(&self) -> Result<Instructions, String> {
        let an_element = |which: Which| {
            let (few, many) = (200, 2_200);
            let between = self.simulated(which, many)? - self.simulated(which, few)?;
            Ok::<f64, String>(between / ((many - few) * self.batch) as f64)
        };
        Ok(Instructions {
            batch: self.batch,
            bare: an_element(Which::Bare)?,
            full: an_element(Which::Full)?,
        })
    }

    fn simulated(&self, which: Which, batches: u64) -> Result<f64, String> {
        let numbers = [self.batch, self.every_ns(), batches, self.service_ns()];
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            // What the islands do: the rest is the simulator's.
            .arg("--toggle-collect=*Island*turn")
            .arg(current_exe().map_err(told)?)
            .args(["cost-part", "simulate", which.name()])
            .args(numbers.map(|number| number.to_string()))
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        let told = String::from_utf8_lossy(&output.stderr);
        let collected = told
            .lines()
            .find_map(|line| line.split_once("Collected : "))
            .and_then(|(_, count)| count.trim().parse::<f64>().ok());
        match collected {
            Some(count) if output.status.success() => Ok(count),
            _ => Err(format!("callgrind: {told}")),
        }
    }
}

fn part(name: &str, numbers: &[u64]) -> Result<Command, String> {
    let mut command = Command::new(current_exe().map_err(told)?);
    command
        .args(["cost-part", name])
        .args(numbers.iter().map(u64::to_string));
    Ok(command)
}

/// What a part says at its end.
fn said<T: DeserializeOwned>(output: Option<impl Read>) -> Result<T, String> {
    let mut text = String::new();
    if let Some(mut output) = output {
        output.read_to_string(&mut text).map_err(told)?;
    }
    serde_json::from_str(&text).map_err(|_| format!("a part of the comparison said: {text}"))
}

impl Compared {
    fn in_words(&self) -> String {
        let mut text = String::new();
        for pair in &self.pairs {
            let _ = writeln!(
                text,
                "bare {:>8.0}  full {:>8.0} ns an element  {:+.2} %",
                pair.bare_ns,
                pair.full_ns,
                100.0 * (pair.ratio - 1.0)
            );
        }
        let Interval { mean, low, high } = self.overhead;
        let _ = write!(
            text,
            "{} pairs ({} void) at {} of the capacity, services of {} us, {} at once, {} threads, seed {}\n\
             bare {:.0}, full {:.0} ns of processor time for a completed element\n\
             the stack costs {:+.2} %, 95 % interval {:+.2} to {:+.2} % (Student's t over the pairs)",
            self.pairs.len(),
            self.void,
            self.level,
            self.service_us,
            self.batch,
            self.threads,
            self.seed,
            self.bare_ns,
            self.full_ns,
            100.0 * mean,
            100.0 * low,
            100.0 * high,
        );
        text
    }
}

impl Instructions {
    fn in_words(&self) -> String {
        let Instructions { batch, bare, full } = self;
        format!(
            "{batch} at once, in simulated time: {bare:.0} instructions an element in the bare pipeline, \
             {full:.0} in the full one, {:.0} more",
            full - bare
        )
    }
}
