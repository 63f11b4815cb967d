//! Stages with several outputs.
//!
//! Each branch starts with a bounded queue of its own and runs as an island of its own. A branch
//! that nothing follows is refused: give it a sink, or [`ignore`](Flow::ignore) it.

use std::sync::Arc;

use super::{Flow, Pipeline, nested};
use crate::boundary::{Buffer, WhenFull, ring};
use crate::error::{Cause, Stop};
use crate::operator::balance::Balance;
use crate::operator::broadcast::Broadcast;
use crate::operator::divert::Divert;
use crate::operator::group_by::{GroupBy, Groups, NewGroup, WhenExhausted};
use crate::operator::later::Later;
use crate::operator::outlet::{Outlet, Outlets};
use crate::operator::partition::Partition;
use crate::operator::{Sink, Stage, guard};
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
fn branch<T: Send + 'static>(
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

    /// Gives each key a flow of its own, built when the key first comes, and merges their results.
    ///
    /// The flows of groups share the island, each woken on its own, so that any number of them runs
    /// at once; a `buffer` in one makes it an island. Their stages are reported together, under the
    /// name of this one.
    ///
    /// At most [`Groups::keys`] groups exist at once. A group completes when it had no element for
    /// the idle time, and, when a new key needs room, if it is empty and used longest ago. A key that
    /// comes again after that starts anew. Where groups gather elements (`grouped`, `fold`) and keys
    /// run out, declare [`WhenExhausted::CloseOldest`](super::WhenExhausted), or new keys wait for
    /// the idle time.
    ///
    /// The run stops if a group cannot keep what the pipeline promised: a guarantee, or that it goes
    /// back behind a source under [`Answer::Rewind`](crate::operator::Answer::Rewind). A group may
    /// have sources of its own.
    ///
    /// - *emits when* a group does.
    /// - *back-pressures when* a group is full, or keys have run out as [`Groups`] says.
    /// - *completes when* the input and all groups have completed.
    /// - *cancels when* downstream does. A group that ends early (`take`) filters what comes for its
    ///   key, for as long as the group is known.
    /// - *settles when* the key closure panics (failed), keys have run out under
    ///   [`WhenExhausted::Shed`](super::WhenExhausted), or a group has ended (filtered).
    /// - *holds* a chunk, and for each key what its buffer and its stages hold.
    /// - *costs* a look-up an element, logarithmic in the keys; building a flow a new key.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let words = source::iter(["apple", "bean", "avocado", "beet", "cherry"]);
    /// let numbered = words.group_by(
    ///     100,
    ///     |word| word.chars().next(),
    ///     |_, group| {
    ///         let mut count = 0;
    ///         group.map(move |word| {
    ///             count += 1;
    ///             format!("{count} {word}")
    ///         })
    ///     },
    /// );
    /// let mut all = numbered.collect().block_on()?;
    /// all.sort();
    /// assert_eq!(all, ["1 apple", "1 bean", "1 cherry", "2 avocado", "2 beet"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn group_by<K, U>(
        self,
        groups: impl Into<Groups>,
        key: impl FnMut(&T) -> K + Send + 'static,
        mut part: impl FnMut(&K, Flow<T>) -> Flow<U> + Send + 'static,
    ) -> Flow<U>
    where
        K: Ord + Clone + Send + 'static,
        U: Send + 'static,
    {
        let groups = groups.into();
        let spec = NodeSpec::new("group_by")
            .holds(crate::chunk::Chunk::<T>::MAX)
            .changes_count()
            .note(format!("at most {} keys", groups.max_keys));
        let spec = match groups.when_exhausted {
            WhenExhausted::Shed => spec.loses("sheds elements of new keys when keys run out"),
            _ => spec,
        };
        let split = self.plan.add(spec, &[&self.stage], false);
        let held = groups.max_keys.saturating_mul(groups.buffer);
        let spec = NodeSpec::new("group_by")
            .named("group_by[merge]")
            .holds(held)
            .changes_count();
        let stage = self.plan.add(spec, &[&split], false);
        let home = self.plan.home(&split);
        let mut later = Later::new();
        let make = move |key: &K| {
            let plan = Plan::new();
            let spec = NodeSpec::new("group").boundary().holds(groups.buffer);
            let stage = plan.add_inlet(spec, true);
            plan.lead_in(&stage);
            let (sink, source) = ring(Buffer::items(groups.buffer), &stage);
            let outlet = Outlet::new(sink, Arc::clone(&stage));
            let flow = Flow::from_parts(Box::new(source), stage, plan);
            let (input, part) = later.declare(|| {
                let flow = guard(|| part(key, flow))
                    .map_err(|panic| Stop::cause(Cause::Panicked(panic)))?;
                nested::launch(&home, flow, false)
            })?;
            Ok(NewGroup {
                outlet,
                input,
                part,
            })
        };
        let (input, _, plan) = self.into_parts();
        let operator = GroupBy::new(input, split, groups, key, make);
        Flow::from_parts(Box::new(operator), stage, plan)
    }

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
