//! The command line: what can be asked for, how results are told, and the exit codes.

mod arguments;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use arguments::{Cli, Command, Options};
use clap::Parser;
use serde::Serialize;

use crate::compare::Comparison;
use crate::measure::Figures;
use crate::scenario::{BUILT_IN, FIELDS, Mode, Scenario};
use crate::session::{Session, load};
use crate::{calibrate, cost, prove, report, system, view};

/// The request cannot be carried out as it stands.
const USAGE: u8 = 2;
/// All balance, and forebay misses a gate.
const GATE_MISSED: u8 = 3;

/// What went wrong, and the exit code that says so.
struct Failure(String, u8);

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure(why, 1)
    }
}

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
        } => run(&scenario, &options, json),
        Command::Compare {
            scenarios,
            options,
            ablations,
            json,
        } => compare(&scenarios, &options, ablations, json),
        Command::Calibrate {
            scenario,
            options,
            json,
        } => calibrate(&scenario, &options, json),
        Command::Report {
            scenarios,
            options,
            ablations,
            out,
            svg,
        } => write_report(&scenarios, &options, ablations, &out, svg.as_deref()),
        Command::Cost(options) => compare_costs(&options),
        Command::Prove(options) => prove_all(&options),
        Command::CostPart(part) => part.run().map_err(failed).map(|()| 0),
        Command::ProvePart(part) => part
            .run()
            .and_then(|line| print(&line))
            .map_err(failed)
            .map(|()| 0),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure(why, code)) => {
            eprintln!("pressure: {why}");
            ExitCode::from(code)
        }
    }
}

/// What cannot be printed or written.
type Said = Result<(), String>;

fn print(text: &str) -> Said {
    writeln!(stdout(), "{text}").map_err(|error| error.to_string())
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

fn session(names: &[String], options: &Options, systems: &[String]) -> Result<Session, Failure> {
    let names = if names.is_empty() {
        &all_simulated()
    } else {
        names
    };
    let changes = options.changes();
    let loaded = names.iter().map(|name| load(name)?.change(&changes));
    let loaded = loaded.collect::<Result<Vec<_>, String>>().map_err(usage)?;
    let by_wall = loaded.iter().find(|of| of.scenario.mode == Mode::Wall);
    if let Some(of) = by_wall.filter(|_| options.jobs > 1) {
        return Err(usage(format!(
            "--jobs {}: {} runs on the wall clock, one at a time",
            options.jobs, of.scenario.name
        )));
    }
    Session::new(loaded, systems, options.refusal()).map_err(failed)
}

/// Makes all runs, in a terminal with a view of them.
fn make_all(
    session: Session,
    jobs: usize,
    quiet: bool,
    mut each: impl FnMut(&Figures) -> Result<(), String>,
) -> Result<Vec<Figures>, Failure> {
    if !quiet && stdout().is_terminal() {
        let made = view::make_all(session, jobs).map_err(failed)?;
        made.iter().try_for_each(each).map_err(failed)?;
        return Ok(made);
    }
    let mut made = Vec::new();
    let keep = |figures: Figures| {
        each(&figures)?;
        made.push(figures);
        Ok(())
    };
    let stop = AtomicBool::new(false);
    session.make_all(jobs, &stop, keep).map_err(failed)?;
    Ok(made)
}

fn as_json(figures: &impl Serialize) -> Said {
    print(&serde_json::to_string(figures).map_err(|error| error.to_string())?)
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

fn run(name: &str, options: &Options, json: bool) -> Result<u8, Failure> {
    let session = session(&[name.to_owned()], options, &["forebay".to_owned()])?;
    let made = make_all(session, options.jobs, json, |figures| {
        if json {
            as_json(figures)
        } else {
            print(&words::of_run(figures))
        }
    })?;
    Ok(verdict(&made))
}

fn compare(
    names: &[String],
    options: &Options,
    ablations: bool,
    json: bool,
) -> Result<u8, Failure> {
    let session = session(names, options, &system::all(ablations))?;
    let made = make_all(session, options.jobs, json, |figures| {
        if json { as_json(figures) } else { Ok(()) }
    })?;
    let comparison = Comparison::new(&made);
    if json {
        as_json(&comparison.verdicts())?;
    } else {
        print(&comparison.table())?;
        print(&comparison.verdicts().in_words())?;
    }
    Ok(verdict(&made))
}

fn calibrate(name: &str, options: &Options, json: bool) -> Result<u8, Failure> {
    let loaded = load(name).and_then(|loaded| loaded.change(&options.changes()));
    let scenario = loaded.map_err(usage)?.scenario;
    let systems = if scenario.systems.is_empty() {
        &system::all(false)
    } else {
        &scenario.systems
    };
    let mut found = BTreeMap::new();
    for system in systems {
        let ns = |at_once| calibrate::refusal_ns(&scenario, system, at_once).map_err(failed);
        let (alone, at_once) = (ns(1)?, ns(calibrate::AT_ONCE)?);
        if !json {
            let many = calibrate::AT_ONCE;
            let text =
                format!("{system:<30} {alone:>7} ns a refusal, {at_once:>7} of {many} at once");
            print(&text)?;
        }
        found.insert(
            system,
            BTreeMap::from([("alone_ns", alone), ("at_once_ns", at_once)]),
        );
    }
    if json {
        as_json(&found)?;
    }
    Ok(0)
}

fn write_report(
    names: &[String],
    options: &Options,
    ablations: bool,
    out: &Path,
    svg: Option<&Path>,
) -> Result<u8, Failure> {
    let session = session(names, options, &system::all(ablations))?;
    let scenarios: Vec<Scenario> = session.scenarios().cloned().collect();
    let made = make_all(session, options.jobs, false, |_| Ok(()))?;
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        print(&format!("{}", path.display()))
    };
    let Some(folder) = svg else {
        write(out, report::page(&scenarios, &made)?)?;
        return Ok(verdict(&made));
    };
    let mut names: Vec<&String> = made.iter().map(|run| &run.scenario).collect();
    names.dedup();
    for name in names {
        let runs = made.iter().filter(|run| run.scenario == *name);
        let mut runs: Vec<&Figures> = runs.collect();
        let seed = runs.first().map(|run| run.seed);
        runs.retain(|run| Some(run.seed) == seed);
        write(&folder.join(format!("{name}.svg")), report::figure(&runs)?)?;
    }
    Ok(verdict(&made))
}

fn compare_costs(options: &cost::Options) -> Result<u8, Failure> {
    options.check().map_err(usage)?;
    print(&options.run()?)?;
    Ok(0)
}

fn prove_all(options: &prove::Options) -> Result<u8, Failure> {
    Ok(if options.run(print)? { 0 } else { GATE_MISSED })
}
