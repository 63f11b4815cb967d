//! `filter`: the elements a predicate holds for.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::outcome::{Outcome, Reason};

pub(crate) fn filter<T, F>(input: Input<T>, mut f: F) -> impl Operator<T> + use<T, F>
where
    T: Send,
    F: FnMut(&T) -> bool + Send,
{
    in_place(input, move |cx, sieve, chunk| {
        sieve.run(&mut chunk.values, |value| f(value));
        sieve.settle(cx, chunk, Outcome::Filtered(Reason::Predicate));
    })
}
