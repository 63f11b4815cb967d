//! Why a graph is refused before anything starts.

use std::collections::BTreeSet;

use super::deadlock::Wiring;
use super::graph::{Graph, Node};
use super::guarantee::Guarantee;
use super::node::NodeSpec;
use crate::error::Refused;
use crate::operator::Answer;
use crate::sync::lock;

impl Graph {
    /// The first reason not to run it.
    pub(super) fn check(&self, simulated: bool) -> Result<(), Refused> {
        if let Some(problem) = self.problems.first() {
            return Err(problem.clone());
        }
        let untracked = self.sources.iter().find(|source| {
            let settings = lock(&source.settings);
            settings.tracks_itself && !settings.tracked
        });
        if let Some(source) = untracked {
            return Err(Refused::Setting {
                stage: self.name_of(source.stage),
                what: "it tracks its elements itself: leave `.untracked()` out".to_owned(),
            });
        }
        for source in &self.sources {
            if let Some(what) = lock(&source.settings).cannot_answer() {
                let stage = self.name_of(source.stage);
                return Err(Refused::Setting { stage, what });
            }
        }
        if let Some(open) = self.open.first() {
            return Err(Refused::Dangling {
                stage: self.name_of(*open),
            });
        }
        if simulated && let Some(node) = self.nodes.iter().find(|node| node.spec.threads) {
            return Err(Refused::NotSimulable {
                stage: self.name_of(node.stage.id),
            });
        }
        let specs = self.nodes.iter().map(|node| (node.stage.id, &node.spec));
        if let Some((stage, why)) =
            Wiring::new(specs, &self.edges).find(|stage| self.name_of(stage))
        {
            let stage = self.name_of(stage);
            return Err(Refused::Deadlock { stage, why });
        }
        self.check_dead_letters()?;
        self.check_windows()?;
        if let Some(guarantee) = self.guarantee {
            self.check_guarantee(guarantee)?;
        }
        self.check_rewinds()
    }

    /// A stage that gathers more elements than its source may have unsettled waits for ever. Only the
    /// certain case is refused: one source, and no stage between that makes more or fewer of them.
    fn check_windows(&self) -> Result<(), Refused> {
        for node in self.nodes.iter().filter(|node| node.spec.gathers > 0) {
            let mut at = node.stage.id;
            let source = loop {
                let mut inputs = self.edges.iter().filter(|(_, to)| *to == at);
                match (inputs.next(), inputs.next()) {
                    (None, _) => break self.sources.iter().find(|source| source.stage == at),
                    (Some((from, _)), None) => at = *from,
                    _ => break None,
                }
                let between = self.nodes.iter().find(|node| node.stage.id == at);
                if between.is_none_or(|node| node.spec.changes_count) {
                    break None;
                }
            };
            let Some(settings) = source.map(|source| lock(&source.settings).clone()) else {
                continue;
            };
            let flushed = (1..=settings.window).contains(&settings.barrier_every);
            let waits = node.spec.gathers > settings.window;
            if settings.tracked && settings.window > 0 && waits && !flushed {
                return Err(Refused::Deadlock {
                    stage: self.name_of(node.stage.id),
                    why: format!(
                        "it gathers {} elements, and its source `{}` may have no more than {} \
                         unsettled: declare a larger `window` there, or a smaller group",
                        node.spec.gathers,
                        self.name_of(at),
                        settings.window
                    ),
                });
            }
        }
        Ok(())
    }

    /// A dead letter must have the bytes to try again with.
    fn check_dead_letters(&self) -> Result<(), Refused> {
        for node in self.nodes.iter().filter(|node| node.spec.needs_origin) {
            if let Some(source) = self.source_without_origin(node.stage.id) {
                return Err(Refused::Setting {
                    stage: self.name_of(node.stage.id),
                    what: format!(
                        "its dead letters would be empty: `{}` does not keep the original bytes; \
                         declare `.encode(..)`, or use a source that keeps them",
                        self.name_of(source)
                    ),
                });
            }
        }
        Ok(())
    }

    /// A source before a stage with no stage between that gives elements their origin.
    pub(super) fn source_without_origin(&self, stage: u32) -> Option<u32> {
        let mut open = vec![stage];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            let keeps = |node: &Node| node.stage.id == id && node.spec.origin;
            if !seen.insert(id) || self.nodes.iter().any(keeps) {
                continue;
            }
            let before = open.len();
            open.extend(
                self.edges
                    .iter()
                    .filter(|(_, to)| *to == id)
                    .map(|(from, _)| *from),
            );
            let given = self.inlet == Some(id) && self.around.origin;
            if open.len() == before && !given {
                return Some(id);
            }
        }
        None
    }

    fn check_guarantee(&self, guarantee: Guarantee) -> Result<(), Refused> {
        if guarantee == Guarantee::AtMostOnce {
            return Ok(());
        }
        let name = guarantee.name();
        self.refuse_stage(name, |spec| spec.loses.clone())?;
        for source in &self.sources {
            let settings = lock(&source.settings);
            let why = if !settings.tracked {
                "is untracked: leave `.untracked()` out"
            } else if settings.loss {
                "declares that loss is allowed: leave `.allow_loss()` out"
            } else if settings.answer == Answer::Continue {
                "goes on whatever happens: declare `.on_unresolved(Answer::Stop)` or `Rewind`"
            } else {
                continue;
            };
            drop(settings);
            return Err(Refused::Guarantee {
                guarantee: name,
                stage: self.name_of(source.stage),
                why: why.to_owned(),
            });
        }
        if guarantee == Guarantee::ExactlyOnce {
            self.refuse_stage(name, |spec| spec.no_barrier.map(ToOwned::to_owned))?;
            self.refuse_stage(name, |spec| spec.no_rewind.map(ToOwned::to_owned))?;
        }
        Ok(())
    }

    fn refuse_stage(
        &self,
        guarantee: &'static str,
        breaks: impl Fn(&NodeSpec) -> Option<String>,
    ) -> Result<(), Refused> {
        for node in &self.nodes {
            if let Some(why) = breaks(&node.spec) {
                let stage = self.name_of(node.stage.id);
                return Err(Refused::Guarantee {
                    guarantee,
                    stage,
                    why,
                });
            }
        }
        Ok(())
    }
}
