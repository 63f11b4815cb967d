//! Stages that may fail, and the destinations of their failures.

mod ends;
mod stages;
mod tries;

use std::fmt;

use super::{DeadLetters, Flow};
use crate::control::Retry;
use crate::operator::fallible::{Attempt, Classify};
use crate::operator::retry::{Encode, Options, Patience};
use crate::operator::{Input, Operator};
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
