//! Where failures go.

use std::fmt::Display;

use super::Fallible;
use crate::error::BoxError;
use crate::flow::{DeadLetters, Flow};
use crate::operator::Input;
use crate::operator::fallible::{Decide, Ends, OnError, Results, Telling};
use crate::operator::retry::{Again, Options};

impl<T, U, E> Fallible<T, U, E>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
{
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
