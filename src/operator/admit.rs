//! `admit`: where elements are let in, or shed because more is offered than can be served.

use super::in_place::in_place;
use super::{Input, Operator};
use crate::class::Class;
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
        // Neighbours may be of different classes: each class is told of once.
        let classes = (0..Class::COUNT as u8).filter_map(Class::new);
        for (class, (count, _)) in classes.zip(chunk.columns.by_class()) {
            if count > 0 {
                admission.offer(class, count);
            }
        }
        admission.tick(cx.now());
        cx.ledger().alert(admission.alerts());
        if admission.admits_all() {
            return;
        }
        let decide = |(class, count): (Option<Class>, usize)| {
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
