//! The accounts of a run at one moment.

use std::collections::BTreeMap;
use std::fmt;

use crate::ledger::{Latency, StageCounts, TimeSplit};
use crate::outcome::Kind;
use crate::position::{Lag, SourceCounts};

/// One stage.
#[derive(Clone, PartialEq, Debug)]
pub struct StageReport {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// What it is: `map`, `buffer`, ..
    pub kind: &'static str,
    /// Its account.
    pub counts: StageCounts,
}

/// One source.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceReport {
    /// The name of its stage.
    pub name: String,
    /// False after `.untracked()`: then `counts` says nothing.
    pub tracked: bool,
    /// Elements its stage handed over, counted apart.
    pub made: u64,
    /// What became of them.
    pub counts: SourceCounts,
    /// Receipts that were dropped unsettled, by the name of the stage that ran then; of the source,
    /// where that is not known. They count as failed.
    pub abandoned: BTreeMap<String, u64>,
    /// How far each of its sequences is behind, if it knows: a Kafka source tells it for each partition it
    /// has.
    pub lag: Vec<Lag>,
}

/// One island.
#[derive(Clone, PartialEq, Debug)]
pub struct IslandReport {
    /// The name of its last stage.
    pub name: String,
    /// Where its time went.
    pub time: TimeSplit,
    /// Whether it has ended.
    pub ended: bool,
}

/// The accounts of a run at one moment: exact once it is quiescent, and per stage while it runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// In the order of declaration.
    pub stages: Vec<StageReport>,
    /// In the order of declaration.
    pub sources: Vec<SourceReport>,
    /// The tasks.
    pub islands: Vec<IslandReport>,
    /// Whether the run has ended, so that the accounts are final.
    pub quiescent: bool,
}

/// An account that does not balance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imbalance {
    /// The stage or source.
    pub stage: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.stage, self.what)
    }
}

impl Snapshot {
    /// Whether every element is accounted for, by stage and by source. Call it when the pipeline is
    /// quiescent: while elements move, the stages are read one after the other.
    ///
    /// It finds
    /// - a stage that lost or doubled an element: what came is not what went, ended or is held;
    /// - a receipt that was dropped unsettled, though its element went on: with the stage that ran
    ///   then, or the source where no stage did;
    /// - a receipt that was settled twice, or never;
    /// - once the run has ended, an outcome that the sources were told and no stage counted: under
    ///   the name of the source, since receipts do not keep who settled them;
    /// - once the run has ended, any difference between the outcomes that the stages counted and
    ///   those that the sources were told, if all sources are tracked, none went back or diverted,
    ///   and no stage forked or merged elements or holds one: under the name of the stage, if a
    ///   single one counted that outcome. Elsewhere one outcome may stand for several elements, and
    ///   numbers are not compared.
    ///
    /// It cannot find an outcome that a stage told alike to both sides but that is not what became
    /// of the value, a receipt that was exchanged for that of another element, nor anything of
    /// [untracked](crate::flow::Flow::untracked) elements but their number.
    pub fn check(&self) -> Result<(), Vec<Imbalance>> {
        let mut found = Vec::new();
        for stage in &self.stages {
            let missing = stage.counts.missing();
            if missing != 0 {
                let what = if missing > 0 {
                    format!("{missing} elements are missing")
                } else {
                    format!("{} elements too many", -missing)
                };
                found.push(Imbalance {
                    stage: stage.name.clone(),
                    what,
                });
            }
        }
        for source in self.sources.iter().filter(|source| source.tracked) {
            let counts = &source.counts;
            for (stage, count) in &source.abandoned {
                found.push(Imbalance {
                    stage: stage.clone(),
                    what: format!(
                        "{count} receipts were dropped, not settled: of `{}`",
                        source.name
                    ),
                });
            }
            let mut wrong = |what: String| {
                found.push(Imbalance {
                    stage: source.name.clone(),
                    what,
                });
            };
            if counts.doubled > 0 {
                wrong(format!("{} receipts were settled twice", counts.doubled));
            }
            if !counts.balances() {
                wrong("the outcomes do not add up to what entered".to_owned());
            }
            if counts.entered != source.made {
                wrong(format!(
                    "it handed over {} elements and tracked {}",
                    source.made, counts.entered
                ));
            }
            if self.quiescent && counts.unsettled() > 0 {
                wrong(format!(
                    "{} receipts were never settled",
                    counts.unsettled()
                ));
            }
        }
        if found.is_empty() && self.quiescent {
            found.extend(if self.is_comparable() {
                self.mislabelled()
            } else {
                self.untold()
            });
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// Whether each outcome stands for one element, so that sources and stages must count alike.
    fn is_comparable(&self) -> bool {
        let settled = |source: &SourceReport| {
            let counts = &source.counts;
            source.tracked && counts.unsettled() + counts.rewinds + counts.diverted == 0
        };
        let plain = |stage: &StageReport| {
            let source = self.sources.iter().any(|source| source.name == stage.name);
            let counts = &stage.counts;
            counts.merged + counts.held == 0 && (source || counts.made == 0)
        };
        self.sources.iter().all(settled) && self.stages.iter().all(plain)
    }

    /// How many elements ended so, over all stages.
    fn counted(&self, kind: Kind) -> u64 {
        let of = |stage: &StageReport| stage.counts.outcome(kind);
        self.stages.iter().map(of).sum()
    }

    /// Outcomes that the sources and the stages count differently.
    fn mislabelled(&self) -> Vec<Imbalance> {
        let total = self.total();
        let differs = |kind: Kind| {
            let (told, counted) = (total.outcome(kind), self.counted(kind));
            if told == counted {
                return None;
            }
            let settles = |stage: &&StageReport| stage.counts.outcome(kind) > 0;
            let mut settlers = self.stages.iter().filter(settles);
            let stage = match (settlers.next(), settlers.next()) {
                (Some(only), None) => only.name.clone(),
                _ => self.sources.first()?.name.clone(),
            };
            let kind = kind.name();
            let what = format!("the stages count {counted} {kind}, and the sources {told}");
            Some(Imbalance { stage, what })
        };
        Kind::ALL.into_iter().filter_map(differs).collect()
    }

    /// Outcomes that a source was told and no stage counted: of many outcomes, too, the one that
    /// stands is that of some stage. What a source that goes back or diverts decides is its own.
    fn untold(&self) -> Vec<Imbalance> {
        let told = |(source, kind): (&SourceReport, Kind)| {
            let of_its_own = match kind {
                Kind::Cancelled => return None,
                Kind::DeadLettered => source.counts.diverted,
                _ => 0,
            };
            let told = source.counts.outcome(kind).saturating_sub(of_its_own);
            let kind = kind.name();
            (told > 0).then(|| Imbalance {
                stage: source.name.clone(),
                what: format!("no stage counts one {kind}, and it was told so of {told}"),
            })
        };
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| self.counted(*kind) == 0);
        kinds
            .flat_map(|kind| self.sources.iter().map(move |source| (source, kind)))
            .filter_map(told)
            .collect()
    }

    /// Whether the accounts balance.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.check().is_ok()
    }

    /// The stage of that name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageReport> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The headline: all tracked sources together.
    #[must_use]
    pub fn total(&self) -> SourceCounts {
        let mut total = SourceCounts::default();
        for source in self.sources.iter().filter(|source| source.tracked) {
            total.add(&source.counts);
        }
        total
    }

    /// How long deliveries took, over all sinks.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        for stage in &self.stages {
            latency.add(&stage.counts.latency);
        }
        latency
    }

    /// Elements measured to be inside stages.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.stages.iter().map(|stage| stage.counts.held).sum()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in self.sources.iter().filter(|source| source.tracked) {
            write!(f, "source {}: {} in", source.name, source.counts.entered)?;
            for kind in Kind::ALL {
                let count = source.counts.outcome(kind);
                if count > 0 {
                    write!(f, ", {count} {}", kind.name())?;
                }
            }
            writeln!(f, ", {} unsettled", source.counts.unsettled())?;
            for lag in &source.lag {
                writeln!(f, "  {lag}")?;
            }
        }
        for stage in &self.stages {
            let counts = &stage.counts;
            write!(
                f,
                "{:<24} in {:>10} out {:>10} held {:>6}",
                stage.name, counts.entered, counts.left, counts.held
            )?;
            if counts.made + counts.merged > 0 {
                write!(f, " made {} merged {}", counts.made, counts.merged)?;
            }
            if counts.alerts > 0 {
                write!(f, " alerts {}", counts.alerts)?;
            }
            for settlement in counts.settlements() {
                let class = settlement
                    .class
                    .map_or("unclassified", crate::class::Class::name);
                write!(f, " | {} {} {class}", settlement.count, settlement.outcome)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
