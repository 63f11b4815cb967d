//! What may fail: attempts, and the ends of those that failed.
//!
//! A fallible stage is two parts in one: the *attempts*, which run the user's code (a [`Map`], or a
//! [`MapAsync`] whose futures try again), and the *ends*, which hand on what succeeded and give each
//! failure its destination. Both are charged to the same stage.
//!
//! [`Map`]: super::map::Map
//! [`MapAsync`]: super::map_async::MapAsync

use std::fmt::Display;
use std::task::Poll;

use bytes::Bytes;

use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Operator, guard};
use crate::chunk::{Chunk, Element, Meta, Queue};
use crate::dead_letter::{Again, DeadLetter, Offer, Port};
use crate::error::{BoxError, Stop};
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};

/// What becomes of an element that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// It is tried again, as the stage's `Retry` says; when that gives up, or there is none, it ends
    /// as failed.
    Retry,
    /// It goes to the stage's dead letters; it ends as failed where the stage has none.
    DeadLetter,
    /// As `DeadLetter`, but to be tried again later by a sink that does so, such as retry topics of
    /// Kafka. Any other sink keeps it as a letter.
    Later,
    /// As `Later`, but it was not tried: one before it that shares its key is to be tried again first.
    Behind,
    /// It is knowingly given up: shed (discarded).
    Discard,
    /// It ends as failed; its source answers.
    Fail,
    /// It ends as failed, and the run stops with its error.
    Stop,
}

/// Names the class of an error.
pub(crate) type Classify<E> = Box<dyn Fn(&E) -> &'static str + Send>;

/// Decides about an error after so many tries.
pub(crate) type Decide<E> = Box<dyn FnMut(&E, u32) -> OnError + Send>;

/// A value, or why there is none. Boxed, so that a value that succeeded is moved alone.
pub(crate) type Attempt<U, E> = Result<U, Box<Failure<E>>>;

/// A failure that will not be tried again.
#[derive(Debug)]
pub(crate) struct Failure<E> {
    pub(crate) error: E,
    pub(crate) reason: Reason,
    pub(crate) tries: u32,
    pub(crate) payload: Option<Bytes>,
    /// What was decided, where the decision fell with the attempt.
    pub(crate) decided: Option<OnError>,
}

impl<E> Failure<E> {
    /// A first try that failed.
    pub(crate) fn first(error: E, reason: Reason, payload: Option<Bytes>) -> Failure<E> {
        Failure {
            error,
            reason,
            tries: 1,
            payload,
            decided: None,
        }
    }
}

/// How an error is told: in words, and as what stops a run.
pub(crate) struct Telling<E> {
    pub(crate) words: fn(&E) -> String,
    /// What the class of an error is called, where that is not its type.
    pub(crate) class: Option<Classify<E>>,
    pub(crate) stop: fn(E) -> Stop,
}

impl<E> Telling<E> {
    /// Not at all: no letter is written, and nothing stops.
    pub(crate) fn nothing() -> Telling<E> {
        Telling {
            words: |_| String::new(),
            class: None,
            stop: |_| Stop::error("an element failed"),
        }
    }
}

impl<E: Display + 'static> Telling<E> {
    /// In words alone.
    pub(crate) fn words() -> Telling<E> {
        Telling {
            words: |error| error.to_string(),
            class: None,
            stop: |error| Stop::error(error.to_string()),
        }
    }
}

impl<E: Into<BoxError> + 'static> Telling<E> {
    /// As an error alone.
    pub(crate) fn error() -> Telling<E> {
        Telling {
            words: |_| String::new(),
            class: None,
            stop: |error| Stop::error(error),
        }
    }
}

pub(crate) struct Ends<U, E> {
    attempts: Box<dyn Operator<Attempt<U, E>>>,
    telling: Telling<E>,
    /// What is decided where the attempt decided nothing.
    decide: Decide<E>,
    letters: Option<Port>,
    fetched: Chunk<Attempt<U, E>>,
    /// Fetched and neither handed on nor ended, because a letter before it waits or nothing more
    /// was asked for.
    queue: Queue<Attempt<U, E>>,
    /// A letter that waits for room.
    letter: Option<Element<DeadLetter>>,
    /// What the attempts came to after what is in the queue.
    next: Option<Result<Fill, Stop>>,
    /// The element that stops the run, with its error and its end.
    stop: Option<(Stop, Outcome, Meta)>,
}

impl<U, E> Ends<U, E> {
    pub(crate) fn new(
        attempts: Box<dyn Operator<Attempt<U, E>>>,
        telling: Telling<E>,
        decide: Decide<E>,
        letters: Option<Port>,
    ) -> Ends<U, E> {
        Ends {
            attempts,
            telling,
            decide,
            letters,
            fetched: Chunk::default(),
            queue: Queue::default(),
            letter: None,
            next: None,
            stop: None,
        }
    }

    /// Gives a failed element its end.
    fn end(&mut self, cx: &mut Context<'_, '_>, failure: Failure<E>, meta: Meta) {
        let decided = match failure.decided {
            Some(decided) => Ok(decided),
            None => guard(|| (self.decide)(&failure.error, failure.tries)),
        };
        let failed = Outcome::Failed(failure.reason);
        match decided {
            Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
            Ok(OnError::Retry) => cx.settle(meta, Outcome::Failed(Reason::RetriesExhausted)),
            Ok(OnError::Fail) => cx.settle(meta, failed),
            Ok(OnError::Discard) => cx.settle(meta, Outcome::Shed(Reason::Discarded)),
            Ok(OnError::Stop) => {
                let stop = self.telling.stop;
                let stop = match guard(|| stop(failure.error)) {
                    Ok(stop) => stop,
                    Err(message) => Stop::error(message),
                };
                self.stop = Some((stop, failed, meta));
            }
            Ok(OnError::DeadLetter | OnError::Later | OnError::Behind)
                if self.letters.is_none() =>
            {
                cx.settle(meta, Outcome::Failed(Reason::DeadLetterFailed));
            }
            Ok(again @ (OnError::DeadLetter | OnError::Later | OnError::Behind)) => {
                let words = self.telling.words;
                let error = guard(|| words(&failure.error))
                    .unwrap_or_else(|message| format!("an error that cannot be told: {message}"));
                let class = self.telling.class.as_ref();
                let class = class.and_then(|class| guard(|| class(&failure.error)).ok());
                let value = DeadLetter {
                    stage: cx.stage_name(),
                    again: match again {
                        OnError::Later => Again::Later,
                        OnError::Behind => Again::Behind,
                        _ => Again::Never,
                    },
                    class: meta.class,
                    origin: meta.origin.clone(),
                    payload: failure.payload,
                    error,
                    error_type: class.unwrap_or(std::any::type_name::<E>()),
                    reason: failure.reason,
                    tries: failure.tries,
                    at: cx.now(),
                };
                self.letter = Some(Element { value, meta });
            }
        }
    }

    /// Sends the letter that waits. False while there is no room for it.
    fn send(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let (Some(letter), Some(port)) = (self.letter.take(), &mut self.letters) else {
            return true;
        };
        match port.offer(cx, letter) {
            Offer::Sent => true,
            Offer::Full(letter) => {
                self.letter = Some(letter);
                false
            }
            Offer::Refused(letter) => {
                let outcome = cx.leftover();
                cx.settle(letter.meta, outcome);
                true
            }
        }
    }

    /// Takes from the front of the queue what can go, up to the demand.
    fn dispose(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>, want: Demand) {
        while self.stop.is_none() && self.send(cx) {
            if out.len() >= want.items && matches!(self.queue.front(), Some(Ok(_))) {
                return;
            }
            match self.queue.pop() {
                None => return,
                Some(Element {
                    value: Ok(value),
                    meta,
                }) => out.push(Element { value, meta }),
                Some(Element {
                    value: Err(failure),
                    meta,
                }) => self.end(cx, *failure, meta),
            }
        }
    }

    /// Takes in what was fetched; straight into `out` if nothing failed and nothing waits.
    fn take_in(&mut self, out: &mut Chunk<U>) {
        let plain = self.queue.is_empty() && self.letter.is_none();
        if plain && self.fetched.values.iter().all(Result::is_ok) {
            out.values.extend(self.fetched.values.drain(..).flatten());
            out.columns.append(&mut self.fetched.columns);
        } else {
            self.queue.append(&mut self.fetched);
        }
    }

    /// Tells what comes after everything that was taken in. `out` must be told first.
    fn tell(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &Chunk<U>,
        next: Result<Fill, Stop>,
    ) -> Result<Fill, Stop> {
        let waits = match (&next, &self.letters) {
            (Ok(Fill::Mark(Mark::Barrier(_))), Some(port)) if out.is_empty() => {
                port.poll_settled(cx) == Poll::Pending
            }
            (Ok(Fill::Done), _) => false,
            _ => !out.is_empty(),
        };
        if waits {
            self.next = Some(next);
            return Ok(if out.is_empty() {
                Fill::Pending
            } else {
                Fill::More
            });
        }
        if matches!(next, Ok(Fill::Done) | Err(_)) {
            self.close();
        }
        next
    }

    fn close(&mut self) {
        if let Some(port) = &mut self.letters {
            port.close();
        }
    }
}

impl<U: Send, E: Send> Operator<U> for Ends<U, E> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            self.dispose(cx, out, want);
            if self.stop.is_some() && !out.is_empty() {
                return Ok(Fill::More);
            }
            if let Some((stop, outcome, meta)) = self.stop.take() {
                // Not before: its source answers when it hears, and would end this stage untold.
                cx.settle(meta, outcome);
                self.close();
                return Err(stop);
            }
            if self.letter.is_some() || !self.queue.is_empty() {
                if !out.is_empty() {
                    return Ok(Fill::More);
                }
                // Something waits for room or demand: what runs meanwhile goes on.
                if self.next.is_none() {
                    match self.attempts.fill(cx, &mut self.fetched, Demand::NONE) {
                        Ok(Fill::Pending) => {}
                        next => self.next = Some(next),
                    }
                }
                return Ok(Fill::Pending);
            }
            if let Some(next) = self.next.take() {
                return self.tell(cx, out, next);
            }
            if !out.is_empty() && out.len() >= want.items {
                // To ask for nothing would register no waker.
                return Ok(Fill::More);
            }
            let left = want.at_most(want.items - out.len());
            let next = self.attempts.fill(cx, &mut self.fetched, left);
            self.take_in(out);
            match next {
                Ok(Fill::More) if !out.is_empty() && self.queue.is_empty() => {
                    return Ok(Fill::More);
                }
                Ok(Fill::Pending) if self.queue.is_empty() => return Ok(Fill::Pending),
                Ok(Fill::More | Fill::Pending) => {}
                next => self.next = Some(next),
            }
            if out.is_empty() && patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.queue.take_all(), outcome);
            if let Some(letter) = self.letter.take() {
                cx.settle(letter.meta, outcome);
            }
            if let Some((_, failed, meta)) = self.stop.take() {
                cx.settle(meta, failed);
            }
            self.next = None;
            self.close();
        }
        self.attempts.control(cx, signal);
    }

    fn held(&self) -> Held {
        let mut held = self.attempts.held();
        let waiting = usize::from(self.letter.is_some()) + usize::from(self.stop.is_some());
        held.items += self.queue.len() + waiting;
        held.bytes += self.queue.bytes();
        held
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.close();
        self.attempts.poll_close(cx)
    }
}

/// Hands failures on as values.
pub(crate) struct Results<U, E> {
    attempts: Box<dyn Operator<Attempt<U, E>>>,
    fetched: Chunk<Attempt<U, E>>,
}

impl<U, E> Results<U, E> {
    pub(crate) fn new(attempts: Box<dyn Operator<Attempt<U, E>>>) -> Results<U, E> {
        Results {
            attempts,
            fetched: Chunk::default(),
        }
    }
}

impl<U: Send, E: Send> Operator<Result<U, E>> for Results<U, E> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Result<U, E>>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.attempts.fill(cx, &mut self.fetched, want);
        let values = self.fetched.values.drain(..);
        out.values
            .extend(values.map(|attempt| attempt.map_err(|failure| failure.error)));
        out.columns.append(&mut self.fetched.columns);
        fill
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.attempts.control(cx, signal);
    }

    fn held(&self) -> Held {
        self.attempts.held()
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.attempts.poll_close(cx)
    }
}
