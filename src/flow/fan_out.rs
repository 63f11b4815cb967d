//! Stages with several outputs.
//!
//! Each branch starts with a bounded queue of its own and runs as an island of its own. A branch
//! that nothing follows is refused: give it a sink, or [`ignore`](Flow::ignore) it.

use std::sync::Arc;

use super::Flow;
use crate::boundary::{Buffer, WhenFull, ring};
use crate::operator::balance::Balance;
use crate::operator::broadcast::Broadcast;
use crate::operator::outlet::{Outlet, Outlets};
use crate::operator::partition::Partition;
use crate::operator::{Sink, Stage};
use crate::topology::{NodeSpec, Plan};

/// The buffers of a fan-out's branches: the same for all, or one for each.
///
/// A number is a buffer of that many elements with back-pressure for each branch.
///
/// ```
/// use forebay::boundary::{Buffer, WhenFull};
/// use forebay::flow::Branches;
///
/// let alike: Branches = 64.into();
/// let one_may_lag: Branches =
///     [Buffer::items(64), Buffer::items(16).when_full(WhenFull::DropHead)].into();
/// # let _ = (alike, one_may_lag);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Branches(Repr);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Repr {
    Alike(Buffer),
    Each(Vec<Buffer>),
}

impl Branches {
    fn of(self, count: usize) -> Result<Vec<Buffer>, String> {
        match self.0 {
            _ if count == 0 => Err("needs at least one branch".to_owned()),
            _ if count > 255 => Err(format!("has {count} branches: at most 255 are allowed")),
            Repr::Alike(buffer) => Ok(vec![buffer; count]),
            Repr::Each(buffers) if buffers.len() == count => Ok(buffers),
            Repr::Each(buffers) => Err(format!(
                "has {count} branches and {} buffers: give one, or one for each",
                buffers.len()
            )),
        }
    }
}

impl From<usize> for Branches {
    fn from(items: usize) -> Branches {
        Branches(Repr::Alike(Buffer::items(items)))
    }
}

impl From<Buffer> for Branches {
    fn from(buffer: Buffer) -> Branches {
        Branches(Repr::Alike(buffer))
    }
}

impl<const N: usize> From<[Buffer; N]> for Branches {
    fn from(buffers: [Buffer; N]) -> Branches {
        Branches(Repr::Each(buffers.into()))
    }
}

impl From<Vec<Buffer>> for Branches {
    fn from(buffers: Vec<Buffer>) -> Branches {
        Branches(Repr::Each(buffers))
    }
}

/// The queue a branch starts with, behind that stage.
pub(super) fn branch<T: Send + 'static>(
    plan: &Plan,
    from: &Arc<Stage>,
    kind: &'static str,
    name: String,
    buffer: Buffer,
) -> (Outlet<T>, Flow<T>) {
    let mut spec = NodeSpec::new(kind)
        .named(name)
        .boundary()
        .holds(buffer.items)
        .holds_bytes(buffer.bytes)
        .note(buffer.when_full.name());
    if buffer.when_full.sheds() {
        spec = spec.loses(format!(
            "sheds ({}) when full: use back-pressure",
            buffer.when_full.name()
        ));
    }
    let stage = plan.add(spec, &[from], true);
    let (sink, source) = ring(buffer, &stage);
    let outlet = Outlet::new(sink, Arc::clone(&stage));
    (
        outlet,
        Flow::from_parts(Box::new(source), stage, plan.clone()),
    )
}

impl<T: Send + 'static> Flow<T> {
    /// Ends the island in a fan-out of so many branches.
    fn fan_out<S: Sink<T, Output = ()> + 'static>(
        self,
        spec: NodeSpec,
        buffers: Vec<Buffer>,
        make: impl FnOnce(Outlets<T>) -> S,
    ) -> Vec<Flow<T>> {
        let (kind, plan) = (spec.kind, self.plan.clone());
        let stage = plan.add(spec, &[&self.stage], false);
        let parts = buffers
            .into_iter()
            .enumerate()
            .map(|(index, buffer)| branch(&plan, &stage, kind, format!("{kind}[{index}]"), buffer));
        let (outlets, flows): (Vec<_>, Vec<_>) = parts.unzip();
        plan.close(&stage);
        self.end_island(make(Outlets::new(outlets)), stage);
        flows
    }

    /// The buffers of so many branches; what is wrong with them is put on record.
    fn buffers(&self, what: &str, branches: Branches, count: usize) -> Vec<Buffer> {
        branches.of(count).unwrap_or_else(|why| {
            self.plan
                .refuse(&self.stage, format!("`{what}` behind it {why}"));
            vec![Buffer::default(); count]
        })
    }

    /// Copies every element to each of `N` branches.
    ///
    /// Each branch has a buffer and a policy of its own: where it sheds, a slow branch holds up
    /// nobody. An element ends when its copies have, with the worst of their outcomes.
    ///
    /// - *emits when* every branch whose buffer waits has room.
    /// - *back-pressures when* the buffer of a branch that waits is full.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended; one that ends early does not end the others.
    /// - *settles when* a branch sheds (as its policy says) or has ended (filtered).
    /// - *holds* the buffers.
    /// - *costs* a clone a branch but one, and one shared receipt for up to 64 neighbours.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let [numbers, squares] = source::iter(1..=3).broadcast(16);
    /// let both = numbers.collect().and(squares.map(|n| n * n).collect());
    /// assert_eq!(both.block_on()?, (vec![1, 2, 3], vec![1, 4, 9]));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    #[must_use = "a branch that leads nowhere is refused"]
    pub fn broadcast<const N: usize>(self, buffers: impl Into<Branches>) -> [Flow<T>; N]
    where
        T: Clone,
    {
        let mut flows = self.broadcast_vec(N, buffers).into_iter();
        std::array::from_fn(|_| flows.next().unwrap_or_else(Flow::never))
    }

    /// Copies every element to each of so many branches, 1 to 255: [`broadcast`](Self::broadcast)
    /// for a number that is known at run time only.
    ///
    /// - *emits when* every branch whose buffer waits has room.
    /// - *back-pressures when* the buffer of a branch that waits is full.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended.
    /// - *settles when* a branch sheds (as its policy says) or has ended (filtered).
    /// - *holds* the buffers.
    /// - *costs* a clone a branch but one, and one shared receipt for up to 64 neighbours.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let mut branches = source::iter(1..=3).broadcast_vec(3, 16);
    /// let first = branches.remove(0);
    /// let all = first.merge(branches).fold(0, |sum, n| *sum += n);
    /// assert_eq!(all.block_on()?, 18);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn broadcast_vec(self, count: usize, buffers: impl Into<Branches>) -> Vec<Flow<T>>
    where
        T: Clone,
    {
        let buffers = self.buffers("broadcast", buffers.into(), count);
        let spec = NodeSpec::new("broadcast").copies();
        self.fan_out(spec, buffers, Broadcast::new)
    }

    /// Hands each element to one branch that has room, in turn.
    ///
    /// - *emits when* some branch has room.
    /// - *back-pressures when* the buffers of all branches are full.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended; the others go on when one ends.
    /// - *settles when* a branch has ended while an element was on its way to it (filtered).
    /// - *holds* the buffers, all with back-pressure: one that sheds always has room, and is refused.
    /// - *costs* one hand-over a chunk and branch.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let [a, b] = source::iter(1..=100).balance(4);
    /// let doubled = a.map(|n| n * 2).merge([b.map(|n| n * 2)]);
    /// assert_eq!(doubled.fold(0, |sum, n| *sum += n).block_on()?, 10_100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    #[must_use = "a branch that leads nowhere is refused"]
    pub fn balance<const N: usize>(self, buffers: impl Into<Branches>) -> [Flow<T>; N] {
        let mut flows = self.balance_vec(N, buffers).into_iter();
        std::array::from_fn(|_| flows.next().unwrap_or_else(Flow::never))
    }

    /// Hands each element to one of so many branches that has room, 1 to 255:
    /// [`balance`](Self::balance) for a number that is known at run time only.
    ///
    /// - *emits when* some branch has room.
    /// - *back-pressures when* the buffers of all branches are full.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended.
    /// - *settles when* a branch has ended while an element was on its way to it (filtered).
    /// - *holds* the buffers, all with back-pressure.
    /// - *costs* one hand-over a chunk and branch.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let mut workers = source::iter(0..100).balance_vec(4, 4);
    /// let first = workers.remove(0);
    /// assert_eq!(first.merge(workers).collect().block_on()?.len(), 100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn balance_vec(self, count: usize, buffers: impl Into<Branches>) -> Vec<Flow<T>> {
        let buffers = self.buffers("balance", buffers.into(), count);
        if buffers
            .iter()
            .any(|buffer| buffer.when_full != WhenFull::Backpressure)
        {
            let what = "`balance` behind it must have buffers with back-pressure: a branch that \
                        sheds always has room";
            self.plan.refuse(&self.stage, what);
        }
        self.fan_out(NodeSpec::new("balance"), buffers, Balance::new)
    }

    /// Hands each element to the branch whose number the closure names.
    ///
    /// - *emits when* the element's branch has room.
    /// - *back-pressures when* all branches are full, or an element waits for a full one.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended.
    /// - *settles when* its branch has ended (filtered), the number is `N` or more (failed), or the
    ///   closure panics (failed).
    /// - *holds* the buffers, and one element that waits for its branch.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let [even, odd] = source::iter(1..=4).partition(16, |n| n % 2);
    /// assert_eq!(even.collect().and(odd.collect()).block_on()?, (vec![2, 4], vec![1, 3]));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    #[must_use = "a branch that leads nowhere is refused"]
    pub fn partition<const N: usize>(
        self,
        buffers: impl Into<Branches>,
        f: impl FnMut(&T) -> usize + Send + 'static,
    ) -> [Flow<T>; N] {
        let mut flows = self.partition_vec(N, buffers, f).into_iter();
        std::array::from_fn(|_| flows.next().unwrap_or_else(Flow::never))
    }

    /// Hands each element to the one of so many branches, 1 to 255, whose number the closure names:
    /// [`partition`](Self::partition) for a number that is known at run time only.
    ///
    /// - *emits when* the element's branch has room.
    /// - *back-pressures when* all branches are full, or an element waits for a full one.
    /// - *completes when* the input completes.
    /// - *cancels when* all branches have ended.
    /// - *settles when* its branch has ended (filtered), the number is too large or the closure
    ///   panics (failed).
    /// - *holds* the buffers, and one element that waits for its branch.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let mut rest = source::iter(0..9).partition_vec(3, 16, |n| n % 3);
    /// let first = rest.remove(0);
    /// let rest = rest.remove(0).merge(rest).ignore();
    /// assert_eq!(first.collect().and(rest).block_on()?.0, [0, 3, 6]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn partition_vec(
        self,
        count: usize,
        buffers: impl Into<Branches>,
        f: impl FnMut(&T) -> usize + Send + 'static,
    ) -> Vec<Flow<T>> {
        let buffers = self.buffers("partition", buffers.into(), count);
        let spec = NodeSpec::new("partition").holds(1).changes_count();
        self.fan_out(spec, buffers, |outlets| Partition::new(outlets, f))
    }
}
