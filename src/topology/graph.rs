//! The graph itself: its stages, who hands to whom, and what is to run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::around::Around;
use super::guarantee::Guarantee;
use super::node::NodeSpec;
use super::print::{EdgeInfo, NodeInfo, Topology};
use crate::error::Refused;
use crate::operator::Stage;
use crate::operator::feedback::Members;
use crate::operator::source::{Settings, Walkers};
use crate::runtime::{Drive, Home, SourceInfo, StageInfo};

pub(super) struct Node {
    pub(super) stage: Arc<Stage>,
    pub(super) spec: NodeSpec,
    /// Where the stage finds its run, if it adds parts to it.
    pub(super) home: Option<Home>,
}

pub(super) struct SourceEntry {
    pub(super) stage: u32,
    pub(super) settings: Arc<Mutex<Settings>>,
    pub(super) walkers: Walkers,
}

/// What was declared so far.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// Stage numbers: from, to.
    pub(super) edges: Vec<(u32, u32)>,
    pub(super) islands: Vec<Box<dyn Drive>>,
    pub(super) sources: Vec<SourceEntry>,
    /// Outputs that lead nowhere yet.
    pub(super) open: BTreeSet<u32>,
    pub(super) problems: Vec<Refused>,
    pub(super) guarantee: Option<Guarantee>,
    /// If it is a part of a run that goes on: what is around it, and where elements come in from there
    /// and leave.
    pub(super) around: Around,
    pub(super) inlet: Option<u32>,
    pub(super) outlet: Option<u32>,
    /// What to say to whoever runs it again: that it ran, or why it was refused.
    pub(super) taken: Option<Box<Refused>>,
}

/// A graph ready to run.
pub(crate) struct Taken {
    pub(crate) stages: Vec<StageInfo>,
    pub(crate) sources: Vec<SourceInfo>,
    pub(crate) islands: Vec<Box<dyn Drive>>,
    pub(crate) topology: Topology,
}

impl Graph {
    /// Takes in the stages of another one.
    pub(super) fn absorb(&mut self, other: Graph) {
        self.nodes.extend(other.nodes);
        self.nodes.sort_by_key(|node| node.stage.id);
        self.edges.extend(other.edges);
        self.islands.extend(other.islands);
        self.sources.extend(other.sources);
        self.sources.sort_by_key(|source| source.stage);
        self.open.extend(other.open);
        self.problems.extend(other.problems);
        self.guarantee = self.guarantee.max(other.guarantee);
        self.inlet = self.inlet.or(other.inlet);
        self.taken = self.taken.take().or(other.taken);
    }

    pub(super) fn node_mut(&mut self, stage: &Stage) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.stage.id == stage.id)
    }

    /// Names by node, made unique in order of declaration.
    fn names(&self) -> Vec<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        self.nodes
            .iter()
            .map(|node| {
                let name = node
                    .spec
                    .name
                    .clone()
                    .unwrap_or_else(|| node.spec.kind.to_owned());
                let count = seen.entry(name.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    name
                } else {
                    format!("{name}#{count}")
                }
            })
            .collect()
    }

    pub(super) fn is_source(&self, id: u32) -> bool {
        self.sources.iter().any(|source| source.stage == id)
    }

    pub(super) fn name_of(&self, id: u32) -> String {
        self.nodes
            .iter()
            .zip(self.names())
            .find(|(node, _)| node.stage.id == id)
            .map_or_else(|| "an unnamed stage".to_owned(), |(_, name)| name)
    }

    /// The stages of a cycle: all that follow its head, up to its exit.
    pub(super) fn members(&self, head: &Stage, exit: &Arc<Stage>) -> Result<Members, String> {
        let (mut found, mut next) = (BTreeSet::new(), vec![head.id]);
        while let Some(stage) = next.pop() {
            if stage != exit.id && found.insert(stage) {
                let follow = self.edges.iter().filter(|(from, _)| *from == stage);
                next.extend(follow.map(|(_, to)| *to));
            }
        }
        let joined = |(from, to): &&(u32, u32)| {
            found.contains(to) && !found.contains(from) && *to != head.id
        };
        let foreign: BTreeSet<u32> = self
            .edges
            .iter()
            .filter(joined)
            .map(|(from, _)| *from)
            .collect();
        let mut nodes = self
            .nodes
            .iter()
            .filter(|node| found.contains(&node.stage.id));
        if let Some(node) = nodes.find(|node| node.home.is_some()) {
            let what = format!(
                "`{}` builds flows as it runs, which cannot be counted inside a cycle",
                self.name_of(node.stage.id)
            );
            return Err(what);
        }
        let stages = |of: &BTreeSet<u32>| {
            let of = |node: &&Node| of.contains(&node.stage.id);
            self.nodes
                .iter()
                .filter(of)
                .map(|node| Arc::clone(&node.stage))
                .collect()
        };
        Ok(Members {
            stages: stages(&found),
            foreign: stages(&foreign),
            exit: Arc::clone(exit),
        })
    }

    pub(super) fn topology(&self) -> Topology {
        let nodes = self
            .nodes
            .iter()
            .zip(self.names())
            .map(|(node, name)| NodeInfo {
                name,
                kind: node.spec.kind,
                held: node.spec.held,
                held_bytes: node.spec.held_bytes,
                boundary: node.spec.boundary,
                note: node.spec.note.clone(),
            })
            .collect();
        let index = |id: u32| self.nodes.iter().position(|node| node.stage.id == id);
        let edges = self
            .edges
            .iter()
            .filter_map(|(from, to)| {
                Some(EdgeInfo {
                    from: index(*from)?,
                    to: index(*to)?,
                })
            })
            .collect();
        Topology { nodes, edges }
    }

    /// Checks it, and takes what is to run.
    pub(super) fn take(&mut self, simulated: bool) -> Result<Taken, Refused> {
        if let Some(why) = &self.taken {
            return Err(Refused::clone(why));
        }
        let checked = self.check(simulated);
        let why = checked.clone().err().unwrap_or(Refused::RunTwice);
        self.taken = Some(Box::new(why));
        checked?;
        let names = self.names();
        let stages = self
            .nodes
            .iter()
            .zip(&names)
            .map(|(node, name)| {
                let _ = node.stage.name.set(Arc::from(name.as_str()));
                StageInfo {
                    name: name.clone(),
                    kind: node.spec.kind,
                    stage: Arc::clone(&node.stage),
                    home: node.home.clone().map(|home| (home, self.around(node))),
                }
            })
            .collect();
        let sources = self
            .sources
            .iter()
            .map(|source| SourceInfo {
                name: self.name_of(source.stage),
                stage: source.stage,
                walkers: Arc::clone(&source.walkers),
                settings: Arc::clone(&source.settings),
            })
            .collect();
        Ok(Taken {
            stages,
            sources,
            topology: self.topology(),
            islands: std::mem::take(&mut self.islands),
        })
    }
}
