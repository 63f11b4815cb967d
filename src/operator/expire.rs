//! `expire`: where elements leave whose deadline has passed.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::outcome::Outcome;

pub(crate) fn expire<T: Send>(input: Input<T>) -> impl Operator<T> + use<T> {
    in_place(input, |cx, sieve, chunk| {
        if chunk.columns.has_deadlines() {
            let now = cx.clock();
            let runs = chunk.columns.deadlines();
            sieve.select(chunk.len(), runs.map(|(at, count)| (at > now, count)));
            sieve.settle(cx, chunk, Outcome::Expired);
        }
    })
}
