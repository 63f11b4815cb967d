//! The graph while it is being declared.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::deadlock::{Takes, Wiring};
use super::guarantee::Guarantee;
use super::print::{EdgeInfo, NodeInfo, Topology};
use crate::error::Refused;
use crate::operator::feedback::Members;
use crate::operator::source::{Settings, Walkers};
use crate::operator::{Answer, Stage};
use crate::runtime::{Drive, Home, SourceInfo, StageInfo};
use crate::sync::lock;

/// What a stage declares about itself. Of a kind alone, it is one that holds nothing between two
/// calls, loses nothing, and keeps barriers and rewinds.
///
/// ```
/// use forebay::topology::NodeSpec;
///
/// let spec = NodeSpec::new("reorder").holds(64).no_rewind("keeps an order it cannot rebuild");
/// ```
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(crate) kind: &'static str,
    pub(crate) name: Option<String>,
    /// The most elements it holds between two calls.
    pub(crate) held: usize,
    /// The most bytes, where it is bounded by bytes as well.
    pub(crate) held_bytes: Option<u64>,
    /// How it may lose elements for good, if it may: "sheds its oldest when full".
    pub(crate) loses: Option<String>,
    /// Why it cannot keep barriers, if it cannot.
    pub(crate) no_barrier: Option<&'static str>,
    /// It has state that a rewind would have to rebuild, and no closure to do so.
    pub(crate) no_rewind: Option<&'static str>,
    /// It runs on threads of its own.
    pub(crate) threads: bool,
    /// It may hand on more or fewer elements than came in.
    pub(crate) changes_count: bool,
    /// It hands nothing on before it has gathered so many elements.
    pub(crate) gathers: usize,
    /// It hands every element to each of its branches.
    pub(crate) copies: bool,
    /// How it takes from its inputs, where that can bring branches of one fan-out to a halt.
    pub(crate) takes: Option<Takes>,
    /// The user declared that buffers hold what its inputs differ by.
    pub(crate) balanced: bool,
    /// A hand-off between islands: drawn as an edge with a bound.
    pub(crate) boundary: bool,
    /// It gives its elements their origin.
    pub(crate) origin: bool,
    /// It writes dead letters of nothing but the origin.
    pub(crate) needs_origin: bool,
    /// More to print: a policy, a limit.
    pub(crate) note: Option<String>,
}

impl NodeSpec {
    /// A stage of that kind.
    #[must_use]
    pub fn new(kind: &'static str) -> NodeSpec {
        NodeSpec {
            kind,
            name: None,
            held: 0,
            held_bytes: None,
            loses: None,
            no_barrier: None,
            no_rewind: None,
            threads: false,
            changes_count: false,
            gathers: 0,
            copies: false,
            takes: None,
            balanced: false,
            boundary: false,
            origin: false,
            needs_origin: false,
            note: None,
        }
    }

    /// Its name in reports, errors and pictures. Default: its kind.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> NodeSpec {
        self.name = Some(name.into());
        self
    }

    /// The most elements it holds between two calls.
    #[must_use]
    pub fn holds(mut self, items: usize) -> NodeSpec {
        self.held = items;
        self
    }

    /// The most bytes it holds, where it is bounded by bytes as well.
    #[must_use]
    pub fn holds_bytes(mut self, bytes: u64) -> NodeSpec {
        self.held_bytes = (bytes != u64::MAX).then_some(bytes);
        self
    }

    /// How it may lose elements for good: it is refused under at-least-once and exactly-once.
    #[must_use]
    pub fn loses(mut self, how: impl Into<String>) -> NodeSpec {
        self.loses = Some(how.into());
        self
    }

    /// Why it cannot keep barriers: it is refused under exactly-once.
    #[must_use]
    pub fn no_barrier(mut self, why: &'static str) -> NodeSpec {
        self.no_barrier = Some(why);
        self
    }

    /// Why it cannot drop what it holds of a source that goes back: it is refused under exactly-once
    /// and under [`Answer::Rewind`].
    #[must_use]
    pub fn no_rewind(mut self, why: &'static str) -> NodeSpec {
        self.no_rewind = Some(why);
        self
    }

    /// It runs on threads of its own: it is refused in simulated time.
    #[must_use]
    pub fn threads(mut self) -> NodeSpec {
        self.threads = true;
        self
    }

    /// It may hand on more or fewer elements than came in.
    pub(crate) fn changes_count(mut self) -> NodeSpec {
        self.changes_count = true;
        self
    }

    /// It hands nothing on before it has gathered so many elements, however long that takes.
    pub(crate) fn gathers(mut self, items: usize) -> NodeSpec {
        self.gathers = items;
        self
    }

    pub(crate) fn copies(mut self) -> NodeSpec {
        self.copies = true;
        self
    }

    /// It takes one element from each input.
    pub(crate) fn in_step(mut self) -> NodeSpec {
        self.takes = Some(Takes::InStep);
        self
    }

    /// It takes all elements of one input before those of the next.
    pub(crate) fn in_sequence(mut self) -> NodeSpec {
        self.takes = Some(Takes::InSequence);
        self
    }

    pub(crate) fn boundary(mut self) -> NodeSpec {
        self.boundary = true;
        self
    }

    /// So many elements more.
    pub(crate) fn holds_more(mut self, items: usize) -> NodeSpec {
        self.held += items;
        self
    }

    /// Adds to what is printed.
    pub(crate) fn note_more(mut self, more: &str) -> NodeSpec {
        let note = self.note.take().map_or(String::new(), |note| note + ", ");
        self.note = Some(note + more);
        self
    }

    /// More to print in pictures: a policy, a limit.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> NodeSpec {
        self.note = Some(note.into());
        self
    }
}

impl From<&'static str> for NodeSpec {
    fn from(kind: &'static str) -> NodeSpec {
        NodeSpec::new(kind).holds(crate::chunk::Chunk::<()>::MAX)
    }
}

struct Node {
    stage: Arc<Stage>,
    spec: NodeSpec,
    /// Where the stage finds its run, if it adds parts to it.
    home: Option<Home>,
}

struct SourceEntry {
    stage: u32,
    settings: Arc<Mutex<Settings>>,
    walkers: Walkers,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    /// Stage numbers: from, to.
    edges: Vec<(u32, u32)>,
    islands: Vec<Box<dyn Drive>>,
    sources: Vec<SourceEntry>,
    /// Outputs that lead nowhere yet.
    open: BTreeSet<u32>,
    problems: Vec<Refused>,
    guarantee: Option<Guarantee>,
    taken: bool,
}

enum Slot {
    Graph(Graph),
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

/// A graph ready to run.
pub(crate) struct Taken {
    pub(crate) stages: Vec<StageInfo>,
    pub(crate) sources: Vec<SourceInfo>,
    pub(crate) islands: Vec<Box<dyn Drive>>,
    pub(crate) topology: Topology,
}

/// Stage numbers are unique in the process: flows are declared apart and joined later.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl Plan {
    pub(crate) fn new() -> Plan {
        Plan(Arc::new(Mutex::new(Slot::Graph(Graph::default()))))
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
            mine.with(|whole| {
                whole.nodes.extend(graph.nodes);
                whole.nodes.sort_by_key(|node| node.stage.id);
                whole.edges.extend(graph.edges);
                whole.islands.extend(graph.islands);
                whole.sources.extend(graph.sources);
                whole.sources.sort_by_key(|source| source.stage);
                whole.open.extend(graph.open);
                whole.problems.extend(graph.problems);
                whole.guarantee = whole.guarantee.max(graph.guarantee);
                whole.taken |= graph.taken;
            });
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
            if let Some(node) = graph
                .nodes
                .iter_mut()
                .find(|node| node.stage.id == stage.id)
            {
                node.spec.name = Some(name);
            }
        });
    }

    pub(crate) fn amend(&self, stage: &Stage, change: impl FnOnce(&mut NodeSpec)) {
        self.with(|graph| {
            if let Some(node) = graph
                .nodes
                .iter_mut()
                .find(|node| node.stage.id == stage.id)
            {
                change(&mut node.spec);
            }
        });
    }

    /// Where that stage will find its run: it adds parts to it.
    pub(crate) fn home(&self, stage: &Stage) -> Home {
        let home = Home::default();
        self.with(|graph| {
            let node = graph
                .nodes
                .iter_mut()
                .find(|node| node.stage.id == stage.id);
            if let Some(node) = node {
                node.home = Some(home.clone());
            }
        });
        home
    }

    /// The stages of a cycle: all that follow its head, up to its exit.
    pub(crate) fn members(&self, head: &Stage, exit: &Arc<Stage>) -> Result<Members, String> {
        self.with(|graph| {
            let (mut found, mut next) = (BTreeSet::new(), vec![head.id]);
            while let Some(stage) = next.pop() {
                if stage != exit.id && found.insert(stage) {
                    let follow = graph.edges.iter().filter(|(from, _)| *from == stage);
                    next.extend(follow.map(|(_, to)| *to));
                }
            }
            let joined = |(from, to): &&(u32, u32)| {
                found.contains(to) && !found.contains(from) && *to != head.id
            };
            let foreign: BTreeSet<u32> = graph
                .edges
                .iter()
                .filter(joined)
                .map(|(from, _)| *from)
                .collect();
            let mut nodes = graph
                .nodes
                .iter()
                .filter(|node| found.contains(&node.stage.id));
            if let Some(node) = nodes.find(|node| node.home.is_some()) {
                let what = format!(
                    "`{}` builds flows as it runs, which cannot be counted inside a cycle",
                    graph.name_of(node.stage.id)
                );
                return Err(what);
            }
            let stages = |of: &BTreeSet<u32>| {
                let of = |node: &&Node| of.contains(&node.stage.id);
                graph
                    .nodes
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
        })
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
        self.with(|graph| {
            if std::mem::replace(&mut graph.taken, true) {
                return Err(Refused::RunTwice);
            }
            graph.check(simulated)?;
            let names = graph.names();
            let stages = graph
                .nodes
                .iter()
                .zip(&names)
                .map(|(node, name)| {
                    let _ = node.stage.name.set(Arc::from(name.as_str()));
                    StageInfo {
                        name: name.clone(),
                        kind: node.spec.kind,
                        stage: Arc::clone(&node.stage),
                        home: node.home.clone().map(|home| (home, graph.guarantee)),
                    }
                })
                .collect();
            let sources = graph
                .sources
                .iter()
                .map(|source| SourceInfo {
                    name: graph.name_of(source.stage),
                    stage: source.stage,
                    walkers: Arc::clone(&source.walkers),
                })
                .collect();
            Ok(Taken {
                stages,
                sources,
                topology: graph.topology(),
                islands: std::mem::take(&mut graph.islands),
            })
        })
    }
}

impl Graph {
    /// Names by node, made unique in order of declaration.
    fn names(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
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

    fn name_of(&self, id: u32) -> String {
        self.nodes
            .iter()
            .zip(self.names())
            .find(|(node, _)| node.stage.id == id)
            .map_or_else(|| "an unnamed stage".to_owned(), |(_, name)| name)
    }

    fn check(&self, simulated: bool) -> Result<(), Refused> {
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
        let rewinds = self
            .sources
            .iter()
            .any(|source| lock(&source.settings).answer == Answer::Rewind);
        if let Some(guarantee) = self.guarantee {
            self.check_guarantee(guarantee)?;
        }
        if rewinds {
            self.refuse_stage("going back (Answer::Rewind)", |spec| {
                spec.no_rewind.map(ToOwned::to_owned)
            })?;
        }
        Ok(())
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
    fn source_without_origin(&self, stage: u32) -> Option<u32> {
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
            if open.len() == before {
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

    fn topology(&self) -> Topology {
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
}
