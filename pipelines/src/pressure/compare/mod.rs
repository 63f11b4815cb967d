//! Systems side by side, on the six measures they are judged by: HIGH's p99 both over what was done and
//! over what was offered, because a system that loses half of HIGH serves the other half fast.

mod table;
mod verdict;

use std::collections::BTreeMap;

use crate::measure::{Figures, Settled};

/// A measure: its name, its value in a run, and whether more of it is better.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&Figures) -> Option<f64>,
    pub(crate) more_is_better: bool,
    /// Values up to this are bounds: less cannot be told.
    resolution: fn(&Figures) -> Option<f64>,
    digits: usize,
}

/// Of a measure without a resolution.
fn exact(_: &Figures) -> Option<f64> {
    None
}

/// What systems are judged by.
pub(crate) const MEASURES: [Measured; 7] = [
    Measured {
        name: "goodput/C",
        of: |figures| Some(figures.goodput),
        more_is_better: true,
        resolution: exact,
        digits: 3,
    },
    Measured {
        name: "HIGH loss",
        of: |figures| Some(figures.more.high_loss),
        more_is_better: false,
        resolution: exact,
        digits: 5,
    },
    Measured {
        name: "HIGH p99 us",
        of: |figures| figures.more.high_p99_us,
        more_is_better: false,
        resolution: exact,
        digits: 0,
    },
    Measured {
        name: "p99 of offered",
        of: |figures| figures.more.high_p99_of_offered_us,
        more_is_better: false,
        resolution: exact,
        digits: 0,
    },
    Measured {
        name: "inversions",
        of: |figures| Some(figures.inversions as f64),
        more_is_better: false,
        resolution: exact,
        digits: 0,
    },
    Measured {
        name: "peak KiB",
        of: |figures| Some(figures.peak_in_flight_bytes as f64 / 1024.0),
        more_is_better: false,
        resolution: exact,
        digits: 0,
    },
    Measured {
        name: "recovery ms",
        of: |figures| figures.recovery_ms,
        more_is_better: false,
        resolution: |figures| figures.settling.recovery.map(Settled::resolution),
        digits: 1,
    },
];

/// The columns after them.
pub(crate) const AFTER_MEASURES: [&str; 4] = [
    "refusal ns",
    "gates met",
    "worse than forebay in",
    "better than forebay in",
];

/// The values of one measure over the seeds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        Some(Spread {
            least: *values.first()?,
            median: values[values.len() / 2],
            most: *values.last()?,
        })
    }
}

/// One system in one scenario.
pub(crate) struct Row {
    pub(crate) system: String,
    pub(crate) spreads: [Option<Spread>; MEASURES.len()],
    resolutions: [Option<f64>; MEASURES.len()],
    refusal_ns: u64,
    /// Gates met in all seeds, and all gates.
    pub(crate) gates: (usize, usize),
    /// The measures in which its worst seed is better than forebay's best.
    pub(crate) better: Vec<&'static str>,
    /// Those in which its best seed is worse than forebay's worst.
    pub(crate) worse: Vec<&'static str>,
}

/// A system's runs of one scenario.
type Runs<'a> = (String, Vec<&'a Figures>);

/// All systems in all scenarios, in the order of the runs.
pub(crate) struct Comparison {
    pub(crate) scenarios: Vec<(String, Vec<Row>)>,
}

impl Comparison {
    pub(crate) fn new(made: &[Figures]) -> Comparison {
        let mut groups: Vec<(String, Vec<Runs<'_>>)> = Vec::new();
        for figures in made {
            let at = match groups
                .iter()
                .position(|(name, _)| *name == figures.scenario)
            {
                Some(at) => at,
                None => {
                    groups.push((figures.scenario.clone(), Vec::new()));
                    groups.len() - 1
                }
            };
            let systems = &mut groups[at].1;
            match systems.iter_mut().find(|(name, _)| *name == figures.system) {
                Some((_, runs)) => runs.push(figures),
                None => systems.push((figures.system.clone(), vec![figures])),
            }
        }
        let scenarios = groups.into_iter().map(|(name, systems)| {
            let mut rows: Vec<Row> = systems
                .into_iter()
                .map(|(system, runs)| row(system, &runs))
                .collect();
            judge(&mut rows);
            (name, rows)
        });
        Comparison {
            scenarios: scenarios.collect(),
        }
    }
}

fn row(system: String, runs: &[&Figures]) -> Row {
    let mut met: BTreeMap<usize, bool> = BTreeMap::new();
    for figures in runs {
        for (number, gate) in figures.gates.iter().enumerate() {
            *met.entry(number).or_insert(true) &= gate.met;
        }
    }
    Row {
        system,
        spreads: MEASURES
            .each_ref()
            .map(|measure| Spread::of(runs.iter().filter_map(|run| (measure.of)(run)).collect())),
        resolutions: MEASURES
            .each_ref()
            .map(|measure| runs.first().and_then(|run| (measure.resolution)(run))),
        refusal_ns: runs.first().map_or(0, |run| run.refusal_ns),
        gates: (met.values().filter(|met| **met).count(), met.len()),
        better: Vec::new(),
        worse: Vec::new(),
    }
}

/// Marks where another system differs from forebay beyond the spread of the seeds.
fn judge(rows: &mut [Row]) {
    let Some(ours) = rows
        .iter()
        .find(|row| row.system == "forebay")
        .map(|row| row.spreads)
    else {
        return;
    };
    for row in rows.iter_mut().filter(|row| row.system != "forebay") {
        for (measure, (theirs, ours)) in MEASURES.iter().zip(row.spreads.iter().zip(ours)) {
            let (Some(theirs), Some(ours)) = (theirs, ours) else {
                continue;
            };
            let (above, below) = (theirs.least > ours.most, theirs.most < ours.least);
            let (better, worse) = if measure.more_is_better {
                (above, below)
            } else {
                (below, above)
            };
            if better {
                row.better.push(measure.name);
            }
            if worse {
                row.worse.push(measure.name);
            }
        }
    }
}
