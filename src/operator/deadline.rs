//! `deadline` and `deadline_by`: until when an element is worth anything.

use std::time::Duration;

use super::in_place::in_place;
use super::{Input, Operator};
use crate::outcome::{Outcome, Reason};

/// The same span for all, which needs no user code.
pub(crate) fn deadline<T: Send>(input: Input<T>, span: Duration) -> impl Operator<T> + use<T> {
    in_place(input, move |cx, _, chunk| {
        let all = (Some(span), chunk.len());
        chunk.columns.limit(cx.now(), std::iter::once(all));
    })
}

/// A span for each.
pub(crate) fn deadline_by<T, F>(input: Input<T>, mut f: F) -> impl Operator<T> + use<T, F>
where
    T: Send,
    F: FnMut(&T) -> Option<Duration> + Send,
{
    let mut spans = Vec::new();
    in_place(input, move |cx, sieve, chunk| {
        spans.clear();
        sieve.run(&mut chunk.values, |value| {
            spans.push((f(value), 1));
            true
        });
        sieve.settle(cx, chunk, Outcome::Failed(Reason::Panicked));
        chunk.columns.limit(cx.now(), spans.iter().copied());
    })
}
