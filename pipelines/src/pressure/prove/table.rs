//! Medians side by side, and what they prove.

use std::fmt;
use std::fmt::Write as _;

use serde_json::Value;

use super::Case;
use crate::cores::Cores;

/// A figure of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Capacity,
    Goodput,
    HighLost,
    HighP99,
    Inversions,
    Memory,
    Schedule,
}

const COLUMNS: [(Column, &str, usize); 7] = [
    (Column::Capacity, "C / s", 0),
    (Column::Goodput, "goodput / C", 3),
    (Column::HighLost, "HIGH lost", 5),
    (Column::HighP99, "HIGH p99, us", 0),
    (Column::Inversions, "inversions", 0),
    (Column::Memory, "RSS, KiB", 0),
    (Column::Schedule, "offers late, p99 us", 0),
];

/// A gate as a run printed it.
pub(super) struct Gate {
    value: Option<f64>,
    pub(super) met: bool,
}

impl Column {
    /// The gate that has this figure.
    pub(super) fn gate(self, run: &Value) -> Option<Gate> {
        let name = match self {
            Column::HighLost => "high_loss_max",
            Column::Schedule => "lag_p99_us_max",
            _ => return None,
        };
        let gates = run["gates"].as_array()?;
        let gate = gates.iter().find(|gate| gate["name"] == name)?;
        Some(Gate {
            value: gate["value"].as_f64(),
            met: gate["met"] == true,
        })
    }

    fn of(self, run: &Value) -> Option<f64> {
        match self {
            Column::Capacity => run["capacity_per_s"].as_f64(),
            Column::Goodput => run["goodput"].as_f64(),
            Column::HighLost | Column::Schedule => self.gate(run)?.value,
            Column::HighP99 => run["classes"]["high"]["latency_us"]["p99"].as_f64(),
            Column::Inversions => run["inversions"].as_f64(),
            Column::Memory => run["peak_rss_kib"].as_f64(),
        }
    }
}

/// The medians of a case; `None` where there is no run that counts.
pub(super) struct Row {
    case: Case,
    medians: [Option<f64>; COLUMNS.len()],
    void: usize,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Row {
    pub(super) fn new(case: Case, runs: &[Value], void: usize) -> Row {
        let medians = COLUMNS
            .map(|(column, ..)| median(runs.iter().filter_map(|run| column.of(run)).collect()));
        Row {
            case,
            medians,
            void,
        }
    }

    fn get(&self, wanted: Column) -> Option<f64> {
        let place = COLUMNS.iter().position(|(column, ..)| *column == wanted)?;
        self.medians[place]
    }
}

/// What stands above the rows of a scenario.
pub(super) fn head(scenario: &str) -> String {
    let mut text = format!("\n### {scenario}\n\n| system | load / C | processors |");
    for (_, name, _) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str(" void runs |\n|");
    text.push_str(&" --- |".repeat(COLUMNS.len() + 4));
    text
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = match self.case.cores {
            Cores::Any => "all for all",
            Cores::Apart => "one, producers another",
            Cores::One => "one for all",
        };
        let Case { system, level, .. } = self.case;
        write!(f, "| {system} | {level} | {cores} |")?;
        for (median, (_, _, digits)) in self.medians.iter().zip(COLUMNS) {
            match median {
                Some(median) => write!(f, " {median:.digits$} |")?,
                None => write!(f, " - |")?,
            }
        }
        write!(f, " {} |", self.void)
    }
}

/// Something that was to be shown.
pub(super) struct Verdict {
    what: String,
    value: Option<f64>,
    limit: Option<f64>,
    pub(super) met: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = if self.met { "met" } else { "NOT MET" };
        let shown =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let (value, limit) = (shown(self.value), shown(self.limit));
        write!(f, "{}: {value} against {limit}: {met}", self.what)
    }
}

fn at_least(what: String, value: Option<f64>, limit: f64) -> Verdict {
    let met = value.is_some_and(|value| value >= limit);
    Verdict {
        what,
        value,
        limit: Some(limit),
        met,
    }
}

fn at_most(what: String, value: Option<f64>, limit: Option<f64>) -> Verdict {
    let met = value
        .zip(limit)
        .is_some_and(|(value, limit)| value <= limit);
    Verdict {
        what,
        value,
        limit,
        met,
    }
}

/// What is to be shown beyond what the machine loses by itself: this part of HIGH.
const HIGH_LOST: f64 = 0.001;
const RSS_KIB: f64 = 2048.0;

/// What the rows of a scenario prove.
pub(super) fn verdicts(scenario: &str, rows: &[Row]) -> Vec<Verdict> {
    let find = |system: &str, level: f64, column: Column| {
        let wanted = |row: &&Row| {
            row.case.system == system
                && (row.case.level - level).abs() < 1e-9
                && row.case.cores == Cores::Any
        };
        rows.iter().find(wanted)?.get(column)
    };
    let ours = |level, column| find("forebay", level, column);
    let mut verdicts = Vec::new();
    for (level, least) in [(2.0, 0.95), (10.0, 0.90)] {
        let goodput = ours(level, Column::Goodput);
        let what = format!("{scenario}, goodput / C at {level} C, at least");
        verdicts.push(at_least(what, goodput, least));
        let floor = find("tokio_mpsc", 0.5, Column::HighLost);
        let what = format!(
            "{scenario}, HIGH lost at {level} C, at most {HIGH_LOST} more than by a plain channel at half of C"
        );
        let limit = floor.map(|floor| floor + HIGH_LOST);
        verdicts.push(at_most(what, ours(level, Column::HighLost), limit));
        let what =
            format!("{scenario}, HIGH p99 at {level} C, us, at most 3 times that at half of C");
        let limit = ours(0.5, Column::HighP99).map(|p99| 3.0 * p99);
        verdicts.push(at_most(what, ours(level, Column::HighP99), limit));
    }
    let what = format!("{scenario}, RSS at 10 C, KiB, at most 10 % or 2 MiB more than at C");
    let limit = ours(1.0, Column::Memory).map(|kib| (1.1 * kib).max(kib + RSS_KIB));
    verdicts.push(at_most(what, ours(10.0, Column::Memory), limit));
    verdicts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::slice::from_ref;

    use serde_json::json;

    use super::super::case;
    use super::*;

    fn run(goodput: f64, lost: f64, p99: f64, kib: u64) -> Value {
        json!({
            "capacity_per_s": 1000.0, "goodput": goodput, "inversions": 0, "peak_rss_kib": kib,
            "classes": { "high": { "latency_us": { "p99": p99 } } },
            "gates": [
                { "name": "lag_p99_us_max", "limit": 100.0, "value": 50.0, "met": true },
                { "name": "high_loss_max", "limit": 0.001, "value": lost, "met": false },
            ],
        })
    }

    fn rows(at_ten: &Value) -> Vec<Row> {
        let quiet = run(0.5, 0.002, 1000.0, 400);
        let half = case("forebay", 0.5, Cores::Any);
        vec![
            Row::new(case("tokio_mpsc", 0.5, Cores::Any), from_ref(&quiet), 0),
            Row::new(half, from_ref(&quiet), 0),
            Row::new(case("forebay", 1.0, Cores::Any), &[quiet], 0),
            Row::new(
                case("forebay", 2.0, Cores::Any),
                &[run(0.97, 0.0, 900.0, 400)],
                0,
            ),
            Row::new(case("forebay", 10.0, Cores::Any), from_ref(at_ten), 1),
            // Not judged: it shares its processor.
            Row::new(
                case("forebay", 10.0, Cores::One),
                &[run(0.1, 1.0, 9e9, 1 << 30)],
                0,
            ),
        ]
    }

    fn missed(at_ten: &Value) -> Vec<String> {
        let verdicts = verdicts("test", &rows(at_ten));
        let missed = verdicts.iter().filter(|verdict| !verdict.met);
        missed.map(ToString::to_string).collect()
    }

    #[test]
    fn a_verdict_is_missed_by_what_is_worse_and_by_nothing_else() {
        assert_eq!(missed(&run(0.92, 0.003, 2900.0, 2400)), [""; 0]);
        for (worse, what) in [
            (run(0.89, 0.0, 1000.0, 400), "goodput"),
            (run(0.92, 0.0031, 1000.0, 400), "HIGH lost"),
            (run(0.92, 0.0, 3100.0, 400), "HIGH p99"),
            (run(0.92, 0.0, 1000.0, 2500), "RSS"),
        ] {
            let missed = missed(&worse);
            assert!(missed.len() == 1 && missed[0].contains(what), "{missed:?}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let verdicts = verdicts("test", &rows(&json!({})));
        let missed = verdicts.iter().filter(|verdict| !verdict.met).count();
        assert_eq!(missed, 4, "all at 10 C");
        let row = Row::new(case("forebay", 10.0, Cores::Any), &[], 3).to_string();
        assert!(row.starts_with("| forebay | 10 | all for all | - |"));
        assert_eq!(
            row.matches('|').count(),
            head("test").lines().last().unwrap().matches('|').count()
        );
    }

    #[test]
    fn figures_are_medians() {
        let runs = [0.9, 0.1, 0.5].map(|goodput| run(goodput, 0.0, 1.0, 1));
        let row = Row::new(case("forebay", 2.0, Cores::Any), &runs, 0);
        assert_eq!(row.get(Column::Goodput), Some(0.5));
    }
}
