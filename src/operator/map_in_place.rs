//! `map_in_place` and `inspect`: values that stay where they are.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::outcome::{Outcome, Reason};

pub(crate) fn map_in_place<T, F>(input: Input<T>, mut f: F) -> impl Operator<T> + use<T, F>
where
    T: Send,
    F: FnMut(&mut T) + Send,
{
    in_place(input, move |cx, sieve, chunk| {
        sieve.run(&mut chunk.values, |value| {
            f(value);
            true
        });
        sieve.settle(cx, chunk, Outcome::Failed(Reason::Panicked));
    })
}
