//! Stages that take elements one by one: change them, leave some out, make more of them.

use super::Flow;
use crate::chunk::Chunk;
use crate::operator::filter::filter;
use crate::operator::filter_map::FilterMap;
use crate::operator::map::Map;
use crate::operator::map_concat::MapConcat;
use crate::operator::map_in_place::map_in_place;
use crate::operator::skip::Skip;
use crate::operator::stateful_map::StatefulMap;
use crate::operator::take::Take;
use crate::position::SourceId;
use crate::topology::NodeSpec;

const NO_REBUILD: &str =
    "has state that a rewind would have to rebuild: use `stateful_map_with_rebuild`";
const COUNTS: &str = "counts elements, and would count those again that come a second time";

impl<T: Send + 'static> Flow<T> {
    /// Makes a value of each value.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed; the others go on
    /// - *holds* nothing
    /// - *costs* a move of each value; for large ones see [`map_in_place`](Flow::map_in_place)
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let squares = source::iter(1..=4).map(|n| n * n).collect().block_on()?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map<U, F>(self, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> U + Send + 'static,
    {
        self.then(NodeSpec::new("map"), |input| Map::new(input, f))
    }

    /// Changes each value where it lies.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed; the others go on
    /// - *holds* nothing
    /// - *costs* the closure alone: nothing is moved, however large the values are
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let words = source::iter(["a".to_owned(), "b".to_owned()]);
    /// let words = words.map_in_place(|word| word.push('!')).collect().block_on()?;
    /// assert_eq!(words, ["a!", "b!"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_in_place<F>(self, f: F) -> Flow<T>
    where
        F: FnMut(&mut T) + Send + 'static,
    {
        self.then(NodeSpec::new("map_in_place"), |input| {
            map_in_place(input, f)
        })
    }

    /// Looks at each value.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed; the others go on
    /// - *holds* nothing
    /// - *costs* the closure alone: nothing is moved
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static SEEN: AtomicU32 = AtomicU32::new(0);
    /// source::iter(1..=4)
    ///     .inspect(|n| {
    ///         SEEN.fetch_add(*n, Ordering::Relaxed);
    ///     })
    ///     .ignore()
    ///     .block_on()?;
    /// assert_eq!(SEEN.load(Ordering::Relaxed), 10);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn inspect<F>(self, mut f: F) -> Flow<T>
    where
        F: FnMut(&T) + Send + 'static,
    {
        let f = move |value: &mut T| f(value);
        self.then(NodeSpec::new("inspect"), |input| map_in_place(input, f))
    }

    /// Keeps the elements for which the predicate holds.
    ///
    /// - *emits when* an element arrives for which the predicate holds
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the predicate does not hold: as filtered (predicate), in one step for all
    ///   of a chunk; when it panics: that element as failed
    /// - *holds* nothing
    /// - *costs* the predicate, and moves where something was left out; nothing where all stay
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let even = source::iter(1..=6).filter(|n| n % 2 == 0).collect().block_on()?;
    /// assert_eq!(even, [2, 4, 6]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn filter<F>(self, predicate: F) -> Flow<T>
    where
        F: FnMut(&T) -> bool + Send + 'static,
    {
        self.then(NodeSpec::new("filter").changes_count(), |input| {
            filter(input, predicate)
        })
    }

    /// Makes a value of some of the values, and leaves the others out.
    ///
    /// - *emits when* an element arrives of which the closure makes a value
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure returns `None`: as filtered (predicate); when it panics: that
    ///   element as failed
    /// - *holds* nothing
    /// - *costs* a move of each value
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let numbers = source::iter(["1", "x", "3"]).filter_map(|text| text.parse().ok());
    /// let numbers: Vec<i32> = numbers.collect().block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn filter_map<U, F>(self, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> Option<U> + Send + 'static,
    {
        self.then(NodeSpec::new("filter_map").changes_count(), |input| {
            FilterMap::new(input, f)
        })
    }

    /// Makes any number of values of each value, in order: the iterator may be endless, it goes on
    /// only as far as values are asked for, and one value further.
    ///
    /// - *emits when* an element arrives of which something is made, and while there is more of it
    /// - *back-pressures when* downstream does, in the midst of an element as well
    /// - *completes when* upstream completes and the last element is used up
    /// - *cancels when* downstream cancels
    /// - *settles when* nothing is made of an element: as filtered (empty); when the closure or its
    ///   iterator panics: that element as failed, the values made before go on. Of one value it keeps
    ///   the receipt; of several each has a part of it
    /// - *holds* elements that were taken in and not used up: at most one chunk
    /// - *costs* a receipt split for each value but the last
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let words = source::iter(["to be", "", "or not"]);
    /// let words = words.map_concat(|line| line.split_whitespace()).collect().block_on()?;
    /// assert_eq!(words, ["to", "be", "or", "not"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_concat<I, F>(self, f: F) -> Flow<I::Item>
    where
        I: IntoIterator + 'static,
        I::IntoIter: Send,
        I::Item: Send + 'static,
        F: FnMut(T) -> I + Send + 'static,
    {
        let spec = NodeSpec::new("map_concat")
            .changes_count()
            .holds(Chunk::<T>::MAX);
        self.then(spec, |input| MapConcat::new(input, f))
    }

    /// Makes a value of each value and of a state that the closure may change.
    ///
    /// The state cannot be brought back when a source goes back: refused under
    /// [`Answer::Rewind`](crate::operator::Answer::Rewind) and exactly-once. See
    /// [`stateful_map_with_rebuild`](Flow::stateful_map_with_rebuild).
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed, and the run stops, because the
    ///   state may be half changed
    /// - *holds* nothing but the state
    /// - *costs* a move of each value
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let changes = source::iter([3, 5, 4]).stateful_map(0, |last, n| {
    ///     let change = n - *last;
    ///     *last = n;
    ///     change
    /// });
    /// assert_eq!(changes.collect().block_on()?, [3, 2, -1]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn stateful_map<S, U, F>(self, state: S, f: F) -> Flow<U>
    where
        S: Send + 'static,
        U: Send + 'static,
        F: FnMut(&mut S, T) -> U + Send + 'static,
    {
        let spec = NodeSpec::new("stateful_map").no_rewind(NO_REBUILD);
        self.then(spec, |input| StatefulMap::new(input, state, f, None))
    }

    /// A [`stateful_map`](Flow::stateful_map) whose state can be brought back.
    ///
    /// When a source goes back, `rebuild` must make the state what it was behind that source's
    /// settled position: from a snapshot, or by leaving out what is not settled. A panic in it stops
    /// the run.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed, and the run stops
    /// - *holds* nothing but the state
    /// - *costs* a move of each value
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// // A cache may be forgotten at any time.
    /// let parsed = source::iter(["7", "7", "8"]).stateful_map_with_rebuild(
    ///     None::<(&str, i32)>,
    ///     |cache, text| match cache {
    ///         Some((of, number)) if *of == text => *number,
    ///         _ => cache.insert((text, text.parse().unwrap_or(0))).1,
    ///     },
    ///     |cache, _source| *cache = None,
    /// );
    /// assert_eq!(parsed.collect().block_on()?, [7, 7, 8]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn stateful_map_with_rebuild<S, U, F, R>(self, state: S, f: F, rebuild: R) -> Flow<U>
    where
        S: Send + 'static,
        U: Send + 'static,
        F: FnMut(&mut S, T) -> U + Send + 'static,
        R: FnMut(&mut S, SourceId) + Send + 'static,
    {
        let spec = NodeSpec::new("stateful_map");
        self.then(spec, |input| {
            StatefulMap::new(input, state, f, Some(Box::new(rebuild)))
        })
    }

    /// Changes a state by each value, and hands on a copy of it each time. The state before the first
    /// value is not handed on.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed, and the run stops
    /// - *holds* nothing but the state
    /// - *costs* a clone of the state for each element
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sums = source::iter([1, 2, 3]).scan(0, |sum, n| *sum += n).collect().block_on()?;
    /// assert_eq!(sums, [1, 3, 6]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn scan<S, F>(self, state: S, mut f: F) -> Flow<S>
    where
        S: Clone + Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        let step = move |state: &mut S, value| {
            f(state, value);
            state.clone()
        };
        let spec = NodeSpec::new("scan").no_rewind(NO_REBUILD);
        self.then(spec, |input| StatefulMap::new(input, state, step, None))
    }

    /// Hands on the first elements and then ends.
    ///
    /// - *emits when* an element arrives, until that many have
    /// - *back-pressures when* downstream does; it asks for no more than are left
    /// - *completes when* the last one was handed on, or upstream completes
    /// - *cancels when* the last one was handed on: what is left upstream ends cancelled (not
    ///   wanted), or filtered (ended) on a branch whose source goes on; or downstream cancels
    /// - *settles when* never
    /// - *holds* nothing
    /// - *costs* nothing
    ///
    /// It counts what passes: refused where a source goes back, and under exactly-once.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let first = source::iter(1..).take(3).collect().block_on()?;
    /// assert_eq!(first, [1, 2, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn take(self, count: usize) -> Flow<T> {
        let spec = NodeSpec::new("take")
            .changes_count()
            .no_rewind(COUNTS)
            .note(format!("the first {count}"));
        self.then(spec, |input| Take::new(input, count))
    }

    /// Leaves out the first elements.
    ///
    /// - *emits when* an element arrives, once that many have been left out
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* an element is left out: as filtered
    /// - *holds* nothing
    /// - *costs* nothing once they are left out
    ///
    /// It counts what passes: refused where a source goes back, and under exactly-once.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let rest = source::iter(1..=5).skip(3).collect().block_on()?;
    /// assert_eq!(rest, [4, 5]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn skip(self, count: usize) -> Flow<T> {
        let spec = NodeSpec::new("skip")
            .changes_count()
            .no_rewind(COUNTS)
            .note(format!("the first {count}"));
        self.then(spec, |input| Skip::new(input, count))
    }
}
