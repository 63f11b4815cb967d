//! Elements that leave their flow by the side.

use super::fan_out::branch;
use super::{Flow, Pipeline};
use crate::boundary::Buffer;
use crate::operator::divert::Divert;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Parts the flow: elements the predicate holds for leave by the second flow.
    ///
    /// The first flow stays in the island; the second is a branch with a buffer of its own.
    ///
    /// - *emits when* the element's output has room.
    /// - *back-pressures when* the first output does, or a diverted element waits for the second.
    /// - *completes when* the input completes.
    /// - *cancels when* the first output cancels; when the second ends, what is diverted counts as
    ///   filtered.
    /// - *settles when* the predicate panics (failed), or the second output has ended.
    /// - *holds* the buffer, and at most one chunk of diverted elements.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (small, large) = source::iter([1, 200, 3]).divert(16, |n| *n > 100);
    /// assert_eq!(small.collect().and(large.collect()).block_on()?, (vec![1, 3], vec![200]));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn divert(
        self,
        buffer: impl Into<Buffer>,
        predicate: impl FnMut(&T) -> bool + Send + 'static,
    ) -> (Flow<T>, Flow<T>) {
        let spec = NodeSpec::new("divert")
            .holds(crate::chunk::Chunk::<T>::MAX)
            .changes_count();
        let stage = self.plan.add(spec, &[&self.stage], false);
        let (input, _, plan) = self.into_parts();
        let name = "divert[side]".to_owned();
        let (outlet, side) = branch(&plan, &stage, "divert", name, buffer.into());
        plan.reopen(&stage);
        let operator = Box::new(Divert::new(input, outlet, predicate));
        (Flow::from_parts(operator, stage, plan), side)
    }

    /// Sends the elements the predicate holds for to a pipeline of their own; the others go on.
    ///
    /// - *emits when* the element's output has room.
    /// - *back-pressures when* the flow does, or a diverted element waits for its pipeline.
    /// - *completes when* the input completes; the run waits for the side pipeline as well.
    /// - *cancels when* the flow cancels; when the side pipeline ends, what is diverted counts as
    ///   filtered.
    /// - *settles when* the predicate panics (failed), or the side pipeline has ended.
    /// - *holds* the buffer, and at most one chunk of diverted elements.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let rest = source::iter(1..=6)
    ///     .divert_to(16, |n| n % 3 == 0, |threes| threes.for_each(|n| assert!(n % 3 == 0)))
    ///     .collect();
    /// assert_eq!(rest.block_on()?, [1, 2, 4, 5]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn divert_to<O: Send + 'static>(
        self,
        buffer: impl Into<Buffer>,
        predicate: impl FnMut(&T) -> bool + Send + 'static,
        side: impl FnOnce(Flow<T>) -> Pipeline<O>,
    ) -> Flow<T> {
        let (rest, diverted) = self.divert(buffer, predicate);
        let side = side(diverted);
        rest.plan.join(side.plan());
        rest
    }
}
