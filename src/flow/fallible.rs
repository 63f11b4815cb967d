//! Stages that may fail, and the destinations of their failures.

use std::fmt;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{DeadLetters, Flow};
use crate::control::Retry;
use crate::error::BoxError;
use crate::operator::fallible::{Attempt, Classify, Decide, Ends, OnError, Results, Telling};
use crate::operator::retry::{
    Again, Encode, KeyOf, Options, Patience, Wanted, attempts, attempts_async,
};
use crate::operator::{Calls, Input, Operator};
use crate::time::TimedOut;
use crate::topology::NodeSpec;

type MakeAttempts<T, U, E> =
    Box<dyn FnOnce(Input<T>, Options<T, E>) -> Box<dyn Operator<Attempt<U, E>>> + Send>;

/// Copies an element for another try.
type Copy<T> = fn(&T) -> T;

/// A stage that may fail, before its failures have a destination.
///
/// It is no [`Flow`] yet. Optionally say how to try again ([`retry`](Fallible::retry)), how long a
/// try may take ([`timeout`](Fallible::timeout)) and what of an element to keep
/// ([`encode`](Fallible::encode)); then where failures go:
///
/// | end | a failed element ends | the run |
/// | --- | --- | --- |
/// | [`or_stop`](Fallible::or_stop) | failed | stops with its error |
/// | [`or_fail`](Fallible::or_fail) | failed | goes on as the source answers |
/// | [`or_discard`](Fallible::or_discard) | shed (discarded) | goes on |
/// | [`or_dead_letter`](Fallible::or_dead_letter) | dead-lettered, once the sink has settled it | goes on |
/// | [`on_error`](Fallible::on_error) | as a closure decides for each error | |
/// | [`results`](Fallible::results) | not: it goes on as an `Err` | goes on |
///
/// The order of elements is kept, but by a stage that says otherwise. An element whose code panics ends as failed, whatever the end.
/// Nothing but an end makes a flow of it:
/// ```compile_fail,E0599
/// use forebay::source;
///
/// source::iter(["1", "two"])
///     .try_map(|text| text.parse::<u32>())
///     .map(|number| number + 1); // no method named `map` found for struct `Fallible`
/// ```
#[must_use = "a fallible stage is no flow until its failures have a destination, such as `.or_stop()`"]
pub struct Fallible<T, U, E> {
    flow: Flow<T>,
    spec: NodeSpec,
    make: MakeAttempts<T, U, E>,
    encode: Option<Encode<T>>,
    timeout: Option<Patience<T, E>>,
    retry: Option<(Retry, Copy<T>)>,
    letters: Option<DeadLetters>,
    class: Option<Classify<E>>,
    /// Why the declaration is refused.
    problem: Option<String>,
    asynchronous: bool,
    unordered: bool,
}

impl<T, U, E> fmt::Debug for Fallible<T, U, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallible")
            .field("kind", &self.spec.kind)
            .finish_non_exhaustive()
    }
}

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

impl<T, U, E> Fallible<T, U, E>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
{
    fn new(
        flow: Flow<T>,
        spec: NodeSpec,
        make: MakeAttempts<T, U, E>,
        asynchronous: bool,
    ) -> Fallible<T, U, E> {
        Fallible {
            flow,
            spec,
            make,
            encode: None,
            timeout: None,
            retry: None,
            letters: None,
            class: None,
            problem: None,
            asynchronous,
            unordered: false,
        }
    }

    /// Tries failed elements again, from a copy. Those that wait for their next try stay in their
    /// place: their receipts are unsettled, and what comes after them is held back in order, as far
    /// as the window goes. A time-out counts as a failure, a panic does not.
    ///
    /// An element that is given up ends as the end of the stage says, with the reason *retries
    /// exhausted*.
    ///
    /// - *emits when* a try of an element succeeds, and those before it have been handed on;
    /// - *back-pressures when* an element that waits for its next try fills the window (of a `try_map`: at once), or a spent
    ///   [`Budget`](crate::control::Budget) is to wait;
    /// - *completes when* upstream does and all tries are over;
    /// - *cancels when* downstream does: elements that wait for a try are left over;
    /// - *settles when* the last try failed: as the end says;
    /// - *holds* 1 element of a `try_map`; a `try_map_async` nothing beyond its window;
    /// - *costs* a copy of each element; a failed one a timer.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::control::Retry;
    /// use forebay::source;
    ///
    /// let mut calls = 0;
    /// let sent = source::iter(["order"])
    ///     .try_map_async(4, move |order| {
    ///         calls += 1;
    ///         let result = if calls < 3 { Err("busy") } else { Ok(order) };
    ///         async move { result }
    ///     })
    ///     .retry(Retry::tries(3).backoff(Duration::from_millis(1), Duration::from_millis(10)))
    ///     .or_stop()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(sent, ["order"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self
    where
        T: Clone,
    {
        if !self.asynchronous {
            self.spec = self.spec.holds(1);
        }
        if let Err(problem) = retry.check() {
            self.problem.get_or_insert_with(|| problem.to_string());
        }
        self.retry = Some((retry, T::clone));
        self
    }

    /// Waits for each try of a [`try_map_async`](Flow::try_map_async) at most that long, from when it
    /// first is not ready; then its future is dropped, and it failed with an error made of [`TimedOut`]. Refused for `try_map`.
    ///
    /// - *emits when* a try ends in time, as the stage does;
    /// - *back-pressures when* the stage does: no try holds it up for longer;
    /// - *completes when* the stage does;
    /// - *cancels when* downstream does: the futures and their timers are dropped;
    /// - *settles when* the last try took too long: as the end says;
    /// - *holds* nothing more;
    /// - *costs* a timer for each future that is not ready at once.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::source;
    /// use forebay::time::{self, TimedOut};
    ///
    /// let answers = source::iter([0, 10_000])
    ///     .try_map_async(2, |ms| async move {
    ///         time::sleep(Duration::from_millis(ms)).await;
    ///         Ok::<_, TimedOut>(ms)
    ///     })
    ///     .timeout(Duration::from_millis(50))
    ///     .results()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(answers, [Ok(0), Err(TimedOut(Duration::from_millis(50)))]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn timeout(mut self, span: Duration) -> Self
    where
        E: From<TimedOut>,
    {
        if !self.asynchronous {
            let problem = "`timeout` has no meaning for code that does not wait: use try_map_async";
            self.problem.get_or_insert(problem.to_owned());
        }
        self.patience().span = Some(span);
        self
    }

    /// Gives up a try of a [`try_map_async`](Flow::try_map_async) when its answer is of no use any more:
    /// after as long as the closure says for its element, and never where it says `None`. The future is
    /// dropped and its place is free for an element that is in time yet. As with
    /// [`timeout`](Fallible::timeout), beside which it may stand, the element failed with an error made
    /// of [`TimedOut`]; but the try was *abandoned*: that nobody waits any longer says nothing about where
    /// the call went, so that neither a breaker nor a limit takes it for a failure. Refused for `try_map`.
    ///
    /// Where one call in ten takes fifty times as long for seconds, giving up those of lower classes at
    /// their deadlines is worth a fifth of all that is done in time (scenario `grey`, see
    /// [the guide](crate::guide)).
    ///
    /// - *emits when* a try ends in time, as the stage does;
    /// - *back-pressures when* the stage does;
    /// - *completes when* the stage does;
    /// - *cancels when* downstream does: the futures and their timers are dropped;
    /// - *settles when* the answer of the last try was not wanted any more: as the end says; or the
    ///   closure panics: as failed;
    /// - *holds* nothing more;
    /// - *costs* the closure for each try, and a timer for each future that is not ready at once.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::source;
    /// use forebay::time::{self, TimedOut};
    ///
    /// let ms = Duration::from_millis;
    /// let answers = source::iter([("dear", 60), ("cheap", 10_000)])
    ///     .try_map_async(2, move |(name, takes)| async move {
    ///         time::sleep(ms(takes)).await;
    ///         Ok::<_, TimedOut>(name)
    ///     })
    ///     .give_up_after(move |(name, _)| (*name != "dear").then_some(ms(50)))
    ///     .results()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(answers, [Ok("dear"), Err(TimedOut(ms(50)))]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn give_up_after(
        mut self,
        wanted: impl Fn(&T) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self
    where
        E: From<TimedOut>,
    {
        if !self.asynchronous {
            let problem =
                "`give_up_after` has no meaning for code that does not wait: use try_map_async";
            self.problem.get_or_insert(problem.to_owned());
        }
        let wanted: Wanted<T> = Box::new(wanted);
        self.patience().wanted = Some(wanted);
        self
    }

    fn patience(&mut self) -> &mut Patience<T, E>
    where
        E: From<TimedOut>,
    {
        self.timeout.get_or_insert_with(|| Patience {
            span: None,
            wanted: None,
            error: E::from,
        })
    }

    /// Makes the payload of a dead letter from an element. For `try_map`, and with
    /// [`retry`](Fallible::retry), only failed elements are encoded; else every element is, before
    /// it is moved into its future.
    ///
    /// - *emits when* the stage does: nothing that is handed on changes;
    /// - *back-pressures when* the stage does;
    /// - *completes when* the stage does;
    /// - *cancels when* downstream does;
    /// - *settles when* the closure panics: its element fails;
    /// - *holds* the payload of each element inside that may fail yet;
    /// - *costs* the closure, for failed elements alone or for all, as said above.
    ///
    /// # Example
    /// ```
    /// use forebay::dead_letter::DeadLetterFile;
    /// use forebay::flow::DeadLetters;
    /// use forebay::source;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("dead.ndjson");
    /// let letters = DeadLetters::new(64, DeadLetterFile::open(&path)?);
    /// let numbers = source::iter(["1", "two", "3"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .encode(|text| text.as_bytes().into())
    ///     .or_dead_letter(&letters)
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// assert!(std::fs::read_to_string(&path)?.contains("invalid digit"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn encode(mut self, f: impl FnMut(&T) -> Bytes + Send + 'static) -> Self {
        self.encode = Some(Box::new(f));
        self
    }

    /// Names the destination of [`OnError::DeadLetter`] for [`on_error`](Fallible::on_error).
    ///
    /// - *emits when* the stage does;
    /// - *back-pressures when* the queue of dead letters is full as well;
    /// - *completes when* the stage does, and the letters are on their way;
    /// - *cancels when* downstream does;
    /// - *settles when* the sink of letters has settled a failed element: dead-lettered, or failed if it could not;
    /// - *holds* a chunk more;
    /// - *costs* an allocation for each letter.
    ///
    /// # Example
    /// ```
    /// use forebay::dead_letter::DeadLetterFile;
    /// use forebay::flow::{DeadLetters, OnError};
    /// use forebay::source;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("dead.ndjson");
    /// let letters = DeadLetters::new(64, DeadLetterFile::open(&path)?);
    /// let numbers = source::iter(["1", "", "three"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .encode(|text| text.as_bytes().into())
    ///     .dead_letters(&letters)
    ///     .on_error(|error, _tries| match error.kind() {
    ///         std::num::IntErrorKind::Empty => OnError::Discard,
    ///         _ => OnError::DeadLetter,
    ///     })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1]);
    /// assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dead_letters(mut self, letters: &DeadLetters) -> Self {
        self.letters = Some(letters.clone());
        self
    }

    /// Names the class of an error in dead letters, by which they are found again: what went wrong, in a
    /// word. Default: the name of the error's type.
    ///
    /// - *emits when* the stage does;
    /// - *back-pressures when* the stage does;
    /// - *completes when* the stage does;
    /// - *cancels when* downstream does;
    /// - *settles when* the stage does: a closure that panics names the type;
    /// - *holds* nothing more;
    /// - *costs* a call for each letter.
    ///
    /// # Example
    /// ```
    /// use forebay::dead_letter::DeadLetter;
    /// use forebay::flow::DeadLetters;
    /// use forebay::source;
    ///
    /// let (kept, letters) = async_channel::bounded::<DeadLetter>(16);
    /// source::iter(["", "two"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .encode(|text| (*text).into())
    ///     .error_class(|error| match error.kind() {
    ///         std::num::IntErrorKind::Empty => "empty",
    ///         _ => "no number",
    ///     })
    ///     .or_dead_letter(&DeadLetters::new(16, kept))
    ///     .for_each(drop)
    ///     .block_on()?;
    /// assert_eq!(letters.try_recv().unwrap().error_type, "empty");
    /// assert_eq!(letters.try_recv().unwrap().error_type, "no number");
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn error_class(mut self, f: impl Fn(&E) -> &'static str + Send + 'static) -> Self {
        self.class = Some(Box::new(f));
        self
    }

    /// A failed element ends as failed, and the run stops with its error.
    ///
    /// - *emits when* the stage has a value;
    /// - *back-pressures when* the stage does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does, and when an element failed;
    /// - *settles when* an element failed: failed; those behind it are cancelled with the run;
    /// - *holds* what the stage holds;
    /// - *costs* nothing more.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let error = source::iter(["1", "two", "3"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .or_stop()
    ///     .collect()
    ///     .block_on()
    ///     .unwrap_err();
    /// assert!(error.to_string().contains("invalid digit"), "{error}");
    /// ```
    pub fn or_stop(self) -> Flow<U>
    where
        E: Into<BoxError>,
    {
        self.end(OnError::Stop, Telling::error())
    }

    /// A failed element ends as failed; its source answers, and a tracked one never passes it.
    ///
    /// - *emits when* the stage has a value;
    /// - *back-pressures when* the stage does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does;
    /// - *settles when* an element failed: failed;
    /// - *holds* what the stage holds;
    /// - *costs* nothing more.
    ///
    /// # Example
    /// ```
    /// use forebay::operator::Answer;
    /// use forebay::source;
    ///
    /// let numbers = source::iter(["1", "two", "3"])
    ///     .on_unresolved(Answer::Continue)
    ///     .try_map(|text| text.parse::<u32>())
    ///     .or_fail()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn or_fail(self) -> Flow<U> {
        self.end(OnError::Fail, Telling::nothing())
    }

    /// A failed element is knowingly given up: it ends as shed (discarded). Refused under a named
    /// guarantee.
    ///
    /// - *emits when* the stage has a value;
    /// - *back-pressures when* the stage does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does;
    /// - *settles when* an element failed: shed (discarded);
    /// - *holds* what the stage holds;
    /// - *costs* nothing more.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let halves = source::iter(1..=4)
    ///     .try_map(|n| if n % 2 == 0 { Ok(n / 2) } else { Err("odd") })
    ///     .or_discard()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(halves, [1, 2]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn or_discard(mut self) -> Flow<U> {
        self.spec = self
            .spec
            .loses("discards what failed: use `.or_dead_letter(..)`");
        self.end(OnError::Discard, Telling::nothing())
    }

    /// A failed element goes to a sink of dead letters and ends as dead-lettered when that has
    /// settled it, or as failed if it could not.
    ///
    /// Refused unless the stage [`encode`](Fallible::encode)s or every source before it keeps the
    /// original bytes: a letter without them could not be tried again.
    ///
    /// - *emits when* the stage has a value;
    /// - *back-pressures when* the stage does, or the queue of dead letters is full;
    /// - *completes when* upstream does, no element is inside, and all letters are on their way;
    /// - *cancels when* downstream does;
    /// - *settles when* the sink of letters has settled a failed element: dead-lettered, or failed if it could not;
    /// - *holds* a chunk more than the stage;
    /// - *costs* an allocation for each letter.
    ///
    /// # Example
    /// ```
    /// use forebay::dead_letter::DeadLetterFile;
    /// use forebay::flow::DeadLetters;
    /// use forebay::source;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("dead.ndjson");
    /// let letters = DeadLetters::new(64, DeadLetterFile::open(&path)?);
    /// let numbers = source::iter(["1", "two", "3"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .encode(|text| text.as_bytes().into())
    ///     .or_dead_letter(&letters)
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// assert!(std::fs::read_to_string(&path)?.contains("invalid digit"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn or_dead_letter(self, letters: &DeadLetters) -> Flow<U>
    where
        E: Display,
    {
        self.dead_letters(letters)
            .end(OnError::DeadLetter, Telling::words())
    }

    /// A closure decides for each error, given how often the element was tried by then.
    ///
    /// [`OnError::Retry`] needs [`retry`](Fallible::retry), which still bounds the tries, and
    /// [`OnError::DeadLetter`] and [`OnError::Later`] need [`dead_letters`](Fallible::dead_letters): without,
    /// and when tries are used up, the element ends as failed. Refused under a named guarantee where the
    /// stage has no dead letters, for it may discard.
    ///
    /// - *emits when* the stage has a value;
    /// - *back-pressures when* the stage does, or the queue of dead letters is full;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does, and when the closure said [`OnError::Stop`];
    /// - *settles when* an element failed: as the closure said;
    /// - *holds* what the stage holds, and a chunk with dead letters;
    /// - *costs* a call for each failure.
    ///
    /// # Example
    /// ```
    /// use forebay::flow::OnError;
    /// use forebay::source;
    ///
    /// let numbers = source::iter(["1", "", "3"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .on_error(|error, _tries| match error.kind() {
    ///         std::num::IntErrorKind::Empty => OnError::Discard,
    ///         _ => OnError::Stop,
    ///     })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers, [1, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn on_error(mut self, f: impl FnMut(&E, u32) -> OnError + Send + 'static) -> Flow<U>
    where
        E: Display + Into<BoxError>,
    {
        if self.letters.is_none() {
            self.spec = self
                .spec
                .loses("may discard what failed: name `.dead_letters(..)`");
        }
        let telling = Telling {
            stop: Telling::error().stop,
            ..Telling::words()
        };
        self.end_by(Box::new(f), OnError::Fail, telling)
    }

    /// Hands failures on as values. With [`retry`](Fallible::retry), the last error.
    ///
    /// - *emits when* the stage has a value or an error;
    /// - *back-pressures when* the stage does;
    /// - *completes when* upstream does and no element is inside;
    /// - *cancels when* downstream does;
    /// - *settles when* the closure panicked: failed; an error goes on and settles nothing;
    /// - *holds* what the stage holds;
    /// - *costs* nothing more.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let results = source::iter(["1", "two"])
    ///     .try_map(|text| text.parse::<u32>())
    ///     .results()
    ///     .map(|result| result.map_err(|error| error.to_string()))
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(results, [Ok(1), Err("invalid digit found in string".to_owned())]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn results(mut self) -> Flow<Result<U, E>> {
        let options = self
            .options(Box::new(|_, _| OnError::Retry), OnError::Fail)
            .0;
        let (make, problem) = (self.make, self.problem);
        let flow = self
            .flow
            .then(self.spec, |input| Results::new(make(input, options)));
        flow.refused_for(problem)
    }

    fn end(self, last: OnError, telling: Telling<E>) -> Flow<U> {
        // With a policy, it alone decides until it gives up.
        let first = if self.retry.is_some() {
            OnError::Retry
        } else {
            last
        };
        self.end_by(Box::new(move |_, _| first), last, telling)
    }

    /// Options for the attempts; the decision goes with them where they try again.
    fn options(&mut self, decide: Decide<E>, last: OnError) -> (Options<T, E>, Option<Decide<E>>) {
        let (encode, timeout) = (self.encode.take(), self.timeout.take());
        match self.retry {
            Some((retry, copy)) => {
                let again = Again {
                    retry,
                    copy,
                    decide,
                    last,
                };
                (
                    Options {
                        unordered: self.unordered,
                        encode,
                        timeout,
                        retry: Some(again),
                    },
                    None,
                )
            }
            None => (
                Options {
                    unordered: self.unordered,
                    encode,
                    timeout,
                    retry: None,
                },
                Some(decide),
            ),
        }
    }

    fn end_by(mut self, decide: Decide<E>, last: OnError, mut telling: Telling<E>) -> Flow<U> {
        telling.class = self.class.take();
        let mut spec = self.spec.clone();
        if self.letters.is_some() {
            spec = spec.holds_more(crate::chunk::Chunk::<U>::MAX);
            spec.needs_origin = self.encode.is_none();
        }
        if let Some((retry, _)) = &self.retry {
            spec = spec.note_more(&retry.to_string());
        }
        let (options, decide) = self.options(decide, last);
        let decide = decide.unwrap_or_else(|| Box::new(move |_, _| last));
        let Fallible {
            flow,
            make,
            letters,
            problem,
            ..
        } = self;
        let stage = flow.plan.add(spec, &[&flow.stage], false);
        let port = letters.map(|letters| letters.connect(&flow.plan, &stage));
        let attempts = make(Input::new(flow.operator, flow.stage), options);
        let operator = Box::new(Ends::new(attempts, telling, decide, port));
        Flow::from_parts(operator, stage, flow.plan).refused_for(problem)
    }
}

impl<U: Send + 'static> Flow<U> {
    fn refused_for(self, problem: Option<String>) -> Flow<U> {
        match problem {
            Some(problem) => self.refused(problem),
            None => self,
        }
    }

    /// Declares that this stage gives its elements their [`Origin`](crate::chunk::Origin): the
    /// original bytes, and where they stood. Dead letters rely on it.
    pub fn keeps_origin(self) -> Flow<U> {
        self.plan.amend(&self.stage, |spec| spec.origin = true);
        self
    }
}
