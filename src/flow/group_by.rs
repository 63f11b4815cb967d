//! A flow for each key.

use std::sync::Arc;

use super::{Flow, nested};
use crate::boundary::{Buffer, ring};
use crate::error::{Cause, Stop};
use crate::operator::group_by::{GroupBy, Groups, NewGroup, WhenExhausted};
use crate::operator::guard;
use crate::operator::later::Later;
use crate::operator::outlet::Outlet;
use crate::topology::{NodeSpec, Plan};

impl<T: Send + 'static> Flow<T> {
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
}
