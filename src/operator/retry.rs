//! Attempts: the operators that run user code which may fail, and the future that tries again.
//!
//! Trying again happens inside the element's future, so that order, window, cancellation and rewind
//! are those of `map_async`. An element that waits for its next try stays in the window and leaves
//! its place among the running ones to others.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::calls::{Begun, Tallied, Tally};
use super::fallible::{Attempt, Decide, Failure, OnError};
use super::map::Map;
use super::map_async::{Concurrency, MapAsync};
use super::unordered::Unordered;
use super::{Input, Operator};
use crate::control::{Next, Retry, Retrying};
use crate::outcome::Reason;
use crate::time::{self, TimedOut};

/// Makes bytes of an element.
pub(crate) type Encode<T> = Box<dyn FnMut(&T) -> Bytes + Send>;

/// How attempts are made.
pub(crate) struct Options<T, E> {
    /// Results leave as they come.
    pub(crate) unordered: bool,
    pub(crate) encode: Option<Encode<T>>,
    pub(crate) timeout: Option<Patience<T, E>>,
    pub(crate) retry: Option<Again<T, E>>,
}

/// How to try again.
pub(crate) struct Again<T, E> {
    pub(crate) retry: Retry,
    pub(crate) copy: fn(&T) -> T,
    pub(crate) decide: Decide<E>,
    /// What becomes of an element that is not tried again.
    pub(crate) last: OnError,
}

/// How long a try may take, and what error it makes if it takes longer.
pub(crate) struct Timeout<E> {
    pub(crate) span: Duration,
    pub(crate) error: fn(TimedOut) -> E,
    /// Nobody waits for it any more, which says nothing of where it went.
    given_up: bool,
}

impl<E> Clone for Timeout<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Timeout<E> {}

/// How long the tries of an element may take.
pub(crate) struct Patience<T, E> {
    pub(crate) span: Option<Duration>,
    pub(crate) wanted: Option<Wanted<T>>,
    pub(crate) error: fn(TimedOut) -> E,
}

/// For how long the answer to an element is of use.
pub(crate) type Wanted<T> = Box<dyn Fn(&T) -> Option<Duration> + Send + Sync>;

impl<T, E> Patience<T, E> {
    /// That of the next try of this element.
    fn of(&self, value: &T) -> Option<Timeout<E>> {
        let wanted = self.wanted.as_ref().and_then(|wanted| wanted(value));
        let given_up = wanted.is_some_and(|wanted| self.span.is_none_or(|span| wanted < span));
        Some(Timeout {
            span: if given_up { wanted } else { self.span }?,
            error: self.error,
            given_up,
        })
    }
}

async fn within<U, E>(
    timeout: Option<Timeout<E>>,
    mut begun: Option<Begun>,
    future: impl Future<Output = Result<U, E>>,
) -> Result<U, (E, Reason)> {
    let call = async {
        match &mut begun {
            Some(begun) => begun.during(future).await,
            None => future.await,
        }
    };
    let result = match timeout {
        None => call.await,
        Some(Timeout {
            span,
            error,
            given_up,
        }) => match time::timeout(span, call).await {
            Ok(result) => result,
            Err(timed_out) => {
                if !given_up {
                    begun.into_iter().for_each(Begun::time_out);
                }
                return Err((error(timed_out), Reason::TimedOut));
            }
        },
    };
    if let Some(begun) = begun {
        begun.end(&result);
    }
    result.map_err(|error| (error, Reason::Error))
}

/// What the tries of a stage share.
struct Tries<T, E, C> {
    state: Mutex<State<T, E, C>>,
    timeout: Option<Patience<T, E>>,
    /// The places among the running, where fewer may run than be inside.
    places: Option<Semaphore>,
    /// Who is told of each try.
    tally: Option<Tally>,
}

struct State<T, E, C> {
    call: C,
    policy: Option<Retrying>,
    again: Again<T, E>,
    encode: Option<Encode<T>>,
}

impl<T, E, C> Tries<T, E, C> {
    /// A place among the running, if those are fewer than may be inside. Who has to wait for it gives
    /// the permit back that it came with.
    async fn running(&self, permitted: &mut bool) -> Option<SemaphorePermit<'_>> {
        let places = self.places.as_ref()?;
        if let Ok(place) = places.try_acquire() {
            return Some(place);
        }
        if let Some(tally) = self.tally.as_ref().filter(|_| std::mem::take(permitted)) {
            tally.return_permit();
        }
        places.acquire().await.ok()
    }

    fn with<R>(&self, f: impl FnOnce(&mut State<T, E, C>) -> R) -> R {
        match self.state.lock() {
            Ok(mut state) => f(&mut state),
            // A closure of the user panicked; its element failed, and the others go on.
            Err(poisoned) => f(&mut poisoned.into_inner()),
        }
    }
}

impl<T, E, C> State<T, E, C> {
    fn policy(&mut self) -> &mut Retrying {
        let Again { retry, .. } = &self.again;
        self.policy
            .get_or_insert_with(|| Retrying::new(retry, time::now()))
    }

    /// When to try again, or that it is over.
    fn judge(
        &mut self,
        value: &T,
        (error, reason): (E, Reason),
        tries: u32,
    ) -> Result<time::Time, Box<Failure<E>>> {
        let mut decided = (self.again.decide)(&error, tries);
        let mut reason = reason;
        if decided == OnError::Retry {
            match self.policy().on_failure(time::now(), tries) {
                Next::At(at) => return Ok(at),
                Next::GiveUp => {
                    decided = self.again.last;
                    reason = Reason::RetriesExhausted;
                }
            }
        }
        let payload = self.encode.as_mut().map(|encode| encode(value));
        Err(Box::new(Failure {
            error,
            reason,
            tries,
            payload,
            decided: Some(decided),
        }))
    }
}

async fn tried<T, U, E, C, Fut>(tries: Arc<Tries<T, E, C>>, value: T) -> Attempt<U, E>
where
    C: FnMut(&T) -> Fut,
    Fut: Future<Output = Result<U, E>>,
{
    tries.with(|state| state.policy().on_call());
    let mut count = 0;
    let tally = tries.tally.as_ref();
    let _place = tally.map(Tally::place);
    let mut permitted = true;
    loop {
        let result = {
            let _running = tries.running(&mut permitted).await;
            // While it waits, for others or for its next try, it is no call in flight.
            let begun = match tally {
                Some(tally) if std::mem::take(&mut permitted) => Some(tally.begin_in_place()),
                Some(tally) => Some(tally.begin_again().await),
                None => None,
            };
            let timeout = tries
                .timeout
                .as_ref()
                .and_then(|timeout| timeout.of(&value));
            let future = tries.with(|state| (state.call)(&value));
            within(timeout, begun, future).await
        };
        count += 1;
        let failed = match result {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        let at = tries.with(|state| state.judge(&value, failed, count))?;
        time::sleep_until(at).await;
    }
}

/// By what elements of a stage wait for each other: none where all leave in order, or as they come.
pub(crate) type KeyOf<T, K> = Box<dyn FnMut(&T) -> Option<K> + Send>;

/// Runs the tries of each element; results leave in order, or as they come, those of a key in order.
fn calls<T, U, K, F, Fut>(
    input: Input<T>,
    concurrency: Concurrency,
    unordered: bool,
    key: Option<KeyOf<T, K>>,
    tally: Option<Tally>,
    f: F,
) -> Box<dyn Operator<U>>
where
    T: Send + 'static,
    U: Send + 'static,
    K: Ord + Clone + Send + 'static,
    F: FnMut(T) -> Fut + Send + 'static,
    Fut: Future<Output = U> + Send + 'static,
{
    let unordered = unordered || key.is_some();
    let key: KeyOf<T, K> = key.unwrap_or_else(|| Box::new(|_| None));
    match (unordered, tally) {
        (false, None) => Box::new(MapAsync::new(input, concurrency, f)),
        (false, Some(tally)) => Box::new(Tallied::new(MapAsync::new(input, concurrency, f), tally)),
        (true, None) => Box::new(Unordered::new(input, concurrency, key, f)),
        (true, Some(tally)) => {
            let stage = Unordered::new(input, concurrency, key, f).on_terms(&tally);
            Box::new(Tallied::new(stage, tally))
        }
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "called twice, with what was declared"
)]
fn trying<T, U, E, K, C, Fut>(
    input: Input<T>,
    concurrency: Concurrency,
    unordered: bool,
    key: Option<KeyOf<T, K>>,
    call: C,
    again: Again<T, E>,
    encode: Option<Encode<T>>,
    timeout: Option<Patience<T, E>>,
    tally: Option<Tally>,
) -> Box<dyn Operator<Attempt<U, E>>>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
    K: Ord + Clone + Send + 'static,
    C: FnMut(&T) -> Fut + Send + 'static,
    Fut: Future<Output = Result<U, E>> + Send + 'static,
{
    let Concurrency { limit, window } = concurrency;
    let state = State {
        call,
        policy: None,
        again,
        encode,
    };
    let tries = Arc::new(Tries {
        state: Mutex::new(state),
        timeout,
        places: (limit < window).then(|| Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
        tally: tally.clone(),
    });
    let inside = Concurrency::limit(window);
    calls(input, inside, unordered, key, tally, move |value| {
        tried(Arc::clone(&tries), value)
    })
}

/// Attempts that are made at once.
pub(crate) fn attempts<T, U, E, F>(
    input: Input<T>,
    mut f: F,
    options: Options<T, E>,
) -> Box<dyn Operator<Attempt<U, E>>>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
    F: FnMut(&T) -> Result<U, E> + Send + 'static,
{
    let Options {
        mut encode, retry, ..
    } = options;
    if let Some(again) = retry {
        let call = move |value: &T| ready(f(value));
        return trying(
            input,
            Concurrency::limit(1),
            false,
            None::<KeyOf<T, ()>>,
            call,
            again,
            encode,
            None,
            None,
        );
    }
    Box::new(Map::new(input, move |value: T| {
        f(&value).map_err(|error| {
            let payload = encode.as_mut().map(|encode| encode(&value));
            Box::new(Failure::first(error, Reason::Error, payload))
        })
    }))
}

/// Attempts that take time.
pub(crate) fn attempts_async<T, U, E, K, F, Fut>(
    input: Input<T>,
    concurrency: Concurrency,
    key: Option<KeyOf<T, K>>,
    tally: Option<Tally>,
    mut f: F,
    options: Options<T, E>,
) -> Box<dyn Operator<Attempt<U, E>>>
where
    T: Send + 'static,
    U: Send + 'static,
    E: Send + 'static,
    K: Ord + Clone + Send + 'static,
    F: FnMut(T) -> Fut + Send + 'static,
    Fut: Future<Output = Result<U, E>> + Send + 'static,
{
    let Options {
        unordered,
        mut encode,
        timeout,
        retry,
    } = options;
    if let Some(again) = retry {
        let copy = again.copy;
        let call = move |value: &T| f(copy(value));
        return trying(
            input,
            concurrency,
            unordered,
            key,
            call,
            again,
            encode,
            timeout,
            tally,
        );
    }
    let shared = tally.clone();
    calls(
        input,
        concurrency,
        unordered,
        key,
        shared,
        move |value: T| {
            let begun = tally.as_ref().map(Tally::begin);
            let payload = encode.as_mut().map(|encode| encode(&value));
            let timeout = timeout.as_ref().and_then(|timeout| timeout.of(&value));
            let future = f(value);
            async move {
                let result = within(timeout, begun, future).await;
                result.map_err(|(error, reason)| Box::new(Failure::first(error, reason, payload)))
            }
        },
    )
}
