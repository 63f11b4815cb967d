//! Why a graph is refused before anything starts.

use std::collections::BTreeSet;

use super::deadlock::Wiring;
use super::graph::{Graph, Node};
use super::guarantee::Guarantee;
use super::node::NodeSpec;
use crate::error::Refused;
use crate::operator::Answer;
use crate::operator::source::Settings;
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
        self.check_shared_letters()?;
        self.check_barriers()?;
        self.check_windows()?;
        if let Some(guarantee) = self.guarantee {
            self.check_guarantee(guarantee)?;
        }
        self.check_rewinds()
    }

    /// A stage that gathers more elements than its source may have unsettled waits for ever, and one
    /// that puts aside too many of them holds up the others. Only the certain case is refused: one
    /// source, and no stage between that makes more or fewer of them.
    fn check_windows(&self) -> Result<(), Refused> {
        for node in &self.nodes {
            let (gathers, aside) = (node.spec.gathers, node.spec.aside);
            if gathers == 0 && aside.is_none() {
                continue;
            }
            let Some((source, settings)) = self.only_source(node.stage.id) else {
                continue;
            };
            if !settings.tracked || settings.window == 0 {
                continue;
            }
            let (stage, window) = (self.name_of(node.stage.id), settings.window);
            let flushed = (1..=window).contains(&settings.barrier_every);
            if gathers > window && !flushed {
                let why = format!(
                    "it gathers {gathers} elements, and its source `{source}` may have no more than \
                     {window} unsettled: declare a larger `window` there, or a smaller group"
                );
                return Err(Refused::Deadlock { stage, why });
            }
            if let Some((items, share)) = aside
                && items as f64 > window as f64 * share
            {
                let what = format!(
                    "it may put {items} elements aside, more than {share} of the {window} that its \
                     source `{source}` may have unsettled, and so hold up all others: declare a \
                     larger `window` there, put fewer aside, or allow a larger `share_of_window`"
                );
                return Err(Refused::Setting { stage, what });
            }
        }
        Ok(())
    }

    /// The one source whose elements come to a stage, none more and none less.
    fn only_source(&self, stage: u32) -> Option<(String, Settings)> {
        let mut at = stage;
        loop {
            // A source may follow stages: what reads again what they wrote.
            if self.is_source(at) {
                break;
            }
            let mut inputs = self.edges.iter().filter(|(_, to)| *to == at);
            let (Some((from, _)), None) = (inputs.next(), inputs.next()) else {
                return None;
            };
            at = *from;
            let between = self.nodes.iter().find(|node| node.stage.id == at);
            if between.is_none_or(|node| node.spec.changes_count) {
                return None;
            }
        }
        let source = self.sources.iter().find(|source| source.stage == at)?;
        let settings = lock(&source.settings).clone();
        Some((self.name_of(at), settings))
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

    /// Flows that are built as the run goes on come and go; a sink of dead letters that was declared
    /// outside would run as part of the first and end with it.
    fn check_shared_letters(&self) -> Result<(), Refused> {
        let shared = |node: &&Node| node.spec.letters && node.stage.id < self.around.since;
        match self.nodes.iter().find(shared) {
            None => Ok(()),
            Some(node) => Err(Refused::Setting {
                stage: self.name_of(node.stage.id),
                what: "flows that are built as the run goes on (groups, restarted flows) cannot \
                       share dead letters that were declared outside: make `DeadLetters::new(..)` \
                       where the flow is built"
                    .to_owned(),
            }),
        }
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
        let name = guarantee.name();
        if guarantee != Guarantee::AtLeastOnce {
            self.refuse_stage(name, |spec| spec.repeats.clone())?;
        }
        if guarantee == Guarantee::AtMostOnce {
            return Ok(());
        }
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
