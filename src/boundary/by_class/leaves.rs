//! Elements on their way out of a boundary by class.

use crate::chunk::{Chunk, Element};
use crate::operator::Context;
use crate::outcome::{Outcome, Reason};

/// Elements on their way out of the boundary, to be settled or diverted once the lock is let go.
pub(super) struct Leaves<T> {
    pub(super) settled: Vec<(Element<T>, Outcome)>,
    /// To be served after their deadline.
    pub(super) expired: Chunk<T>,
    /// To be served after they waited too long.
    pub(super) stale: Chunk<T>,
    pub(super) diverted: Vec<Element<T>>,
}

impl<T> Default for Leaves<T> {
    fn default() -> Leaves<T> {
        Leaves {
            settled: Vec::new(),
            expired: Chunk::default(),
            stale: Chunk::default(),
            diverted: Vec::new(),
        }
    }
}

impl<T> Leaves<T> {
    pub(super) fn settle(&mut self, element: Element<T>, outcome: Outcome) {
        self.settled.push((element, outcome));
    }

    pub(super) fn settle_all(&mut self, cx: &mut Context<'_, '_>) {
        for (element, outcome) in self.settled.drain(..) {
            cx.settle(element.meta, outcome);
        }
        cx.settle_chunk(&mut self.expired, Outcome::Expired);
        cx.settle_chunk(&mut self.stale, Outcome::Shed(Reason::QueueDelay));
    }
}
