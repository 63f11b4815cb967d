//! Cycles: flows that lead back into themselves.

use std::sync::Arc;
use std::time::Duration;

use super::Flow;
use crate::boundary::{Buffer, WhenFull, ring};
use crate::operator::Input;
use crate::operator::feedback::{self, Exit, Head};
use crate::topology::NodeSpec;

/// How many elements may be inside a cycle, and what happens when it cannot go on.
///
/// A number is that many elements; more coming back than that stop the run, and so does a cycle in
/// which nothing has moved for 60 s although it must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cycle {
    items: usize,
    when_full: WhenFull,
    stalled_after: Duration,
}

impl Cycle {
    /// At most that many elements inside; 0 counts as 1. Elements from outside wait for room; it is
    /// only a body that makes several of one that can exceed it.
    #[must_use]
    pub fn items(items: usize) -> Cycle {
        Cycle {
            items: items.max(1),
            when_full: WhenFull::Fail,
            stalled_after: Duration::from_mins(1),
        }
    }

    /// What happens when more come back than may be inside. A cycle that waited for itself would
    /// deadlock: back-pressure counts as [`WhenFull::Fail`].
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Cycle {
        self.when_full = match when_full {
            WhenFull::Backpressure => WhenFull::Fail,
            other => other,
        };
        self
    }

    /// After how long without a move a cycle that is full, that must empty before a barrier, or
    /// whose input has completed, stops the run: longer than its slowest stage takes.
    #[must_use]
    pub fn stalled_after(mut self, span: Duration) -> Cycle {
        self.stalled_after = span;
        self
    }
}

impl From<usize> for Cycle {
    fn from(items: usize) -> Cycle {
        Cycle::items(items)
    }
}

impl<T: Send + 'static> Flow<T> {
    /// A cycle: the body gets the elements of this flow and those it sent back, and returns what
    /// leaves and what goes round again.
    ///
    /// A retry loop sends back what failed; paging sends back the next request. Elements from
    /// outside are admitted while fewer than the declared number are inside, those that come back
    /// go first, and the back edge never waits: so the cycle cannot fill itself up. It completes
    /// when its input has and nothing is inside any more. At a barrier it admits nothing until all
    /// that is inside has left or ended, and then hands the barrier on.
    ///
    /// - *emits when* the body's first flow does.
    /// - *back-pressures when* downstream does, as many elements are inside as may be, or a barrier
    ///   waits for those inside.
    /// - *completes when* the input has completed and nothing is inside; fails when more come back
    ///   than may be inside (or sheds, as declared), and when nothing inside has moved for
    ///   [`Cycle::stalled_after`]: a stage that waits for more elements than there are.
    /// - *cancels when* downstream does; if the way back ends, the cycle goes on without it.
    /// - *settles when* the back edge sheds.
    /// - *holds* the declared number of elements. `group_by` and `restarting` cannot be part of it.
    /// - *costs* reading the accounts of its stages, a chunk.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// // Halves what is even until it is odd.
    /// let odd = source::iter([12, 7, 8]).feedback(16, |numbers| {
    ///     let (odd, even) = numbers.divert(16, |n| n % 2 == 0);
    ///     (odd, even.map(|n| n / 2))
    /// });
    /// let mut all = odd.collect().block_on()?;
    /// all.sort();
    /// assert_eq!(all, [1, 3, 7]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn feedback<U: Send + 'static>(
        self,
        cycle: impl Into<Cycle>,
        body: impl FnOnce(Flow<T>) -> (Flow<U>, Flow<T>),
    ) -> Flow<U> {
        let Cycle {
            items,
            when_full,
            stalled_after,
        } = cycle.into();
        let spec = NodeSpec::new("feedback")
            .changes_count()
            .note(format!("at most {items} inside"));
        let head = self.plan.add(spec, &[&self.stage], false);
        let mut spec = NodeSpec::new("feedback")
            .named("feedback[back]")
            .boundary()
            .holds(items)
            .note(when_full.name());
        if when_full.sheds() {
            spec = spec.loses(format!(
                "sheds ({}) when the cycle is full",
                when_full.name()
            ));
        }
        let back = self.plan.add_inlet(spec, head.branch);
        self.plan.close(&back);
        self.plan.edge(&back, &head);
        let (sink, source) = ring(Buffer::items(items).when_full(when_full), &back);

        let shared = Arc::new(feedback::Cycle::default());
        let (input, _, plan) = self.into_parts();
        let returned = Input::new(Box::new(source), Arc::clone(&back));
        let operator = Head::new(input, returned, Arc::clone(&shared), items, stalled_after);
        let (out, again) = body(Flow::from_parts(
            Box::new(operator),
            Arc::clone(&head),
            plan.clone(),
        ));
        plan.join(&out.plan);
        plan.join(&again.plan);
        plan.edge(&again.stage, &back);
        plan.close(&again.stage);
        again.end_island(sink, Arc::clone(&back));
        let cycle = Arc::clone(&shared);
        let spec = NodeSpec::new("feedback").named("feedback[exit]");
        let out = out.then(spec, |input| Exit::new(input, cycle));
        match plan.members(&head, &out.stage) {
            Ok(members) => shared.close(members),
            Err(what) => plan.refuse(&head, what),
        }
        out
    }
}
