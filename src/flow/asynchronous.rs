//! Stages that run a future for each element, or work on other threads.

use std::future::Future;
use std::sync::Arc;

use super::{Flow, Pipeline};
use crate::control::WhenOpen;
use crate::operator::calls::{CallGate, Tallied, Tally, tallied};
use crate::operator::map_async::MapAsync;
use crate::operator::map_blocking::Blocking;
use crate::operator::map_parallel::{BATCH, BATCHES_A_LANE, MOST_LANES, MapParallel};
use crate::operator::sinks::for_each_async::ForEachAsync;
use crate::operator::unordered::Unordered;
use crate::operator::{Calls, Concurrency};
use crate::topology::NodeSpec;

impl Calls {
    /// The declaration of a stage that runs them.
    pub(super) fn spec(&self, kind: &'static str) -> NodeSpec {
        let concurrency = self.concurrency();
        let up_to = if self.is_fixed() { "" } else { "up to " };
        let words = format!("{up_to}{} in flight", concurrency.limit);
        NodeSpec::new(kind).holds(concurrency.window).note(words)
    }

    /// The declaration of the gate before it.
    fn gate_spec(&self) -> NodeSpec {
        let spec = NodeSpec::new("permits");
        match self.when_open() {
            None => spec,
            Some(WhenOpen::Reject) => spec
                .note("breaker: sheds while open")
                .changes_count()
                .loses("sheds while its breaker is open: declare that it pauses demand"),
            Some(_) => spec.note("breaker: pauses while open"),
        }
    }
}

impl<T: Send + 'static> Flow<T> {
    /// A gate before calls that begin on terms, and what it shares with them.
    pub(super) fn gated(self, calls: &Calls) -> (Flow<T>, Option<Tally>) {
        let Some(tally) = calls.tally() else {
            return (self, None);
        };
        let shared = tally.clone();
        let flow = self.then(calls.gate_spec(), |input| CallGate::new(input, shared));
        (flow, Some(tally))
    }

    /// Runs a future for each element, several at once, and hands on the results in order.
    ///
    /// A number is a limit with a reorder window of the same size; [`Concurrency::window`] sets them
    /// apart, so that fast elements may run ahead of a slow one. [`Calls`] adds a limit that adapts,
    /// and a breaker. Futures go on while downstream asks
    /// for nothing; their results wait.
    ///
    /// - *emits when* the oldest future is ready
    /// - *back-pressures when* as many futures run as the limit allows, or the reorder window is full
    /// - *completes when* the flow before it completes and all results are handed on
    /// - *cancels when* downstream cancels; futures in flight are dropped where they stand
    /// - *settles when* the closure or its future panics: that element fails, when its turn comes,
    ///   and the others go on
    /// - *holds* at most the reorder window
    /// - *costs* a poll of each future; one allocation a slot, ever; on terms, a lock or two besides
    ///
    /// # Example
    /// ```
    /// use forebay::operator::Concurrency;
    /// use forebay::source;
    ///
    /// let lengths = source::iter(["a", "bb", "ccc"])
    ///     .map_async(Concurrency::limit(2).window(16), |word| async move { word.len() })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(lengths, [1, 2, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_async<U, F, Fut>(self, calls: impl Into<Calls>, mut f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        let calls = calls.into();
        let (spec, concurrency) = (calls.spec("map_async"), calls.concurrency());
        let (flow, tally) = self.gated(&calls);
        let Some(tally) = tally else {
            return flow.then(spec, |input| MapAsync::new(input, concurrency, f));
        };
        flow.then(spec, |input| {
            let shared = tally.clone();
            let calls = move |value| tallied(tally.begin(), f(value));
            Tallied::new(MapAsync::new(input, concurrency, calls), shared)
        })
    }

    /// [`map_async`](Flow::map_async) with something each future gets a clone of: a client, a pool,
    /// a sender. It saves the clone before each `async move` block.
    ///
    /// - *emits when*, *back-pressures when*, *completes when*, *cancels when*, *settles when*,
    ///   *holds*: as [`map_async`](Flow::map_async);
    /// - *costs* a clone of the context for each element besides.
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    /// use forebay::source;
    ///
    /// let prices = Arc::new(vec![10, 20, 30]);
    /// let paid = source::iter([2, 0])
    ///     .map_async_with(prices, 4, |prices, item: usize| async move { prices[item] })
    ///     .collect();
    /// assert_eq!(paid.block_on()?, [30, 10]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_async_with<C, U, F, Fut>(
        self,
        context: C,
        calls: impl Into<Calls>,
        mut f: F,
    ) -> Flow<U>
    where
        C: Clone + Send + 'static,
        U: Send + 'static,
        F: FnMut(C, T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        self.map_async(calls, move |value| f(context.clone(), value))
    }

    /// Runs a future for each element, several at once, and hands on each result as it comes: a slow
    /// element holds nobody back.
    ///
    /// - *emits when* any element inside has its result;
    /// - *back-pressures when* as many are inside as may run, or downstream does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does: futures in flight are dropped;
    /// - *settles when* the closure or its future panicked (failed);
    /// - *holds* up to the number in flight, results not asked for included;
    /// - *costs* a little more than [`map_async`](Flow::map_async): receipts travel one by one.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::{source, time};
    ///
    /// let ends = source::iter([30, 1])
    ///     .map_async_unordered(2, |ms| async move {
    ///         time::sleep(Duration::from_millis(ms)).await;
    ///         ms
    ///     })
    ///     .collect();
    /// assert_eq!(ends.block_on()?, [1, 30]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_async_unordered<U, F, Fut>(self, calls: impl Into<Calls>, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        self.unordered("map_async_unordered", calls.into(), |_| None::<()>, f)
    }

    fn unordered<K, U, G, F, Fut>(
        self,
        kind: &'static str,
        calls: Calls,
        key: G,
        mut f: F,
    ) -> Flow<U>
    where
        K: Ord + Clone + Send + 'static,
        U: Send + 'static,
        G: FnMut(&T) -> Option<K> + Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        let (spec, concurrency) = (calls.spec(kind), calls.concurrency());
        let (flow, tally) = self.gated(&calls);
        let Some(tally) = tally else {
            return flow.then(spec, |input| Unordered::new(input, concurrency, key, f));
        };
        flow.then(spec, |input| {
            let shared = tally.clone();
            let calls = move |value| tallied(tally.begin(), f(value));
            let stage = Unordered::new(input, concurrency, key, calls).on_terms(&shared);
            Tallied::new(stage, shared)
        })
    }

    /// Runs a future for each element, several at once, but one at a time for each key: results of
    /// one key keep their order, and no key waits for another.
    ///
    /// Elements of a key that is busy wait inside the window of [`Concurrency`] or [`Calls`]; make it
    /// larger than the limit where keys repeat, so that others can be found behind them. Any number of
    /// keys is allowed, and nothing is kept of a key that has no element inside.
    ///
    /// An element that waits behind its key takes no place of a shared limit and no permit of a breaker.
    /// When it is its turn it takes over the place of the one before it; a breaker that is open then
    /// keeps it waiting, as a retry.
    ///
    /// - *emits when* any element inside has its result;
    /// - *back-pressures when* the window is full, or downstream does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does: futures in flight are dropped;
    /// - *settles when* a closure or the future panicked (failed); the key goes on;
    /// - *holds* up to the window;
    /// - *costs* a look-up by key when an element comes and when it ends.
    ///
    /// # Example
    /// ```
    /// use forebay::operator::Concurrency;
    /// use forebay::source;
    ///
    /// let events = [("ann", 1), ("bob", 1), ("ann", 2), ("bob", 2)];
    /// let applied = source::iter(events)
    ///     .map_async_keyed(Concurrency::limit(2).window(8), |(name, _)| *name, |event| async move { event })
    ///     .collect()
    ///     .block_on()?;
    /// let of_ann: Vec<_> = applied.iter().filter(|(name, _)| *name == "ann").collect();
    /// assert_eq!(of_ann, [&("ann", 1), &("ann", 2)]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_async_keyed<K, U, G, F, Fut>(
        self,
        calls: impl Into<Calls>,
        mut key: G,
        f: F,
    ) -> Flow<U>
    where
        K: Ord + Clone + Send + 'static,
        U: Send + 'static,
        G: FnMut(&T) -> K + Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        let key = move |value: &T| Some(key(value));
        self.unordered("map_async_keyed", calls.into(), key, f)
    }

    /// Runs a closure that blocks its thread, on up to that many threads, and hands on the results in
    /// order. The threads are those that tokio keeps for such work.
    ///
    /// - *emits when* the oldest element inside has its result;
    /// - *back-pressures when* all threads are busy, or downstream does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does: what has not started does not start. What runs cannot be
    ///   stopped; its result is dropped;
    /// - *settles when* the closure panicked (failed);
    /// - *holds* an element for each thread;
    /// - *costs* a hand-off to a thread and back for each element, several microseconds: for work
    ///   that takes longer than that. Refused in simulated time.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sizes = source::iter(["Cargo.toml"])
    ///     .map_blocking(4, |path| std::fs::metadata(path).map_or(0, |file| file.len()))
    ///     .collect();
    /// assert!(sizes.block_on()?[0] > 0);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_blocking<U, F>(self, threads: usize, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: Fn(T) -> U + Send + Sync + 'static,
    {
        let concurrency = Concurrency::limit(threads);
        let spec = NodeSpec::new("map_blocking")
            .holds(concurrency.window)
            .note(format!("{} threads", concurrency.limit))
            .threads();
        let f = Arc::new(f);
        self.then(spec, |input| {
            MapAsync::new(input, concurrency, move |value| {
                let f = Arc::clone(&f);
                Blocking::start(move || f(value))
            })
        })
    }

    /// Runs a closure on several lanes at once, on other cores where there are any, and hands on the
    /// results in order: for work that keeps a core busy.
    ///
    /// Each lane is a task of the run; batches of up to 32 elements go to whichever is free. 0 lanes
    /// count as 1, and more than 1024 as 1024.
    ///
    /// - *emits when* the oldest batch inside is done;
    /// - *back-pressures when* there are two batches inside for each lane, or downstream does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does: a lane ends after the element it works on;
    /// - *settles when* the closure panicked (failed);
    /// - *holds* up to 64 elements for each lane, and a batch that is being handed on;
    /// - *costs* two hand-offs between tasks for each batch.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let squares = source::iter(1..=1000_u64).map_parallel(2, |n| n * n).collect().block_on()?;
    /// assert_eq!(squares[999], 1_000_000);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_parallel<U, F>(self, lanes: usize, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: Fn(T) -> U + Send + Sync + 'static,
    {
        let lanes = lanes.clamp(1, MOST_LANES);
        let spec = NodeSpec::new("map_parallel")
            .holds((lanes * BATCHES_A_LANE + 1) * BATCH)
            .note(format!("{lanes} lanes"));
        self.then(spec, |input| MapParallel::new(input, lanes, f))
    }

    /// Ends the flow in a future for each element, several at once; an element is delivered when its
    /// future has ended.
    ///
    /// - *emits when*: never, it is a sink;
    /// - *back-pressures when* as many futures run as may;
    /// - *completes when* upstream does and all futures have ended;
    /// - *cancels when*: never by itself;
    /// - *settles when* a future ends (delivered), or it or the closure panics (failed);
    /// - *holds* an element for each future in flight;
    /// - *costs* as [`map_async`](Flow::map_async); receipts are settled one by one.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (send, receive) = async_channel::bounded(8);
    /// source::iter(1..=3)
    ///     .for_each_async(2, move |n| {
    ///         let send = send.clone();
    ///         async move { send.send(n).await.unwrap() }
    ///     })
    ///     .block_on()?;
    /// assert_eq!(receive.len(), 3);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn for_each_async<F, Fut>(self, calls: impl Into<Calls>, mut f: F) -> Pipeline<()>
    where
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let calls = calls.into();
        let (spec, limit) = (calls.spec("for_each_async"), calls.concurrency().limit);
        let (flow, tally) = self.gated(&calls);
        let Some(tally) = tally else {
            return flow.to_named(spec, ForEachAsync::new(limit, f));
        };
        let shared = tally.clone();
        let calls = move |value| tallied(tally.begin(), f(value));
        flow.to_named(spec, Tallied::new(ForEachAsync::new(limit, calls), shared))
    }
}
