//! Where flows end.

use super::{Flow, Pipeline};
use crate::operator::Sink;
use crate::operator::sinks::for_each::Fold;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Ends the flow in a sink.
    pub fn to<S: Sink<T> + 'static>(self, sink: S) -> Pipeline<S::Output> {
        self.to_named(NodeSpec::new("sink"), sink)
    }

    /// Ends the flow in a sink of one's own that declares more than its kind: what it holds, whether
    /// it runs threads.
    pub fn to_stage<S: Sink<T> + 'static>(
        self,
        spec: impl Into<NodeSpec>,
        sink: S,
    ) -> Pipeline<S::Output> {
        self.to_named(spec.into(), sink)
    }

    pub(crate) fn to_named<S: Sink<T> + 'static>(
        self,
        spec: NodeSpec,
        sink: S,
    ) -> Pipeline<S::Output> {
        let stage = self.plan.add(spec, &[&self.stage], false);
        self.plan.close(&stage);
        let (plan, output) = self.end_island(sink, stage.clone());
        Pipeline::new(plan, stage, output)
    }

    /// Runs a closure on each value.
    pub fn for_each<F: FnMut(T) + Send + 'static>(self, mut f: F) -> Pipeline<()> {
        let sink = Fold::new((), move |(): &mut (), value| f(value));
        self.to_named(NodeSpec::new("for_each"), sink)
    }

    /// Changes a state by each value; the pipeline's output is the last state.
    pub fn fold<S, F>(self, state: S, f: F) -> Pipeline<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        self.to_named(NodeSpec::new("fold"), Fold::new(state, f))
    }

    /// Collects all values. The one sink without a bound: for tests and small results.
    pub fn collect(self) -> Pipeline<Vec<T>> {
        let sink = Fold::new(Vec::new(), |all: &mut Vec<T>, value| all.push(value));
        self.to_named(NodeSpec::new("collect"), sink)
    }

    /// Delivers each value to nobody.
    pub fn ignore(self) -> Pipeline<()> {
        self.to_named(
            NodeSpec::new("ignore"),
            Fold::new((), |(): &mut (), value| drop(value)),
        )
    }
}
