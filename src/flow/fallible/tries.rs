//! How often and how long an element is tried, and what is kept of it.

use std::time::Duration;

use bytes::Bytes;

use super::Fallible;
use crate::control::Retry;
use crate::flow::DeadLetters;
use crate::operator::retry::{Patience, Wanted};
use crate::time::TimedOut;

impl<T, U, E> Fallible<T, U, E>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
{
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

    /// Waits for each try of a [`try_map_async`](crate::flow::Flow::try_map_async) at most that long, from when it
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

    /// Gives up a try of a [`try_map_async`](crate::flow::Flow::try_map_async) when its answer is of no use any more:
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

    /// Names the destination of [`OnError::DeadLetter`](crate::flow::OnError::DeadLetter) for [`on_error`](Fallible::on_error).
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
}
