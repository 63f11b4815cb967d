//! Sixty-four elements: what is settled, how, and of which class.

use std::sync::Arc;

use super::signal::{NO_STAGE, Signal, Unresolved};
use super::{Epoch, Generation};
use crate::class::Class;
use crate::outcome::{Kind, Outcome};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The code of an element that a resumed run did not hand over again.
pub(super) const RESUMED: u8 = 7;

/// Outcomes are stored as three bits, and the most frequent one as zero: a delivery costs a single
/// atomic `or` for a whole run of elements.
const fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Delivered => 0,
        Kind::Filtered => 1,
        other => other as u8,
    }
}

pub(super) const fn kind_of(code: u8) -> Option<Kind> {
    match code {
        0 => Some(Kind::Delivered),
        1 => Some(Kind::Filtered),
        2 => Some(Kind::DeadLettered),
        3 => Some(Kind::Shed),
        4 => Some(Kind::Expired),
        5 => Some(Kind::Cancelled),
        6 => Some(Kind::Failed),
        _ => None,
    }
}

pub(crate) struct Page {
    pub(super) base: u64,
    pub(super) generation: Generation,
    pub(super) epoch: Epoch,
    /// The elements that are settled.
    done: AtomicU64,
    /// How: bit k of an element's code is its bit in mask k. Written before `done`.
    codes: [AtomicU64; 3],
    /// The elements that have a class, and the three bits of it.
    classified: AtomicU64,
    classes: [AtomicU64; 3],
    /// A page of an older generation: settlements change nothing.
    inert: AtomicBool,
    pub(super) signal: Arc<Signal>,
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Which of 64 elements have that 3-bit number in the three masks.
const fn select(masks: [u64; 3], number: u8) -> u64 {
    let mut found = u64::MAX;
    let mut bit = 0;
    while bit < 3 {
        found &= if number & (1 << bit) != 0 {
            masks[bit]
        } else {
            !masks[bit]
        };
        bit += 1;
    }
    found
}

impl Page {
    pub(super) fn new(
        base: u64,
        generation: Generation,
        epoch: Epoch,
        signal: Arc<Signal>,
    ) -> Page {
        Page {
            base,
            generation,
            epoch,
            done: AtomicU64::new(0),
            codes: zeros(),
            classified: AtomicU64::new(0),
            classes: zeros(),
            inert: AtomicBool::new(false),
            signal,
        }
    }

    /// Makes a retired page new. `&mut` proves that no receipt points here.
    pub(super) fn reuse(&mut self, base: u64, generation: Generation, epoch: Epoch) {
        let signal = Arc::clone(&self.signal);
        *self = Page::new(base, generation, epoch, signal);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.inert.load(Ordering::Acquire)
    }

    /// Settles the elements of the mask.
    pub(crate) fn settle(&self, mask: u64, outcome: Outcome, stage: u32) {
        let code = code(outcome.kind());
        let doubled = self.set(mask, code);
        if doubled != 0 {
            if self.is_live() {
                self.signal.double(doubled.count_ones());
            }
            return;
        }
        if self.signal.passes.reports(outcome.kind()) {
            self.signal.report(bits(mask).map(|bit| Unresolved {
                sequence: self.base + u64::from(bit),
                generation: self.generation,
                outcome,
                stage: (stage != NO_STAGE).then_some(stage),
            }));
        }
        self.signal.progress();
    }

    /// Notes that receipts of this page were dropped unsettled while that stage ran. What a source
    /// that went back since had handed out before is nobody's any more.
    pub(crate) fn abandoned(&self, count: u64, stage: u32) {
        if self.is_live() {
            self.signal.abandon(count, stage);
        }
    }

    /// Records the code and then the settlement; returns the bits that were settled before.
    fn set(&self, mask: u64, code: u8) -> u64 {
        let settled = self.done.load(Ordering::Relaxed) & mask;
        if settled != 0 {
            // A code must not be touched once its bit is set. (Two settlements that race for the
            // same bit may still mix their codes; `done` below counts the loser.)
            return settled;
        }
        for (bit, masks) in self.codes.iter().enumerate() {
            if code & (1 << bit) != 0 {
                masks.fetch_or(mask, Ordering::Relaxed);
            }
        }
        // Release: whoever sees the bits sees their codes, and what the settler did before.
        self.done.fetch_or(mask, Ordering::AcqRel) & mask
    }

    /// Marks elements that a resumed run skips.
    pub(super) fn skip(&self, mask: u64) {
        self.set(mask, RESUMED);
    }

    /// Gives the class to the elements of the mask that have none yet.
    pub(crate) fn classify(&self, mask: u64, class: Class) {
        let first = mask & !self.classified.load(Ordering::Relaxed);
        if first == 0 {
            return;
        }
        for (bit, masks) in self.classes.iter().enumerate() {
            if class.index() & (1 << bit) != 0 {
                masks.fetch_or(first, Ordering::Relaxed);
            }
        }
        self.classified.fetch_or(first, Ordering::Release);
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// The settled elements that the settled position may pass.
    pub(super) fn passable(&self, resolved: u64) -> u64 {
        let done = self.done();
        let codes = self.load_codes();
        let mut passable = done & select(codes, RESUMED);
        for kind in Kind::ALL {
            if self.signal.passes.contains(kind) {
                passable |= done & select(codes, code(kind));
            }
        }
        passable | (done & resolved)
    }

    fn load_codes(&self) -> [u64; 3] {
        std::array::from_fn(|bit| self.codes[bit].load(Ordering::Relaxed))
    }

    /// Cuts the page off: what is unsettled now never will be. Returns those elements.
    pub(super) fn retire(&self, within: u64) -> u64 {
        self.inert.store(true, Ordering::Release);
        within & !self.done.fetch_or(within, Ordering::AcqRel)
    }

    /// Calls back for each class and code that some element of `within` has: class index (the last
    /// for unclassified), code (`None`: unsettled), how many.
    pub(super) fn count(&self, within: u64, mut each: impl FnMut(usize, Option<u8>, u64)) {
        let done = self.done() & within;
        let codes = self.load_codes();
        let classified = self.classified.load(Ordering::Acquire);
        let classes: [u64; 3] =
            std::array::from_fn(|bit| self.classes[bit].load(Ordering::Relaxed));
        for class in 0..=Class::COUNT {
            let members = within
                & if class == Class::COUNT {
                    !classified
                } else {
                    classified & select(classes, class as u8)
                };
            if members == 0 {
                continue;
            }
            let open = members & !done;
            if open != 0 {
                each(class, None, u64::from(open.count_ones()));
            }
            for number in 0..8 {
                let some = members & done & select(codes, number);
                if some != 0 {
                    each(class, Some(number), u64::from(some.count_ones()));
                }
            }
        }
    }
}

/// The numbers of the bits that are set, lowest first.
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros();
        mask &= mask - 1;
        Some(bit)
    })
}
