//! The command line: what can be asked for, how results are told, and the exit codes.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::Comparison;
use crate::cores::Cores;
use crate::measure::Figures;
use crate::scenario::{BUILT_IN, FIELDS, Mode, Scenario};
use crate::session::{Changes, Loaded, Session, load};
use crate::{cost, prove, report, system, view};

const ABOUT: &str = "\
Load tests of pipelines under pressure, beside baselines, in simulated time or on the wall clock.

A scenario is a TOML file; those that come with the program are named by `pressure list`, and \
`pressure list --fields` tells every field. Producers are open loop: they offer each element at its \
time whatever became of the others, and latency counts from that time.

The exit code is 0 if every run balances and meets its gates, 1 if a run does not balance or could \
not be made, 2 if the request cannot be carried out as it stands, 3 if all balance and forebay \
misses a gate.";

#[derive(Parser, Debug)]
#[command(name = "pressure", version, about = "Load tests under pressure", long_about = ABOUT)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
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
        #[arg(long)]
        json: bool,
    },
    /// Runs forebay and all baselines, and prints them side by side
    Compare {
        /// Names or .toml files [default: all that run in simulated time]
        scenarios: Vec<String>,
        #[command(flatten)]
        options: Options,
        /// Also forebay without each of its mechanisms
        #[arg(long)]
        ablations: bool,
        /// Print an object of figures a run and a line, not the table
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
    },
    /// Measures what the whole stack costs below the capacity, against a bare pipeline
    Cost(cost::Options),
    /// Runs the scenarios of the wall clock, each time in a process of its own, and prints a table of
    /// medians and what it proves
    Prove(prove::Options),
    /// What `prove` runs in processes of its own
    #[command(hide = true)]
    ProvePart(prove::Part),
    /// What `cost` runs in processes of its own
    #[command(hide = true)]
    CostPart(cost::Part),
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Clock {
    Simulated,
    Wall,
}

#[derive(Args, Debug)]
struct Options {
    /// Run this system; may be given several times
    #[arg(long = "system", value_name = "NAME")]
    systems: Vec<String>,
    /// Run with this seed; may be given several times
    #[arg(long = "seed", value_name = "N")]
    seeds: Vec<u64>,
    /// Run by this clock, whatever the scenario says
    #[arg(long, value_name = "CLOCK")]
    mode: Option<Clock>,
    /// Work on so many elements at once, whatever the scenario says
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Let the mean service take so long; deadlines are in mean services and go with it
    #[arg(long, value_name = "US")]
    mean_us: Option<f64>,
    /// On the wall clock, have the producers share processors with the system like this
    #[arg(long, value_name = "CORES")]
    cores: Option<Cores>,
}

impl Options {
    fn changes(self) -> Changes {
        Changes {
            mode: self.mode.map(|clock| match clock {
                Clock::Simulated => Mode::Simulated,
                Clock::Wall => Mode::Wall,
            }),
            seeds: self.seeds,
            systems: self.systems,
            workers: self.workers,
            mean_us: self.mean_us,
            cores: self.cores,
        }
    }
}

/// The request cannot be carried out as it stands.
const USAGE: u8 = 2;
/// All balance, and forebay misses a gate.
const GATE_MISSED: u8 = 3;

/// What went wrong, and the exit code that says so.
struct Failure(String, u8);

fn usage(why: String) -> Failure {
    Failure(why, USAGE)
}

fn failed(why: impl ToString) -> Failure {
    Failure(why.to_string(), 1)
}

pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::List { fields } => list(fields),
        Command::Run {
            scenario,
            options,
            json,
        } => run(&scenario, &options.changes(), json),
        Command::Compare {
            scenarios,
            options,
            ablations,
            json,
        } => compare(&scenarios, &options.changes(), ablations, json),
        Command::Report {
            scenarios,
            options,
            ablations,
            out,
        } => write_report(&scenarios, &options.changes(), ablations, &out),
        Command::Cost(options) => compare_costs(&options),
        Command::Prove(options) => prove_all(&options),
        Command::ProvePart(part) => part
            .run()
            .map_err(failed)
            .and_then(|line| print(&line))
            .map(|()| 0),
        Command::CostPart(part) => part.run().map_err(failed).map(|()| 0),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure(why, code)) => {
            eprintln!("pressure: {why}");
            ExitCode::from(code)
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    writeln!(stdout(), "{text}").map_err(failed)
}

fn list(fields: bool) -> Result<u8, Failure> {
    if fields {
        print(FIELDS.trim_end())?;
        return Ok(0);
    }
    for (name, text) in BUILT_IN {
        let scenario = Scenario::parse(text).map_err(|why| failed(format!("{name}: {why}")))?;
        let mode = scenario.mode.name();
        print(&format!("{name:<20} {mode:<10} {}", scenario.about))?;
    }
    Ok(0)
}

fn all_simulated() -> Vec<String> {
    BUILT_IN
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .filter(|name| !name.starts_with("wall_"))
        .collect()
}

fn load_all(names: &[String], changes: &Changes) -> Result<Vec<Loaded>, Failure> {
    let names = if names.is_empty() {
        &all_simulated()
    } else {
        names
    };
    let loaded = names.iter().map(|name| load(name)?.change(changes));
    loaded.collect::<Result<Vec<_>, String>>().map_err(usage)
}

/// Makes all runs, in a terminal with a view of them.
fn make_all(
    mut session: Session,
    quiet: bool,
    mut each: impl FnMut(&Figures) -> Result<(), Failure>,
) -> Result<Vec<Figures>, Failure> {
    if !quiet && stdout().is_terminal() {
        let made = view::make_all(session).map_err(failed)?;
        made.iter().try_for_each(each)?;
        return Ok(made);
    }
    let mut made = Vec::new();
    for number in 0..session.planned().len() {
        let figures = session.make(number).map_err(failed)?;
        each(&figures)?;
        made.push(figures);
    }
    Ok(made)
}

fn as_json(figures: &Figures) -> Result<(), Failure> {
    print(&serde_json::to_string(figures).map_err(failed)?)
}

/// The exit code, and on standard error what does not balance.
fn verdict(made: &[Figures]) -> u8 {
    let mut code = 0;
    for figures in made {
        if let Some(imbalance) = &figures.imbalance {
            eprintln!(
                "pressure: {} of {} with seed {} does not balance: {imbalance}",
                figures.scenario, figures.system, figures.seed
            );
            code = 1;
        }
        let missed = figures.gates.iter().any(|gate| !gate.met);
        if missed && figures.system == "forebay" && code == 0 {
            code = GATE_MISSED;
        }
    }
    code
}

/// The figures of a run, to be read.
pub(crate) fn in_words(figures: &Figures) -> String {
    let mut text = format!(
        "{}  {}  seed {}  {}\n  goodput {:.3} of {:.0}/s   inversions {}   refused {:.0}/s   peak {} KiB in flight{}\n",
        figures.scenario,
        figures.system,
        figures.seed,
        figures.mode,
        figures.goodput,
        figures.capacity_per_s,
        figures.inversions,
        figures.more.refused_per_s,
        figures.peak_in_flight_bytes / 1024,
        figures
            .peak_rss_kib
            .map_or(String::new(), |kib| format!("   RSS grew by {kib} KiB")),
    );
    for rank in crate::scenario::Rank::ALL {
        let class = figures.classes.of(rank);
        let us = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{us:.0}"));
        let _ = writeln!(
            text,
            "  {:<7} offered {:>8}  in time {:>8}  late {:>7}  shed {:>8}  expired {:>7}  failed {:>6}  p50 {:>7}  p99 {:>8}  p99.9 {:>8} us",
            rank.name(),
            class.offered,
            class.in_deadline,
            class.late,
            class.shed,
            class.expired,
            class.failed,
            us(class.latency_us.p50),
            us(class.latency_us.p99),
            us(class.latency_us.p999),
        );
    }
    for gate in &figures.gates {
        let _ = writeln!(
            text,
            "  {} {:<24} {} against {}",
            if gate.met { "met   " } else { "MISSED" },
            gate.name,
            gate.value.map_or("-".to_owned(), |value| value.to_string()),
            gate.limit
        );
    }
    text
}

fn run(name: &str, changes: &Changes, json: bool) -> Result<u8, Failure> {
    let loaded = load_all(&[name.to_owned()], changes)?;
    let session = Session::new(loaded, &["forebay".to_owned()]);
    let made = make_all(session, json, |figures| {
        if json {
            as_json(figures)
        } else {
            print(&in_words(figures))
        }
    })?;
    Ok(verdict(&made))
}

fn compare(
    names: &[String],
    changes: &Changes,
    ablations: bool,
    json: bool,
) -> Result<u8, Failure> {
    let session = Session::new(load_all(names, changes)?, &system::all(ablations));
    let made = make_all(
        session,
        json,
        |figures| {
            if json { as_json(figures) } else { Ok(()) }
        },
    )?;
    if !json {
        print(&Comparison::new(&made).table())?;
    }
    Ok(verdict(&made))
}

fn write_report(
    names: &[String],
    changes: &Changes,
    ablations: bool,
    out: &PathBuf,
) -> Result<u8, Failure> {
    let session = Session::new(load_all(names, changes)?, &system::all(ablations));
    let scenarios: Vec<Scenario> = session.scenarios().cloned().collect();
    let made = make_all(session, false, |_| Ok(()))?;
    let page = report::page(&scenarios, &made).map_err(failed)?;
    fs::write(out, page).map_err(|error| failed(format!("{}: {error}", out.display())))?;
    print(&format!("{}", out.display()))?;
    Ok(verdict(&made))
}

fn compare_costs(options: &cost::Options) -> Result<u8, Failure> {
    options.check().map_err(usage)?;
    print(&options.run().map_err(failed)?)?;
    Ok(0)
}

fn prove_all(options: &prove::Options) -> Result<u8, Failure> {
    let proof = options.run().map_err(failed)?;
    print(&proof.text)?;
    Ok(if proof.holds { 0 } else { GATE_MISSED })
}
