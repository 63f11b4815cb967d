//! `admit`: where elements are let in, or shed because more is offered than can be served.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::control::{AdmissionHandle, Gate};
use crate::outcome::{Outcome, Reason};

pub(crate) fn admit<T: Send>(
    input: Input<T>,
    admission: AdmissionHandle,
) -> impl Operator<T> + use<T> {
    // Spreads the offers of a class: neighbours fare differently.
    let mut number = 0_u64;
    in_place(input, move |cx, sieve, chunk| {
        if chunk.is_empty() {
            return;
        }
        for (class, count) in chunk.columns.classes() {
            admission.offer(class.unwrap_or_default(), count);
        }
        admission.tick(cx.now());
        cx.ledger().alert(admission.alerts());
        if admission.admits_all() {
            return;
        }
        let decide = |(class, count): (Option<crate::class::Class>, usize)| {
            (0..count).map(move |_| class.unwrap_or_default())
        };
        let decisions = chunk.columns.classes().flat_map(decide).map(|class| {
            number = number.wrapping_add(1);
            (admission.admits(class, Gate::dither(number)), 1)
        });
        sieve.select(chunk.len(), decisions);
        sieve.settle(cx, chunk, Outcome::Shed(Reason::Overload));
    })
}
