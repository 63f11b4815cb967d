//! What the scenarios of the wall clock prove on this machine, as a table and verdicts.
//!
//! Each run has a process of its own, so that its memory is its own. A run whose producers did not
//! hold their schedule is void, and made again. Figures are medians over the seeds. What the machine
//! itself loses is shown by a plain channel at half of the capacity: no system can lose less.

mod machine;
mod part;
mod table;

use std::env::current_exe;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::cores::Cores;
pub(crate) use part::Part;
use part::Refused;
use table::{Column, Row, verdicts};

/// How often a void run is made again.
const TRIES: usize = 3;

/// What is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Scenarios of the wall clock with a sweep over .5, 1, 2 and 10
    #[arg(default_values = ["wall_100us", "wall_1ms"])]
    scenarios: Vec<String>,
    /// Run with this seed; may be given several times
    #[arg(long = "seed", value_name = "N", default_values_t = [1, 2, 3])]
    seeds: Vec<u64>,
    /// For how long as much as possible is offered, to see how many refusals that makes
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    flood_seconds: f64,
}

/// A system at a level, with the processors it has.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Case {
    system: &'static str,
    level: f64,
    cores: Cores,
}

const fn case(system: &'static str, level: f64, cores: Cores) -> Case {
    Case {
        system,
        level,
        cores,
    }
}

const CASES: [Case; 9] = [
    case("tokio_mpsc", 0.5, Cores::Any),
    case("forebay", 0.5, Cores::Any),
    case("forebay", 1.0, Cores::Any),
    case("forebay", 2.0, Cores::Any),
    case("forebay", 10.0, Cores::Any),
    case("forebay", 2.0, Cores::Apart),
    case("forebay", 10.0, Cores::Apart),
    case("forebay", 2.0, Cores::One),
    case("forebay", 10.0, Cores::One),
];

impl Options {
    /// Makes all runs, and says what comes out as it comes. Whether all was shown that was to be.
    pub(crate) fn run(
        &self,
        mut say: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<bool, String> {
        say(&machine::in_words())?;
        let mut holds = true;
        for scenario in &self.scenarios {
            let mut rows = Vec::new();
            say(&table::head(scenario))?;
            for case in CASES {
                let row = self.row(scenario, case)?;
                say(&row.to_string())?;
                rows.push(row);
            }
            say("")?;
            for verdict in verdicts(scenario, &rows) {
                holds &= verdict.met;
                say(&format!("- {verdict}"))?;
            }
            for threads in [1, 2, 4] {
                let refused: Refused = flood(scenario, threads, self.flood_seconds)?;
                say(&format!("- {refused}"))?;
            }
        }
        say("")?;
        say(&machine::in_words())?;
        Ok(holds)
    }

    /// The medians of a case.
    fn row(&self, scenario: &str, case: Case) -> Result<Row, String> {
        let (mut runs, mut void) = (Vec::new(), 0);
        for seed in &self.seeds {
            for _ in 0..TRIES {
                let run = fresh(scenario, case, *seed)?;
                // On one processor producers wait for their turn: how late they are is a result.
                let held = Column::Schedule.gate(&run).is_some_and(|gate| gate.met);
                if held || case.cores == Cores::One {
                    runs.push(run);
                    break;
                }
                void += 1;
            }
        }
        Ok(Row::new(case, &runs, void))
    }
}

fn pressure(arguments: &[String]) -> Result<String, String> {
    let program = current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    // 3: a gate is missed, which is judged here.
    if !matches!(output.status.code(), Some(0 | 3)) {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {why}", arguments.join(" ")));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// One run in a process of its own.
fn fresh(scenario: &str, case: Case, seed: u64) -> Result<Value, String> {
    let level = case.level;
    let arguments = [
        "run".to_owned(),
        format!("{scenario}@{level}"),
        format!("--seed={seed}"),
        format!("--system={}", case.system),
        format!("--cores={}", case.cores.name()),
        "--json".to_owned(),
    ];
    let line = pressure(&arguments)?;
    serde_json::from_str(line.trim()).map_err(|error| format!("{scenario}@{level}: {error}"))
}

/// As much as possible is offered, in a process of its own.
fn flood(scenario: &str, threads: usize, seconds: f64) -> Result<Refused, String> {
    let arguments = [
        "prove-part".to_owned(),
        scenario.to_owned(),
        threads.to_string(),
        seconds.to_string(),
    ];
    let line = pressure(&arguments)?;
    serde_json::from_str(line.trim()).map_err(|error| format!("{scenario}: {error}"))
}
