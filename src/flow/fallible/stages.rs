//! The stages that may fail.

use std::future::Future;

use super::Fallible;
use crate::flow::Flow;
use crate::operator::Calls;
use crate::operator::retry::{KeyOf, attempts, attempts_async};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Makes a value of each value, or an error, whose destination is named next.
    ///
    /// - *emits when* upstream does and the closure succeeded;
    /// - *back-pressures when* downstream does, while an element waits for its next try, and while
    ///   the queue of dead letters is full;
    /// - *completes when* upstream does and all tries are over;
    /// - *cancels when* downstream does;
    /// - *settles when* the closure failed: as the end says;
    /// - *holds* nothing; 1 element with [`retry`](Fallible::retry), a chunk with dead letters;
    /// - *costs* a move more than [`map`](Flow::map); a failure costs an allocation.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let numbers = source::iter(["1", "two", "3"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .or_discard()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn try_map<U, E, F>(self, f: F) -> Fallible<T, U, E>
    where
        U: Send + 'static,
        E: Send + 'static,
        F: FnMut(&T) -> Result<U, E> + Send + 'static,
    {
        let make = |input, options| attempts(input, f, options);
        Fallible::new(self, NodeSpec::new("try_map"), Box::new(make), false)
    }

    /// Runs a future for each element, several at once; each gives a value or an error, whose
    /// destination is named next. Results keep the order of elements.
    ///
    /// - *emits when* the oldest element inside has its value;
    /// - *back-pressures when* the window is full, downstream does, or the queue of dead letters is
    ///   full;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does: futures in flight are dropped;
    /// - *settles when* the last try of an element failed: as the end says;
    /// - *holds* up to the window of [`Concurrency`](crate::operator::Concurrency), elements that wait
    ///   for their next try included, and a chunk with dead letters;
    /// - *costs* what [`map_async`](Flow::map_async) does; with [`retry`](Fallible::retry) a copy of
    ///   each element, with [`timeout`](Fallible::timeout) a timer for each future that is not ready
    ///   at once.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let halves = source::iter(1..=4)
    ///     .try_map_async(2, |n| async move { if n % 2 == 0 { Ok(n / 2) } else { Err("odd") } })
    ///     .results()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(halves, [Err("odd"), Ok(1), Err("odd"), Ok(2)]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn try_map_async<U, E, F, Fut>(self, calls: impl Into<Calls>, f: F) -> Fallible<T, U, E>
    where
        U: Send + 'static,
        E: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        self.trying(calls.into(), "try_map_async", None::<KeyOf<T, ()>>, f)
    }

    /// The same, but each value is handed on as it comes: a slow element holds nobody back.
    ///
    /// - *emits when* any element inside has its value;
    /// - *back-pressures when* as many are inside as may be, downstream does, or the queue of dead
    ///   letters is full;
    /// - *completes when*, *cancels when*, *settles when*, *holds*: as
    ///   [`try_map_async`](Flow::try_map_async);
    /// - *costs* what [`map_async_unordered`](Flow::map_async_unordered) does, and the same with a
    ///   retry or a time-out.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::{source, time};
    ///
    /// let ends = source::iter([30, 1, 2])
    ///     .try_map_async_unordered(3, |ms| async move {
    ///         time::sleep(Duration::from_millis(ms)).await;
    ///         if ms == 2 { Err("even") } else { Ok(ms) }
    ///     })
    ///     .or_fail()
    ///     .collect();
    /// assert_eq!(ends.block_on()?, [1, 30]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn try_map_async_unordered<U, E, F, Fut>(
        self,
        calls: impl Into<Calls>,
        f: F,
    ) -> Fallible<T, U, E>
    where
        U: Send + 'static,
        E: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        let key = None::<KeyOf<T, ()>>;
        let mut fallible = self.trying(calls.into(), "try_map_async_unordered", key, f);
        fallible.unordered = true;
        fallible
    }

    /// The same, but elements of one key are worked on one after the other and leave in order: one that
    /// waits for its next try holds back its key, and nobody else. See
    /// [`map_async_keyed`](Flow::map_async_keyed).
    ///
    /// - *emits when* any element inside has its value;
    /// - *back-pressures when* the window is full, elements that wait for their key included, downstream
    ///   does, or the queue of dead letters is full;
    /// - *completes when*, *cancels when*, *settles when*, *holds*: as
    ///   [`try_map_async`](Flow::try_map_async);
    /// - *costs* what [`map_async_keyed`](Flow::map_async_keyed) does, and the same with a retry or a
    ///   time-out.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::control::Retry;
    /// use forebay::operator::Concurrency;
    /// use forebay::source;
    ///
    /// let mut calls = 0;
    /// let applied = source::iter([("ann", 1), ("ann", 2), ("bob", 1)])
    ///     .try_map_async_keyed(Concurrency::limit(2).window(8), |(name, _)| *name, move |event| {
    ///         calls += 1;
    ///         let result = if calls == 1 { Err("busy") } else { Ok(event) };
    ///         async move { result }
    ///     })
    ///     .retry(Retry::tries(3).backoff(Duration::from_millis(5), Duration::from_millis(5)))
    ///     .or_stop()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(applied, [("bob", 1), ("ann", 1), ("ann", 2)]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn try_map_async_keyed<K, U, E, G, F, Fut>(
        self,
        calls: impl Into<Calls>,
        mut key: G,
        f: F,
    ) -> Fallible<T, U, E>
    where
        K: Ord + Clone + Send + 'static,
        U: Send + 'static,
        E: Send + 'static,
        G: FnMut(&T) -> K + Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        let key: KeyOf<T, K> = Box::new(move |value| Some(key(value)));
        let mut fallible = self.trying(calls.into(), "try_map_async_keyed", Some(key), f);
        fallible.unordered = true;
        fallible
    }

    fn trying<K, U, E, F, Fut>(
        self,
        calls: Calls,
        kind: &'static str,
        key: Option<KeyOf<T, K>>,
        f: F,
    ) -> Fallible<T, U, E>
    where
        K: Ord + Clone + Send + 'static,
        U: Send + 'static,
        E: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        let (spec, concurrency) = (calls.spec(kind), calls.concurrency());
        let (flow, tally) = self.gated(&calls);
        let make = move |input, options| attempts_async(input, concurrency, key, tally, f, options);
        Fallible::new(flow, spec, Box::new(make), true)
    }
}
