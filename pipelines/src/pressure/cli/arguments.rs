//! What can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cores::Cores;
use crate::refusal::Refusal;
use crate::scenario::Mode;
use crate::session::Changes;
use crate::{cost, prove};

const ABOUT: &str = "\
Load tests of pipelines under pressure, beside baselines, in simulated time or on the wall clock.

A scenario is a TOML file; those that come with the program are named by `pressure list`, and \
`pressure list --fields` tells every field. Producers are open loop: they offer each element at its \
time whatever became of the others, and latency counts from that time.

The exit code is 0 if every run balances and meets its gates, 1 if a run does not balance or could \
not be made, 2 if the request cannot be carried out as it stands, 3 if all balance and forebay \
misses a gate.";

const JSON: &str = "\
Print an object of figures a run and a line; null is what could not be measured:

  scenario, seed, mode, system
  capacity_per_s, and goodput: done within the deadline, against it
  refusal_ns: what the workers were charged for each refusal
  balanced: whether every element is accounted for
  inversions, and aging_grants: starts out of order by declaration
  peak_rss_kib (wall clock), peak_in_flight_bytes
  recovery_ms, convergence_ms: at most that long
  settling.recovery, settling.convergence: ms again; resolution_ms, the least that can be told; repeats, \
how many spikes or steps were laid over each other; standard_error, as a share of what is compared
  breaker: trips, false_trips, trip_ms, close_ms
  adjustments: at_ms, what, from, to, because
  gates: name, limit, value, met
  classes.high, .medium, .low, of the whole run: offered, in_deadline, late, shed, expired, dead_lettered, \
cancelled, failed, deferrals, in_flight; and without its first part: latency_us (p50, p99, p999, max) from \
the intended start; time_to_reject_us (p50, p99) from the offer to the refusal of what was never begun; \
jain: Jain's index of what each producer's offers came to in time, 1 if all fare alike";

#[derive(Parser, Debug)]
#[command(name = "pressure", version, about = "Load tests under pressure", long_about = ABOUT)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Names the scenarios that come with the program
    List {
        /// Print every field of a scenario with what it means instead
        #[arg(long)]
        fields: bool,
    },
    /// Runs a scenario: forebay alone, unless the scenario or --system names others
    Run {
        /// A name that `list` prints, or a .toml file; `sweep@10` is one level of a sweep
        scenario: String,
        #[command(flatten)]
        options: Options,
        /// Print an object of figures a run and a line
        #[arg(long, long_help = JSON)]
        json: bool,
    },
    /// Runs forebay and all baselines, prints them side by side, and says where it is better or worse
    Compare {
        /// Names or .toml files [default: all that run in simulated time]
        scenarios: Vec<String>,
        #[command(flatten)]
        options: Options,
        /// Also forebay without each of its mechanisms
        #[arg(long)]
        ablations: bool,
        /// Print an object of figures a run and a line, not the table, and at last one of verdicts
        #[arg(long)]
        json: bool,
    },
    /// Measures what a refusal costs in each system on this machine, in nanoseconds
    Calibrate {
        /// The scenario whose policies to build with
        #[arg(default_value = "sweep")]
        scenario: String,
        #[command(flatten)]
        options: Options,
        /// Print one object, not lines
        #[arg(long)]
        json: bool,
    },
    /// Runs forebay and all baselines, and writes a page with plots
    Report {
        /// Names or .toml files [default: all that run in simulated time]
        scenarios: Vec<String>,
        #[command(flatten)]
        options: Options,
        /// Also forebay without each of its mechanisms
        #[arg(long)]
        ablations: bool,
        /// Write the page to this file
        #[arg(long, value_name = "FILE", default_value = "pressure.html")]
        out: PathBuf,
        /// Write a small plot of each scenario with the first seed, all systems in it, to this folder
        /// instead of the page
        #[arg(long, value_name = "FOLDER", conflicts_with = "out")]
        svg: Option<PathBuf>,
    },
    /// Measures what the whole stack costs below the capacity, against a bare pipeline
    Cost(cost::Options),
    /// Runs the scenarios of the wall clock, each time in a process of its own, and prints a table of
    /// medians and what it proves
    Prove(prove::Options),
    /// What `cost` runs in processes of its own
    #[command(hide = true)]
    CostPart(cost::Part),
    /// What `prove` runs in processes of its own
    #[command(hide = true)]
    ProvePart(prove::Part),
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(super) enum Clock {
    Simulated,
    Wall,
}

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Run this system; may be given several times
    #[arg(long = "system", value_name = "NAME")]
    pub(super) systems: Vec<String>,
    /// Run with this seed; may be given several times
    #[arg(long = "seed", value_name = "N")]
    pub(super) seeds: Vec<u64>,
    /// Run by this clock, whatever the scenario says
    #[arg(long, value_name = "CLOCK")]
    pub(super) mode: Option<Clock>,
    /// Work on so many elements at once, whatever the scenario says
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<usize>,
    /// Charge the workers so many nanoseconds for a refusal, whatever the scenario says; `measured`: what
    /// each system takes for one on this machine, so that the run is not the same another time
    #[arg(long, value_name = "NS")]
    pub(super) refusal: Option<Refusal>,
    /// Make so many simulated runs at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) jobs: usize,
    /// Let the mean service take so long; deadlines are in mean services and go with it
    #[arg(long, value_name = "US")]
    pub(super) mean_us: Option<f64>,
    /// On the wall clock, have the producers share processors with the system like this
    #[arg(long, value_name = "CORES")]
    pub(super) cores: Option<Cores>,
}

impl Options {
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.unwrap_or_default()
    }

    pub(super) fn changes(&self) -> Changes {
        Changes {
            mode: self.mode.map(|clock| match clock {
                Clock::Simulated => Mode::Simulated,
                Clock::Wall => Mode::Wall,
            }),
            seeds: self.seeds.clone(),
            systems: self.systems.clone(),
            workers: self.workers,
            mean_us: self.mean_us,
            cores: self.cores,
        }
    }
}
