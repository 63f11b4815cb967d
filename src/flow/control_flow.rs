//! Stages that steer flows: ended from outside, watched, built anew.

use super::{Flow, nested};
use crate::error::{Cause, Stop};
use crate::operator::kill_switch::Killable;
use crate::operator::later::Later;
use crate::operator::restarting::Restarting;
use crate::operator::watch_termination::Watch;
use crate::operator::{Ended, KillSwitch, Restart, Resume, Termination, guard};
use crate::topology::{NodeSpec, Plan};

impl<T: Send + 'static> Flow<T> {
    /// Ends here when the switch is thrown: downstream completes or fails, upstream is cancelled.
    ///
    /// One switch may be built into any number of flows, of one run or of several.
    ///
    /// - *emits when* the input does.
    /// - *back-pressures when* downstream does.
    /// - *completes when* the input completes, or the switch is shut down; fails when it is aborted.
    /// - *cancels when* downstream does, or the switch is thrown.
    /// - *settles when* never; what is before it ends cancelled (killed), in a branch filtered.
    /// - *holds* nothing.
    /// - *costs* one atomic load a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::flow::KillSwitch;
    /// use forebay::source;
    ///
    /// let switch = KillSwitch::new();
    /// switch.shutdown();
    /// let nothing = source::iter(0..10).kill_switch(&switch).collect();
    /// assert!(nothing.block_on()?.is_empty());
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn kill_switch(self, switch: &KillSwitch) -> Flow<T> {
        let switch = switch.clone();
        let spec = NodeSpec::new("kill_switch").changes_count();
        self.then(spec, |input| Killable::new(input, switch))
    }

    /// Tells how the flow ended at this point: completed, failed (with what) or cancelled.
    ///
    /// - *emits when* the input does.
    /// - *back-pressures when* downstream does.
    /// - *completes when* the input completes.
    /// - *cancels when* downstream does.
    /// - *settles when* never.
    /// - *holds* nothing.
    /// - *costs* a call a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::flow::Ended;
    /// use forebay::source;
    ///
    /// let (flow, termination) = source::iter(0..10).watch_termination();
    /// flow.ignore().block_on()?;
    /// assert!(matches!(termination.ended(), Some(Ended::Completed)));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    #[must_use = "the flow goes on: give it a sink"]
    pub fn watch_termination(self) -> (Flow<T>, Termination) {
        let termination = Termination::default();
        let teller = termination.clone();
        let flow = self.then(NodeSpec::new("watch_termination"), |input| {
            Watch::new(input, move |ended| teller.tell(ended))
        });
        (flow, termination)
    }

    /// Calls a closure once with how the flow ended at this point. A panic in it is contained.
    ///
    /// - *emits when* the input does.
    /// - *back-pressures when* downstream does.
    /// - *completes when* the input completes.
    /// - *cancels when* downstream does.
    /// - *settles when* never.
    /// - *holds* nothing.
    /// - *costs* a call a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let flow = source::iter(0..10).on_termination(|ended| println!("{ended:?}"));
    /// flow.ignore().block_on()?;
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn on_termination(self, f: impl FnOnce(Ended) + Send + 'static) -> Flow<T> {
        self.then(NodeSpec::new("on_termination"), |input| {
            Watch::new(input, f)
        })
    }
}

/// A flow that is built anew, after a wait, when it fails.
///
/// The closure builds the flow, sources and all, each time; [`Resume`] says where the one before
/// stood. Its islands, stages and sources are part of the run, reported together under the name of
/// this stage. What was inside the flow that failed is cancelled; what it had handed over goes on.
///
/// The flow must keep what the pipeline promised, and its sources may go back
/// ([`Answer::Rewind`](crate::operator::Answer::Rewind)) only if the stages behind this one can. One
/// that is refused stops the run, and is not built again.
///
/// - *emits when* the flow does.
/// - *back-pressures when* downstream does.
/// - *completes when* the flow completes, unless it is to be built anew then too; fails when it has
///   failed too often ([`Restart::max_restarts`]), or cannot be built.
/// - *cancels when* downstream does, also while it waits.
/// - *settles when* never itself; the flow it gives up settles what it holds (cancelled).
/// - *holds* nothing itself; its flow holds what its stages declare, once.
/// - *costs* a call a chunk.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::flow::{Restart, restarting};
/// use forebay::source;
///
/// let backoff = Restart::backoff(Duration::from_millis(1), Duration::from_millis(10));
/// let numbers = restarting(backoff, |resume| {
///     // The first time, the source panics half way.
///     let fails = resume.restarts() == 0;
///     source::iter((0..4).map(move |n| {
///         assert!(!(fails && n == 2), "half way");
///         n
///     }))
/// });
/// assert_eq!(numbers.collect().block_on()?, [0, 1, 0, 1, 2, 3]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn restarting<T: Send + 'static>(
    restart: Restart,
    mut make: impl FnMut(Resume) -> Flow<T> + Send + 'static,
) -> Flow<T> {
    let plan = Plan::new();
    let spec = NodeSpec::new("restarting").changes_count();
    let stage = plan.add_inlet(spec, false);
    let home = plan.home(&stage);
    let mut later = Later::new();
    let operator = Restarting::new(restart, move |resume| {
        later.declare(|| {
            let flow =
                guard(|| make(resume)).map_err(|panic| Stop::cause(Cause::Panicked(panic)))?;
            nested::launch(&home, flow, true)
        })
    });
    Flow::from_parts(Box::new(operator), stage, plan)
}
