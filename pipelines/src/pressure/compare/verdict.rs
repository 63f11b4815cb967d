//! What a comparison comes to: forebay against each baseline, and what each mechanism is good for.

use std::fmt::Write as _;

use serde::Serialize;

use super::table::align;
use super::{Comparison, MEASURES, Row};
use crate::system::mechanism_of;

/// Forebay against the baselines in one scenario, by one measure. A system stands in none of the lists
/// if there is nothing to compare.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Verdict {
    scenario: String,
    measure: &'static str,
    /// Forebay's worst seed is better than the best of these.
    better_than: Vec<String>,
    /// The seeds' ranges overlap.
    within_the_seeds_of: Vec<String>,
    /// Forebay's best seed is worse than the worst of these.
    worse_than: Vec<String>,
}

/// What leaving a mechanism out makes worse, beyond the range of the seeds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Ablation {
    mechanism: String,
    /// The scenarios that it was left out of.
    tried_in: Vec<String>,
    /// Measures, and the scenarios in which they get worse without it.
    worsens: Vec<(&'static str, Vec<String>)>,
    /// The same where they get better without it.
    improves: Vec<(&'static str, Vec<String>)>,
}

/// All of it, as JSON says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Verdicts {
    verdicts: Vec<Verdict>,
    ablations: Vec<Ablation>,
}

impl Comparison {
    pub(crate) fn verdicts(&self) -> Verdicts {
        let verdicts = self
            .scenarios
            .iter()
            .flat_map(|(name, rows)| verdicts(name, rows));
        Verdicts {
            verdicts: verdicts.collect(),
            ablations: self.ablations(),
        }
    }

    fn ablations(&self) -> Vec<Ablation> {
        let mut mechanisms: Vec<&str> = Vec::new();
        for row in self.scenarios.iter().flat_map(|(_, rows)| rows) {
            let mechanism = mechanism_of(&row.system).filter(|name| !mechanisms.contains(name));
            mechanisms.extend(mechanism);
        }
        mechanisms
            .into_iter()
            .map(|name| self.without(name))
            .collect()
    }

    fn without(&self, mechanism: &str) -> Ablation {
        let tried: Vec<(&String, &Row)> = self
            .scenarios
            .iter()
            .flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)))
            .filter(|(_, row)| mechanism_of(&row.system) == Some(mechanism))
            .collect();
        let changes = |of: fn(&Row) -> &[&'static str]| {
            let by_measure = MEASURES.iter().map(|measure| {
                let named = tried
                    .iter()
                    .filter(|(_, row)| of(row).contains(&measure.name));
                let scenarios = named.map(|(name, _)| (*name).clone());
                (measure.name, scenarios.collect::<Vec<_>>())
            });
            by_measure
                .filter(|(_, scenarios)| !scenarios.is_empty())
                .collect()
        };
        Ablation {
            mechanism: mechanism.to_owned(),
            worsens: changes(|row| &row.worse),
            improves: changes(|row| &row.better),
            tried_in: tried.iter().map(|(name, _)| (*name).clone()).collect(),
        }
    }
}

fn verdicts(name: &str, rows: &[Row]) -> Vec<Verdict> {
    let Some(ours) = rows.iter().find(|row| row.system == "forebay") else {
        return Vec::new();
    };
    let baselines = || {
        let others = rows.iter().filter(|row| row.system != "forebay");
        others.filter(|row| mechanism_of(&row.system).is_none())
    };
    if baselines().next().is_none() {
        return Vec::new();
    }
    let verdict = |(number, measure): (usize, &super::Measured)| {
        let comparable =
            |row: &&Row| row.spreads[number].is_some() && ours.spreads[number].is_some();
        let named = |is: &dyn Fn(&Row) -> bool| {
            let rows = baselines().filter(comparable).filter(|row| is(row));
            rows.map(|row| row.system.clone()).collect::<Vec<_>>()
        };
        let loses = |row: &Row| row.worse.contains(&measure.name);
        let wins = |row: &Row| row.better.contains(&measure.name);
        Verdict {
            scenario: name.to_owned(),
            measure: measure.name,
            better_than: named(&loses),
            within_the_seeds_of: named(&|row| !loses(row) && !wins(row)),
            worse_than: named(&wins),
        }
    };
    MEASURES.iter().enumerate().map(verdict).collect()
}

impl Verdicts {
    /// A line for each scenario and measure, then a matrix of mechanisms and measures, and a line for
    /// each of its entries.
    pub(crate) fn in_words(&self) -> String {
        let mut text = String::new();
        let mut scenario = "";
        for verdict in &self.verdicts {
            if verdict.scenario != scenario {
                scenario = &verdict.scenario;
                let _ = writeln!(text, "forebay in {scenario}");
            }
            let _ = writeln!(text, "  {:<15} {}", verdict.measure, verdict.in_words());
        }
        if self.ablations.is_empty() {
            return text;
        }
        let mut cells = vec![vec!["scenarios worse without".to_owned()]];
        cells[0].extend(MEASURES.iter().map(|measure| measure.name.to_owned()));
        cells[0].push("tried in".to_owned());
        cells.extend(self.ablations.iter().map(Ablation::cells));
        let _ = writeln!(text, "\n{}", align(&cells));
        for ablation in &self.ablations {
            text.push_str(&ablation.in_words());
        }
        text
    }
}

impl Verdict {
    fn in_words(&self) -> String {
        let lists = [
            ("better than", &self.better_than),
            ("within the seeds' min-max of", &self.within_the_seeds_of),
            ("WORSE than", &self.worse_than),
        ];
        let said: Vec<String> = lists
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what} {}", names.join(", ")))
            .collect();
        if said.is_empty() {
            return "nothing to compare".to_owned();
        }
        said.join("; ")
    }
}

impl Ablation {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.mechanism.clone()];
        cells.extend(MEASURES.iter().map(|measure| {
            let found = self.worsens.iter().find(|(name, _)| *name == measure.name);
            found.map_or("-".to_owned(), |(_, scenarios)| scenarios.len().to_string())
        }));
        cells.push(self.tried_in.len().to_string());
        cells
    }

    fn in_words(&self) -> String {
        let mut text = String::new();
        let mechanism = &self.mechanism;
        if self.worsens.is_empty() {
            let _ = writeln!(text, "without {mechanism}: nothing is worse");
        }
        for (what, changes) in [("worsens", &self.worsens), ("improves", &self.improves)] {
            for (measure, scenarios) in changes {
                let scenarios = scenarios.join(", ");
                let _ = writeln!(text, "without {mechanism}: {what} {measure} in {scenarios}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    fn row(system: &str, goodput: (f64, f64), loss: (f64, f64)) -> Row {
        let spread = |(least, most)| {
            Some(Spread {
                least,
                median: least,
                most,
            })
        };
        let mut spreads = [None; MEASURES.len()];
        (spreads[0], spreads[1]) = (spread(goodput), spread(loss));
        Row {
            system: system.to_owned(),
            spreads,
            resolutions: [None; MEASURES.len()],
            refusal_ns: 0,
            gates: (0, 0),
            better: Vec::new(),
            worse: Vec::new(),
        }
    }

    #[test]
    fn a_verdict_is_by_the_range_of_the_seeds() {
        let mut rows = vec![
            row("forebay", (0.9, 1.0), (0.0, 0.0)),
            row("fifo_4", (0.7, 0.8), (0.1, 0.2)),
            row("codel_fifo", (0.8, 0.95), (0.0, 0.1)),
            row("tokio_mpsc", (1.1, 1.2), (0.0, 0.0)),
            row("forebay_without_expire", (0.5, 0.6), (0.0, 0.0)),
        ];
        super::super::judge(&mut rows);
        let comparison = Comparison {
            scenarios: vec![("load".to_owned(), rows)],
        };
        let told = comparison.verdicts();
        let goodput = &told.verdicts[0];
        assert_eq!(goodput.better_than, ["fifo_4"]);
        assert_eq!(goodput.within_the_seeds_of, ["codel_fifo"]);
        assert_eq!(goodput.worse_than, ["tokio_mpsc"]);
        assert_eq!(told.verdicts[1].better_than, ["fifo_4"]);
        assert_eq!(told.verdicts[2].in_words(), "nothing to compare");
        let expire = &told.ablations[0];
        assert_eq!(expire.worsens, [("goodput/C", vec!["load".to_owned()])]);
        let words = told.in_words();
        assert!(words.contains("WORSE than tokio_mpsc"), "{words}");
        assert!(
            words.contains("without expire: worsens goodput/C in load"),
            "{words}"
        );
    }
}
