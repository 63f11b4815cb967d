//! The graph while it is being declared.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::around::Around;
use super::graph::{Graph, Node, SourceEntry, Taken};
use super::guarantee::Guarantee;
use super::node::NodeSpec;
use super::print::Topology;
use crate::error::Refused;
use crate::operator::Stage;
use crate::operator::feedback::Members;
use crate::operator::source::{Settings, Walkers};
use crate::runtime::{Drive, Home};
use crate::sync::lock;

enum Slot {
    Graph(Box<Graph>),
    /// Joined to another graph.
    Moved(Plan),
}

/// A handle to the graph a flow belongs to. Flows that meet share one graph from then on.
#[derive(Clone)]
pub(crate) struct Plan(Arc<Mutex<Slot>>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

/// Stage numbers are unique in the process: flows are declared apart and joined later.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The number that the next stage will have.
pub(super) fn next_stage() -> u32 {
    NEXT.load(Ordering::Relaxed)
}

impl Plan {
    pub(crate) fn new() -> Plan {
        Plan(Arc::new(Mutex::new(Slot::Graph(Box::default()))))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Graph) -> R) -> R {
        let moved = match &mut *lock(&self.0) {
            Slot::Graph(graph) => return f(graph),
            Slot::Moved(plan) => plan.clone(),
        };
        moved.with(f)
    }

    fn root(&self) -> Plan {
        let moved = match &*lock(&self.0) {
            Slot::Graph(_) => return self.clone(),
            Slot::Moved(plan) => plan.clone(),
        };
        moved.root()
    }

    /// Makes both handles lead to one graph.
    pub(crate) fn join(&self, other: &Plan) {
        let (mine, theirs) = (self.root(), other.root());
        if Arc::ptr_eq(&mine.0, &theirs.0) {
            return;
        }
        let moved = std::mem::replace(&mut *lock(&theirs.0), Slot::Moved(mine.clone()));
        if let Slot::Graph(graph) = moved {
            mine.with(|whole| whole.absorb(*graph));
        }
    }

    /// Adds a stage behind others. Its output is open until something follows it.
    pub(crate) fn add(&self, spec: NodeSpec, inputs: &[&Arc<Stage>], branch: bool) -> Arc<Stage> {
        self.insert(spec, inputs, inputs.is_empty(), branch)
    }

    /// Adds a stage that has no stages before it in this graph and is no source: what enters it
    /// comes from elsewhere.
    pub(crate) fn add_inlet(&self, spec: NodeSpec, branch: bool) -> Arc<Stage> {
        self.insert(spec, &[], false, branch)
    }

    fn insert(
        &self,
        spec: NodeSpec,
        inputs: &[&Arc<Stage>],
        source: bool,
        branch: bool,
    ) -> Arc<Stage> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let branch = branch || inputs.iter().any(|input| input.branch);
        let stage = Arc::new(Stage::new(id, source, branch));
        self.with(|graph| {
            graph
                .edges
                .extend(inputs.iter().map(|input| (input.id, id)));
            for input in inputs {
                graph.open.remove(&input.id);
            }
            graph.nodes.push(Node {
                stage: Arc::clone(&stage),
                spec,
                home: None,
            });
            graph.open.insert(id);
        });
        stage
    }

    /// The output of a stage leads somewhere, or is not to lead anywhere.
    pub(crate) fn close(&self, stage: &Stage) {
        self.with(|graph| graph.open.remove(&stage.id));
    }

    /// The output of a stage is still to lead somewhere: it has branches and goes on itself.
    pub(crate) fn reopen(&self, stage: &Stage) {
        self.with(|graph| graph.open.insert(stage.id));
    }

    /// A stage from which several outputs go is closed itself; its branches are stages.
    pub(crate) fn edge(&self, from: &Stage, to: &Stage) {
        self.with(|graph| graph.edges.push((from.id, to.id)));
    }

    pub(crate) fn add_source(&self, stage: &Arc<Stage>, settings: Arc<Mutex<Settings>>) -> Walkers {
        let walkers = Walkers::default();
        let entry = SourceEntry {
            stage: stage.id,
            settings,
            walkers: Arc::clone(&walkers),
        };
        self.with(|graph| graph.sources.push(entry));
        walkers
    }

    /// Changes the settings of a source, whose stage this must be.
    pub(crate) fn set_source(&self, stage: &Stage, what: &str, set: impl FnOnce(&mut Settings)) {
        self.with(|graph| {
            let found = graph.sources.iter().find(|source| source.stage == stage.id);
            match found {
                Some(source) => set(&mut lock(&source.settings)),
                None => {
                    let stage = graph.name_of(stage.id);
                    let what = format!("`{what}` must come right after the source");
                    graph.problems.push(Refused::Setting { stage, what });
                }
            }
        });
    }

    pub(crate) fn add_island(&self, island: Box<dyn Drive>) {
        self.with(|graph| graph.islands.push(island));
    }

    pub(crate) fn rename(&self, stage: &Stage, name: String) {
        self.with(|graph| {
            if let Some(node) = graph.node_mut(stage) {
                node.spec.name = Some(name);
            }
        });
    }

    pub(crate) fn amend(&self, stage: &Stage, change: impl FnOnce(&mut NodeSpec)) {
        self.with(|graph| {
            if let Some(node) = graph.node_mut(stage) {
                change(&mut node.spec);
            }
        });
    }

    /// Where that stage will find its run: it adds parts to it.
    pub(crate) fn home(&self, stage: &Stage) -> Home {
        let home = Home::default();
        self.with(|graph| {
            if let Some(node) = graph.node_mut(stage) {
                node.home = Some(home.clone());
            }
        });
        home
    }

    /// Elements come in at that stage from the run this is to be a part of.
    pub(crate) fn lead_in(&self, stage: &Stage) {
        self.with(|graph| graph.inlet = Some(stage.id));
    }

    /// It is to be a part of a run that goes on: what leaves that stage goes on there.
    pub(crate) fn settle_in(&self, stage: &Stage, around: Around) {
        self.with(|graph| {
            graph.open.remove(&stage.id);
            graph.outlet = Some(stage.id);
            graph.guarantee = graph.guarantee.max(around.guarantee);
            graph.around = around;
        });
    }

    /// The stages of a cycle: all that follow its head, up to its exit.
    pub(crate) fn members(&self, head: &Stage, exit: &Arc<Stage>) -> Result<Members, String> {
        self.with(|graph| graph.members(head, exit))
    }

    /// Puts on record that the declaration is wrong; the pipeline will be refused.
    pub(crate) fn refuse(&self, stage: &Stage, what: impl Into<String>) {
        let what = what.into();
        self.with(|graph| {
            let stage = graph.name_of(stage.id);
            graph.problems.push(Refused::Setting { stage, what });
        });
    }

    pub(crate) fn guarantee(&self, guarantee: Guarantee) {
        self.with(|graph| graph.guarantee = graph.guarantee.max(Some(guarantee)));
    }

    /// Whether every stage hands on barriers, and whether every stage can go back.
    #[cfg(feature = "testkit")]
    pub(crate) fn keeps_marks(&self) -> (bool, bool) {
        self.with(|graph| {
            let all =
                |keeps: fn(&NodeSpec) -> bool| graph.nodes.iter().all(|node| keeps(&node.spec));
            (
                all(|spec| spec.no_barrier.is_none()),
                all(|spec| spec.no_rewind.is_none()),
            )
        })
    }

    pub(crate) fn topology(&self) -> Topology {
        self.with(|graph| graph.topology())
    }

    /// Checks the graph, and takes what is to run.
    pub(crate) fn take(&self, simulated: bool) -> Result<Taken, Refused> {
        self.with(|graph| graph.take(simulated))
    }
}
