//! Declaring: what a user calls.
//!
//! A [`Flow`] is a chain of stages that hands on elements of one type. Each method takes the flow
//! and gives back a longer one; a sink makes a [`Pipeline`] of it, which runs.
//!
//! # Invariants
//! - A flow does nothing until its pipeline runs.
//! - Every output leads somewhere: a pipeline with a dangling branch is refused.
//!
//! # Example
//! ```
//! use forebay::source;
//!
//! let sum = source::iter(1..=10)
//!     .map(|n| n * n)
//!     .buffer(4)
//!     .map_async(2, |n| async move { n + 1 })
//!     .fold(0, |sum, n| *sum += n)
//!     .block_on()?;
//! assert_eq!(sum, 395);
//! # Ok::<(), forebay::error::RunError>(())
//! ```

mod asynchronous;
mod attributes;
mod boundaries;
mod consumers;
mod control_flow;
mod dead_letters;
mod divert;
mod fallible;
mod fan_in;
mod fan_out;
mod feedback;
mod group_by;
mod grouping;
mod nested;
mod pipeline;
mod rates;
#[cfg(feature = "tower")]
mod service;
mod sinks;
mod source_settings;
mod transform;

use std::fmt;
use std::sync::{Arc, Mutex};

pub use crate::operator::{
    Ended, Groups, KillSwitch, Rate, Restart, Resume, Termination, WhenExhausted,
};
pub use consumers::FlowStream;
pub use control_flow::restarting;
pub use dead_letters::DeadLetters;
pub use fallible::Fallible;
pub use fan_out::Branches;
pub use feedback::Cycle;
pub use pipeline::Pipeline;

pub use crate::operator::fallible::OnError;

use crate::operator::source::{LagReader, Settings, Walkers};
use crate::operator::source_stage::SourceStage;
use crate::operator::{Answer, Input, Operator, Sink, Source, Stage};
use crate::position::{Lag, SourceId, Tracker};
use crate::runtime::Island;
use crate::topology::{Guarantee, NodeSpec, Plan, Topology};

/// A chain of stages that hands on elements of type `T`.
#[must_use = "flows do nothing until they are given a sink and run"]
pub struct Flow<T> {
    operator: Box<dyn Operator<T>>,
    stage: Arc<Stage>,
    plan: Plan,
}

impl<T> fmt::Debug for Flow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("stage", &self.stage.id)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Flow<T> {
    /// A flow that starts with a source.
    ///
    /// Sources with positions stop the run when an element ends unresolved, and have a window of
    /// 1024 elements; sources without (`Position = ()`) go on, and have a window of 65,536.
    pub fn from_source<S: Source<T> + 'static>(spec: impl Into<NodeSpec>, source: S) -> Flow<T> {
        let positioned = std::any::TypeId::of::<S::Position>() != std::any::TypeId::of::<()>();
        let settings = Arc::new(Mutex::new(Settings {
            tracked: true,
            answer: if positioned {
                Answer::Stop
            } else {
                Answer::Continue
            },
            window: if positioned { 1024 } else { 1 << 16 },
            loss: !positioned,
            barrier_every: 0,
            tracks_itself: false,
            rewinds: source.rewinds(),
            diverts: source.diverts(),
            lag: LagReader::default(),
        }));
        let plan = Plan::new();
        let stage = plan.add(spec.into(), &[], false);
        let walkers = plan.add_source(&stage, Arc::clone(&settings));
        let id = SourceId::new(stage.id);
        let operator = Box::new(SourceStage::new(source, id, settings, walkers));
        Flow {
            operator,
            stage,
            plan,
        }
    }

    /// A flow whose operator makes its elements itself, and tracks them with trackers of its own:
    /// for sources of several sequences, such as the partitions of a topic.
    ///
    /// The closure gets the run's account of this source: its operator takes its trackers and what
    /// the declaration says of it from there. The settings are those of a source with positions:
    /// unresolved elements stop the run, and each tracker has a window of 1024. It cannot be
    /// [`untracked`](Flow::untracked).
    pub fn from_operator<O: Operator<T> + 'static>(
        spec: impl Into<NodeSpec>,
        make: impl FnOnce(Accounts) -> O,
    ) -> Flow<T> {
        let settings = Arc::new(Mutex::new(Settings {
            tracked: true,
            answer: Answer::Stop,
            window: 1024,
            loss: false,
            barrier_every: 0,
            tracks_itself: true,
            // What its operator answers is its own affair.
            rewinds: true,
            diverts: true,
            lag: LagReader::default(),
        }));
        let plan = Plan::new();
        let stage = plan.add(spec.into(), &[], false);
        let walkers = plan.add_source(&stage, Arc::clone(&settings));
        let operator = Box::new(make(Accounts {
            source: SourceId::new(stage.id),
            settings,
            walkers,
        }));
        Flow {
            operator,
            stage,
            plan,
        }
    }

    /// Adds a stage of one's own: see [`operator`](crate::operator).
    ///
    /// A name alone says that the stage holds at most a chunk between two calls and keeps every guarantee;
    /// a [`NodeSpec`] says more.
    pub fn stage<U, O>(self, spec: impl Into<NodeSpec>, make: impl FnOnce(Input<T>) -> O) -> Flow<U>
    where
        U: Send + 'static,
        O: Operator<U> + 'static,
    {
        self.then(spec.into(), make)
    }

    /// Adds a stage of one's own in which this flow meets others, in that order.
    pub fn stage_with<U, O>(
        self,
        others: impl IntoIterator<Item = Flow<T>>,
        spec: impl Into<NodeSpec>,
        make: impl FnOnce(Vec<Input<T>>) -> O,
    ) -> Flow<U>
    where
        U: Send + 'static,
        O: Operator<U> + 'static,
    {
        let (first, stage, plan) = self.into_parts();
        let (mut inputs, mut stages) = (vec![first], vec![stage]);
        for other in others {
            let (input, stage, theirs) = other.into_parts();
            plan.join(&theirs);
            inputs.push(input);
            stages.push(stage);
        }
        let stage = plan.add(spec.into(), &stages.iter().collect::<Vec<_>>(), false);
        Flow::from_parts(Box::new(make(inputs)), stage, plan)
    }

    pub(crate) fn then<U, O>(self, spec: NodeSpec, make: impl FnOnce(Input<T>) -> O) -> Flow<U>
    where
        O: Operator<U> + 'static,
    {
        let stage = self.plan.add(spec, &[&self.stage], false);
        let operator = Box::new(make(Input::new(self.operator, self.stage)));
        Flow {
            operator,
            stage,
            plan: self.plan,
        }
    }

    /// A flow with the same plan whose operator is not made from this one's input: the far side of a
    /// boundary.
    pub(crate) fn from_parts(
        operator: Box<dyn Operator<T>>,
        stage: Arc<Stage>,
        plan: Plan,
    ) -> Flow<T> {
        Flow {
            operator,
            stage,
            plan,
        }
    }

    /// A flow that is never run: its plan is refused for what was put on record.
    pub(crate) fn never() -> Flow<T> {
        Flow::from_source(
            "refused",
            crate::operator::sources::iter::Iter::new(std::iter::empty()),
        )
    }

    /// Takes the flow apart for a stage that joins several.
    pub(crate) fn into_parts(self) -> (Input<T>, Arc<Stage>, Plan) {
        (
            Input::new(self.operator, Arc::clone(&self.stage)),
            self.stage,
            self.plan,
        )
    }

    /// Ends the island here with a sink whose stage is known already.
    pub(crate) fn end_island<S: Sink<T> + 'static>(
        self,
        sink: S,
        stage: Arc<Stage>,
    ) -> (Plan, Arc<Mutex<Option<S::Output>>>) {
        let output = Arc::new(Mutex::new(None));
        let input = Input::new(self.operator, self.stage);
        let island = Island::new(input, sink, stage, Arc::clone(&output));
        self.plan.add_island(Box::new(island));
        (self.plan, output)
    }

    /// Names the last stage in reports, errors and pictures. Default: its kind.
    pub fn named(self, name: impl Into<String>) -> Flow<T> {
        self.plan.rename(&self.stage, name.into());
        self
    }

    /// Applies a reusable part of a pipeline.
    ///
    /// ```
    /// use forebay::flow::Flow;
    /// use forebay::source;
    ///
    /// fn shout(flow: Flow<&'static str>) -> Flow<String> {
    ///     flow.map(str::to_uppercase)
    /// }
    /// let loud = source::iter(["a", "b"]).through(shout).collect().block_on().unwrap();
    /// assert_eq!(loud, ["A", "B"]);
    /// ```
    pub fn through<U>(self, part: impl FnOnce(Flow<T>) -> Flow<U>) -> Flow<U> {
        part(self)
    }

    /// Declares more about the last stage.
    pub(crate) fn amended(self, change: impl FnOnce(&mut NodeSpec)) -> Flow<T> {
        self.plan.amend(&self.stage, change);
        self
    }

    /// Puts on record why the last stage cannot run.
    pub(crate) fn refused(self, why: impl Into<String>) -> Flow<T> {
        self.plan.refuse(&self.stage, why);
        self
    }

    /// Names the guarantee the pipeline must keep: a stage that cannot is refused, by name, before
    /// anything starts.
    pub fn guarantee(self, guarantee: Guarantee) -> Flow<T> {
        self.plan.guarantee(guarantee);
        self
    }

    /// The graph as declared so far.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.plan.topology()
    }
}

/// The account of a source whose operator tracks its elements itself: see
/// [`Flow::from_operator`].
#[derive(Clone)]
pub struct Accounts {
    source: SourceId,
    settings: Arc<Mutex<Settings>>,
    walkers: Walkers,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Accounts {
    /// The source.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// A tracker for one more sequence of the source, as declared, which the run's account covers
    /// from now on. To be called when the run has started, not in the declaration, whose settings
    /// may still change. A sequence that the source lost and got again keeps its tracker.
    #[must_use]
    pub fn tracker<P>(&self) -> Tracker<P>
    where
        P: Clone + Send + fmt::Debug + 'static,
    {
        let (window, passes) = self.with(|settings| (settings.window, settings.passes()));
        let tracker = Tracker::new(self.source, window, passes);
        match self.walkers.lock() {
            Ok(mut walkers) => walkers.push(tracker.walker()),
            Err(poisoned) => poisoned.into_inner().push(tracker.walker()),
        }
        tracker
    }

    /// What the source is to do when an element ends unresolved.
    #[must_use]
    pub fn answer(&self) -> Answer {
        self.with(|settings| settings.answer)
    }

    /// After how many elements a barrier is to follow; 0: never.
    #[must_use]
    pub fn barrier_every(&self) -> usize {
        self.with(|settings| settings.barrier_every)
    }

    /// Has snapshots of the run tell how far the source is behind: asked for each of them, on the thread
    /// that takes it. It must not keep these accounts alive.
    pub fn tells_lag(&self, read: impl Fn() -> Vec<Lag> + Send + Sync + 'static) {
        let reader = LagReader::new(read);
        match self.settings.lock() {
            Ok(mut settings) => settings.lag = reader,
            Err(poisoned) => poisoned.into_inner().lag = reader,
        }
    }

    fn with<R>(&self, read: impl FnOnce(&Settings) -> R) -> R {
        match self.settings.lock() {
            Ok(settings) => read(&settings),
            Err(poisoned) => read(&poisoned.into_inner()),
        }
    }
}
