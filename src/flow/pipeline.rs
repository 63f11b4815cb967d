//! A declared pipeline, ready to run.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use crate::error::{Refused, RunError};
use crate::operator::Stage;
use crate::runtime::{Running, RuntimeKind, start};
use crate::topology::{Guarantee, Plan, Topology};

type Take<O> = Box<dyn FnOnce() -> Option<O> + Send>;

/// A declared pipeline: every flow of it ends in a sink. It does nothing until it is run.
#[must_use = "pipelines do nothing until they are run"]
pub struct Pipeline<O> {
    plan: Plan,
    stage: Arc<Stage>,
    output: Take<O>,
}

impl<O> fmt::Debug for Pipeline<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

impl<O: Send + 'static> Pipeline<O> {
    pub(crate) fn new(plan: Plan, stage: Arc<Stage>, output: Arc<Mutex<Option<O>>>) -> Pipeline<O> {
        let take = move || output.lock().ok().and_then(|mut slot| slot.take());
        Pipeline {
            plan,
            stage,
            output: Box::new(take),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Names the sink.
    pub fn named(self, name: impl Into<String>) -> Pipeline<O> {
        self.plan.rename(&self.stage, name.into());
        self
    }

    /// Runs another pipeline, or another branch of this one, together with it; the output is that
    /// of both.
    pub fn and<P: Send + 'static>(self, other: Pipeline<P>) -> Pipeline<(O, P)> {
        self.plan.join(&other.plan);
        let (mine, theirs) = (self.output, other.output);
        Pipeline {
            plan: self.plan,
            stage: self.stage,
            output: Box::new(move || Some((mine()?, theirs()?))),
        }
    }

    /// Names the guarantee the pipeline must keep.
    pub fn guarantee(self, guarantee: Guarantee) -> Pipeline<O> {
        self.plan.guarantee(guarantee);
        self
    }

    /// The graph as declared.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.plan.topology()
    }

    /// Checks the declaration and starts it on the tokio runtime of the calling task.
    ///
    /// # Errors
    /// What is wrong with the declaration; nothing was started then.
    pub fn run(self) -> Result<Running<O>, Refused> {
        start(&self.plan, self.output)
    }

    /// Checks the declaration and starts it in simulated time.
    #[cfg(feature = "testkit")]
    pub(crate) fn simulate(
        self,
        simulator: &Arc<crate::runtime::simulated::Simulator>,
    ) -> Result<crate::runtime::simulated::SimulatedRun<O>, Refused> {
        crate::runtime::simulated::start_simulated(&self.plan, self.output, simulator)
    }

    /// Runs it to its end on a runtime of its own, with worker threads.
    pub fn block_on(self) -> Result<O, RunError> {
        self.block_on_runtime(RuntimeKind::MultiThread)
    }

    /// Runs it to its end on a runtime of its own, of that kind.
    pub fn block_on_runtime(self, kind: RuntimeKind) -> Result<O, RunError> {
        kind.build()?
            .block_on(async move { self.run()?.join().await })
    }
}

impl<O: Send + 'static> IntoFuture for Pipeline<O> {
    type Output = Result<O, RunError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<O, RunError>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.run()?.join().await })
    }
}
