//! Stages with several inputs.
//!
//! Their inputs are pulled in one island; what stands before a boundary runs in its own.

use std::sync::Arc;

use super::Flow;
use crate::operator::concat::Concat;
use crate::operator::merge::Merge;
use crate::operator::zip::{self, Zip};
use crate::operator::{Input, Operator, Stage};
use crate::topology::{NodeSpec, Plan};

/// Inputs and the plan they share.
struct Joined<T> {
    inputs: Vec<Input<T>>,
    stages: Vec<Arc<Stage>>,
    plan: Plan,
}

impl<T: Send + 'static> Joined<T> {
    fn of(first: Flow<T>, others: impl IntoIterator<Item = Flow<T>>) -> Joined<T> {
        let (input, stage, plan) = first.into_parts();
        let mut joined = Joined {
            inputs: vec![input],
            stages: vec![stage],
            plan,
        };
        for other in others {
            let (input, stage, plan) = other.into_parts();
            joined.plan.join(&plan);
            joined.inputs.push(input);
            joined.stages.push(stage);
        }
        joined
    }

    fn then<O: Operator<T> + 'static>(
        self,
        spec: NodeSpec,
        make: impl FnOnce(Vec<Input<T>>) -> O,
    ) -> Flow<T> {
        let stages: Vec<_> = self.stages.iter().collect();
        let stage = self.plan.add(spec, &stages, false);
        Flow::from_parts(Box::new(make(self.inputs)), stage, self.plan)
    }
}

impl<T: Send + 'static> Flow<T> {
    /// Hands on the elements of this flow and of others as they come, a chunk of each in turn.
    ///
    /// - *emits when* an input has elements.
    /// - *back-pressures when* downstream does.
    /// - *completes when* all inputs have completed.
    /// - *cancels when* downstream does: all inputs.
    /// - *settles when* never, but for what a source has gone back behind (cancelled).
    /// - *holds* nothing. Barriers are aligned: an input that gave one is not asked again until all
    ///   live inputs gave theirs. Inputs of which some give barriers and others never are refused, but
    ///   for values at hand, which end.
    /// - *costs* one call a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let merged = source::iter(0..10).merge([source::iter(10..20), source::iter(20..30)]);
    /// let mut all = merged.collect().block_on()?;
    /// all.sort();
    /// assert_eq!(all, (0..30).collect::<Vec<_>>());
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn merge(self, others: impl IntoIterator<Item = Flow<T>>) -> Flow<T> {
        let spec = NodeSpec::new("merge").changes_count().aligns();
        Joined::of(self, others).then(spec, Merge::fair)
    }

    /// Merges flows in proportion to weights while all have elements; what one has not, others use.
    ///
    /// A weight of 0 counts as 1. Proportions hold over turns of 16 elements a weight.
    ///
    /// - *emits when* an input has elements.
    /// - *back-pressures when* downstream does.
    /// - *completes when* all inputs have completed.
    /// - *cancels when* downstream does: all inputs.
    /// - *settles when* never, but for what a source has gone back behind (cancelled).
    /// - *holds* nothing. Barriers are aligned.
    /// - *costs* one call a chunk; chunks are no longer than a turn.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let urgent = source::iter(vec!["urgent"; 300]);
    /// let other = source::iter(vec!["other"; 300]);
    /// let merged = urgent.merge_prioritized(3, [(1, other)]).collect().block_on()?;
    /// let first = merged.iter().take(256).filter(|kind| **kind == "urgent").count();
    /// assert_eq!(first, 192);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn merge_prioritized(
        self,
        weight: usize,
        others: impl IntoIterator<Item = (usize, Flow<T>)>,
    ) -> Flow<T> {
        let mut weights = vec![weight];
        let others: Vec<_> = others
            .into_iter()
            .map(|(weight, flow)| {
                weights.push(weight);
                flow
            })
            .collect();
        let spec = NodeSpec::new("merge_prioritized")
            .changes_count()
            .aligns()
            .note(format!("weights {weights:?}"));
        Joined::of(self, others).then(spec, |inputs| Merge::weighted(inputs, &weights))
    }

    /// Hands on this flow, and when it has completed the next, and so on.
    ///
    /// Two branches of one [`broadcast`](Flow::broadcast) cannot be concatenated: the later one
    /// would fill and hold up the earlier. That is refused, unless the later one's buffer sheds, or
    /// [`balanced_by_buffers`](Flow::balanced_by_buffers) says that it holds all.
    ///
    /// - *emits when* the current input does.
    /// - *back-pressures when* downstream does; later inputs wait.
    /// - *completes when* the last input has completed.
    /// - *cancels when* downstream does: all inputs.
    /// - *settles when* never.
    /// - *holds* nothing.
    /// - *costs* one call a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let all = source::iter(1..3).concat([source::iter(5..7)]).collect();
    /// assert_eq!(all.block_on()?, [1, 2, 5, 6]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn concat(self, others: impl IntoIterator<Item = Flow<T>>) -> Flow<T> {
        let spec = NodeSpec::new("concat").changes_count().in_sequence();
        Joined::of(self, others).then(spec, Concat::new)
    }

    /// Pairs the elements of this flow with those of another.
    ///
    /// A pair carries both receipts, the higher class, the earlier deadline, the summed weight. Two
    /// branches of one [`broadcast`](Flow::broadcast) with a stage on one side that changes how many
    /// elements there are come to a halt as soon as a buffer is full: that is refused, unless a
    /// buffer on the way sheds, or [`balanced_by_buffers`](Flow::balanced_by_buffers) says that
    /// the buffers hold the difference.
    ///
    /// - *emits when* both inputs have an element.
    /// - *back-pressures when* downstream does, or one input is 16 elements ahead.
    /// - *completes when* one input has completed and its elements are paired.
    /// - *cancels when* downstream does, or the other input completes.
    /// - *settles when* it ends: halves left without their other (cancelled, filtered in a branch).
    /// - *holds* at most 512 halves; under exactly-once it is refused, for it holds them across
    ///   barriers.
    /// - *costs* a group of two receipts a pair.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let pairs = source::iter(1..=3).zip(source::iter(["a", "b"])).collect();
    /// assert_eq!(pairs.block_on()?, [(1, "a"), (2, "b")]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn zip<U: Send + 'static>(self, other: Flow<U>) -> Flow<(T, U)> {
        let (left, left_stage, plan) = self.into_parts();
        let (right, right_stage, other) = other.into_parts();
        plan.join(&other);
        let spec = NodeSpec::new("zip")
            .holds(zip::HELD)
            .in_step()
            .no_barrier("holds halves across barriers")
            .no_rewind("pairs elements by their number, which a rewind shifts");
        let stage = plan.add(spec, &[&left_stage, &right_stage], false);
        Flow::from_parts(Box::new(Zip::new(left, right)), stage, plan)
    }

    /// Declares that a `zip` or `concat` right before it, which would be refused for its deadlock,
    /// is known to be sound: the buffers of the branches hold what one side is ahead of the other.
    ///
    /// ```
    /// use forebay::source;
    ///
    /// // All ten elements of the second branch fit into its buffer.
    /// let [first, second] = source::iter(0..10).broadcast(16);
    /// let twice = first.concat([second]).balanced_by_buffers().collect();
    /// assert_eq!(twice.block_on()?.len(), 20);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn balanced_by_buffers(self) -> Flow<T> {
        self.plan.amend(&self.stage, |spec| spec.balanced = true);
        self
    }
}
