//! Parts of the graph that are built while the run goes on: groups, restarted flows.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use crate::error::Stop;

/// A position whose type is known to its source and to whoever resumes it.
pub(crate) type AnyPosition = Arc<Mutex<Box<dyn Any + Send>>>;

/// Where the sources of a part stood.
#[derive(Clone, Default)]
pub(crate) struct Positions {
    /// Of the last elements handed over, a source each.
    pub(crate) handed_over: Vec<AnyPosition>,
    /// Of the last elements before which all are settled.
    pub(crate) settled: Vec<AnyPosition>,
}

/// A part that runs as part of the run. Dropping it says that nothing calls its stages any more.
pub(crate) trait Part: Send {
    /// Elements measured to be inside its stages.
    fn held(&self) -> u64;

    /// The error that stopped an island of it, where errors do not leave the part. The waker is
    /// called when there is one.
    fn poll_failure(&self, waker: &Waker) -> Option<Stop>;

    /// It is given up and another takes its place: what its sources have not answered is forgotten.
    fn give_up(&self) -> Positions;
}
