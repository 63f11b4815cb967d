//! A run of the suite, in simulated time or on the wall clock.

use std::time::Duration;

use crate::error::{Refused, RunError};
use crate::flow::Pipeline;
use crate::runtime::{Running, RuntimeKind, Snapshot};
use crate::testkit::{SimulatedRun, Simulation, Trace};
use crate::time::{self, Time};
use crate::topology::Topology;

/// A pipeline that runs, whatever its clock.
pub(super) enum Run {
    Simulated {
        run: SimulatedRun<()>,
        simulation: Simulation,
    },
    Wall {
        run: Running<()>,
        /// What it ended with, once it has.
        result: Option<Result<(), RunError>>,
        started: Time,
        kind: RuntimeKind,
        runtime: tokio::runtime::Runtime,
    },
}

impl Run {
    /// Starts what `declare` makes in simulated time.
    pub(super) fn simulated(
        seed: u64,
        declare: impl FnOnce() -> Pipeline<()>,
    ) -> Result<Run, Refused> {
        let simulation = Simulation::new(seed);
        let run = simulation.start(declare())?;
        Ok(Run::Simulated { run, simulation })
    }

    /// Starts what `declare` makes on a runtime of its own: on one thread with even seeds, on several
    /// with odd ones.
    pub(super) fn wall(seed: u64, declare: impl FnOnce() -> Pipeline<()>) -> Result<Run, Refused> {
        let kind = if seed.is_multiple_of(2) {
            RuntimeKind::CurrentThread
        } else {
            RuntimeKind::MultiThread
        };
        let runtime = kind.build()?;
        let run = runtime.block_on(async { declare().run() })?;
        Ok(Run::Wall {
            run,
            result: None,
            started: time::now(),
            kind,
            runtime,
        })
    }

    /// Whether nothing moves between two calls, so that the accounts of a run under way are exact.
    pub(super) fn rests_between_calls(&self) -> bool {
        match self {
            Run::Simulated { .. } => true,
            Run::Wall { kind, .. } => *kind == RuntimeKind::CurrentThread,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Run::Simulated { simulation, .. } => simulation.now().since(Time::ZERO),
            Run::Wall { started, .. } => time::now().since(*started),
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        match self {
            Run::Simulated { run, .. } => run.is_ended(),
            Run::Wall { run, .. } => run.is_ended(),
        }
    }

    /// Runs for that long, or until the run has ended; says whether it has.
    pub(super) fn advance(&mut self, span: Duration) -> bool {
        match self {
            Run::Simulated { run, .. } => run.advance(span),
            Run::Wall {
                run,
                result,
                runtime,
                ..
            } => {
                if result.is_none() {
                    *result =
                        runtime.block_on(async { time::timeout(span, run.join()).await.ok() });
                }
                result.is_some()
            }
        }
    }

    /// Drains it for at most that long. False if it was not done by then; what it failed with comes
    /// when it is joined.
    pub(super) fn drain(&mut self, deadline: Duration) -> bool {
        let drained = match self {
            Run::Simulated { run, .. } => run.drain(deadline),
            Run::Wall { run, runtime, .. } => runtime.block_on(run.drain(deadline)),
        };
        drained.map_or(true, |drained| drained.still_running.is_empty())
    }

    pub(super) fn abort(&mut self) {
        match self {
            Run::Simulated { run, .. } => run.abort(),
            Run::Wall { run, runtime, .. } => runtime.block_on(run.abort()),
        }
    }

    /// What it ended with. It must have ended.
    pub(super) fn join(&mut self) -> Result<(), RunError> {
        match self {
            Run::Simulated { run, .. } => run.join(),
            Run::Wall {
                run,
                result,
                runtime,
                ..
            } => match result.take() {
                Some(result) => result,
                None => runtime.block_on(run.join()),
            },
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        match self {
            Run::Simulated { run, .. } => run.snapshot(),
            Run::Wall { run, .. } => run.snapshot(),
        }
    }

    pub(super) fn topology(&self) -> &Topology {
        match self {
            Run::Simulated { run, .. } => run.topology(),
            Run::Wall { run, .. } => run.topology(),
        }
    }

    /// What happened, in simulated time.
    pub(super) fn trace(&self) -> Trace {
        match self {
            Run::Simulated { simulation, .. } => simulation.trace(),
            Run::Wall { .. } => Trace::default(),
        }
    }
}
