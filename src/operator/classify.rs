//! `classify`: a class for each element, in its column and in the account of its source.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::class::Class;
use crate::outcome::{Outcome, Reason};

pub(crate) fn classify<T, F>(input: Input<T>, mut f: F) -> impl Operator<T> + use<T, F>
where
    T: Send,
    F: FnMut(&T) -> Class + Send,
{
    let mut classes = Vec::new();
    in_place(input, move |cx, sieve, chunk| {
        classes.clear();
        sieve.run(&mut chunk.values, |value| {
            classes.push(f(value));
            true
        });
        sieve.settle(cx, chunk, Outcome::Failed(Reason::Panicked));
        chunk.columns.classify(&classes);
    })
}
