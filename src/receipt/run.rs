//! Receipts of neighbouring elements, kept together.

use std::mem;
use std::sync::Arc;

use super::fork::{Fork, Parent};
use super::running;
use super::single::{Receipt, Repr as Single, Standing, standing_of};
use crate::class::Class;
use crate::outcome::{Outcome, Reason};
use crate::position::Page;
use crate::sync::Mutex;

/// The receipts of consecutive elements of a chunk: the n-th element has the n-th set bit.
pub(crate) struct Run(Repr);

enum Repr {
    /// So many untracked elements.
    None(u32),
    Page(Arc<Page>, u64),
    Fork(Arc<Fork>, u8, u64),
    One(Receipt),
}

/// The lowest `count` set bits of a mask.
pub(super) fn lowest(mask: u64, count: u32) -> u64 {
    if count >= mask.count_ones() {
        return mask;
    }
    let mut rest = mask;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    mask & !rest
}

/// Whether all bits of `mask` lie below all bits of `next`, so that their order stays.
pub(super) fn precedes(mask: u64, next: u64) -> bool {
    next != 0 && (mask == 0 || mask.ilog2() < next.trailing_zeros())
}

impl Run {
    pub(crate) fn untracked(count: usize) -> Run {
        Run(Repr::None(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    pub(crate) fn page(page: Arc<Page>, mask: u64) -> Run {
        Run(Repr::Page(page, mask))
    }

    pub(crate) fn one(receipt: Receipt) -> Run {
        match receipt.into_repr() {
            Single::None => Run(Repr::None(1)),
            Single::Page(page, bit) => Run(Repr::Page(page, 1 << bit)),
            Single::Fork(fork, branch, bit) => Run(Repr::Fork(fork, branch, 1 << bit)),
            other => Run(Repr::One(Receipt::from_repr(other))),
        }
    }

    /// The receipt of a run of one element.
    pub(crate) fn into_single(mut self) -> Receipt {
        match mem::replace(&mut self.0, Repr::None(0)) {
            Repr::None(_) => Receipt::none(),
            Repr::Page(page, mask) => Receipt::page(page, mask.trailing_zeros() as u8),
            Repr::Fork(fork, branch, mask) => {
                Receipt::branch(fork, branch, mask.trailing_zeros() as u8)
            }
            Repr::One(receipt) => receipt,
        }
    }

    /// The members, if it is one element that stands for a group.
    pub(super) fn into_members(mut self) -> Result<Vec<Run>, Run> {
        match mem::replace(&mut self.0, Repr::None(0)) {
            Repr::One(receipt) => receipt
                .into_members()
                .map_err(|receipt| Run(Repr::One(receipt))),
            other => Err(Run(other)),
        }
    }

    pub(crate) fn count(&self) -> usize {
        match &self.0 {
            Repr::None(count) => *count as usize,
            Repr::Page(_, mask) | Repr::Fork(_, _, mask) => mask.count_ones() as usize,
            Repr::One(_) => 1,
        }
    }

    pub(crate) fn is_untracked(&self) -> bool {
        matches!(self.0, Repr::None(_))
    }

    /// Takes the first `count` elements out; all of them if there are no more.
    pub(crate) fn split_front(&mut self, count: usize) -> Run {
        if count >= self.count() {
            return Run(mem::replace(&mut self.0, Repr::None(0)));
        }
        let count = count as u32;
        match &mut self.0 {
            Repr::None(left) => {
                *left -= count;
                Run(Repr::None(count))
            }
            Repr::Page(page, mask) => {
                let front = lowest(*mask, count);
                *mask &= !front;
                Run(Repr::Page(Arc::clone(page), front))
            }
            Repr::Fork(fork, branch, mask) => {
                let front = lowest(*mask, count);
                *mask &= !front;
                Run(Repr::Fork(Arc::clone(fork), *branch, front))
            }
            Repr::One(_) => Run(Repr::None(0)),
        }
    }

    /// Joins the next run to this one where they are of one page and in order; else gives it back.
    pub(crate) fn join(&mut self, mut next: Run) -> Option<Run> {
        match (&mut self.0, &mut next.0) {
            (Repr::None(mine), Repr::None(theirs)) => {
                *mine += mem::take(theirs);
                None
            }
            (Repr::Page(page, mine), Repr::Page(other, theirs))
                if Arc::ptr_eq(page, other) && precedes(*mine, *theirs) =>
            {
                *mine |= mem::take(theirs);
                None
            }
            (Repr::Fork(fork, branch, mine), Repr::Fork(other, same, theirs))
                if Arc::ptr_eq(fork, other) && branch == same && precedes(*mine, *theirs) =>
            {
                *mine |= mem::take(theirs);
                None
            }
            _ => Some(next),
        }
    }

    /// Moves the first element to the end of `onto`, with no reference counted where the page of
    /// both is the same.
    pub(crate) fn move_first(&mut self, onto: &mut Run) -> bool {
        match (&mut self.0, &mut onto.0) {
            (Repr::None(mine), Repr::None(theirs)) if *mine > 0 => {
                *mine -= 1;
                *theirs += 1;
                true
            }
            (Repr::Page(page, mine), Repr::Page(other, theirs)) if Arc::ptr_eq(page, other) => {
                let first = lowest(*mine, 1);
                if !precedes(*theirs, first) {
                    return false;
                }
                *mine &= !first;
                *theirs |= first;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn push(runs: &mut Vec<Run>, next: Run) {
        let left = match runs.last_mut() {
            Some(last) => last.join(next),
            None => Some(next),
        };
        runs.extend(left);
    }

    /// Parts the elements by a predicate on their place in the run: those it holds for, the others.
    pub(crate) fn partition(
        mut self,
        mut keep: impl FnMut(usize) -> bool,
    ) -> (Option<Run>, Option<Run>) {
        let mut select = |mask: u64| {
            let mut kept = 0;
            for (place, bit) in crate::position::bits(mask).enumerate() {
                if keep(place) {
                    kept |= 1 << bit;
                }
            }
            (kept, mask & !kept)
        };
        match mem::replace(&mut self.0, Repr::None(0)) {
            Repr::None(count) => {
                let kept = (0..count as usize).filter(|place| keep(*place)).count();
                let rest = count as usize - kept;
                (
                    (kept > 0).then(|| Run::untracked(kept)),
                    (rest > 0).then(|| Run::untracked(rest)),
                )
            }
            Repr::Page(page, mask) => {
                let (kept, rest) = select(mask);
                match (kept, rest) {
                    (_, 0) => (Some(Run(Repr::Page(page, mask))), None),
                    (0, _) => (None, Some(Run(Repr::Page(page, mask)))),
                    _ => (
                        Some(Run(Repr::Page(Arc::clone(&page), kept))),
                        Some(Run(Repr::Page(page, rest))),
                    ),
                }
            }
            Repr::Fork(fork, branch, mask) => {
                let (kept, rest) = select(mask);
                match (kept, rest) {
                    (_, 0) => (Some(Run(Repr::Fork(fork, branch, mask))), None),
                    (0, _) => (None, Some(Run(Repr::Fork(fork, branch, mask)))),
                    _ => (
                        Some(Run(Repr::Fork(Arc::clone(&fork), branch, kept))),
                        Some(Run(Repr::Fork(fork, branch, rest))),
                    ),
                }
            }
            Repr::One(receipt) => {
                if keep(0) {
                    (Some(Run(Repr::One(receipt))), None)
                } else {
                    (None, Some(Run(Repr::One(receipt))))
                }
            }
        }
    }

    /// The elements of each class, in order: `classes` says of each which it is of.
    pub(crate) fn deal(mut self, classes: &[u8], mut to: impl FnMut(usize, Run)) {
        let mut masks = [0_u64; Class::COUNT];
        let (Repr::Page(_, mask) | Repr::Fork(_, _, mask)) = &mut self.0 else {
            if let Repr::None(_) = self.0 {
                let mut counts = [0; Class::COUNT];
                for class in classes {
                    counts[usize::from(*class)] += 1;
                }
                let counts = counts.into_iter().enumerate();
                counts
                    .filter(|(_, count)| *count > 0)
                    .for_each(|(class, count)| to(class, Run(Repr::None(count))));
            } else if let Some(class) = classes.first() {
                to(usize::from(*class), self);
            }
            return;
        };
        for (bit, class) in crate::position::bits(mem::take(mask)).zip(classes) {
            masks[usize::from(*class)] |= 1 << bit;
        }
        for (class, mask) in masks.into_iter().enumerate().filter(|(_, mask)| *mask != 0) {
            let part = match &self.0 {
                Repr::Page(page, _) => Repr::Page(Arc::clone(page), mask),
                Repr::Fork(fork, branch, _) => Repr::Fork(Arc::clone(fork), *branch, mask),
                Repr::None(_) | Repr::One(_) => return,
            };
            to(class, Run(part));
        }
    }

    pub(crate) fn settle(mut self, outcome: Outcome, stage: u32) {
        self.finish(outcome, stage);
    }

    fn finish(&mut self, outcome: Outcome, stage: u32) {
        match mem::replace(&mut self.0, Repr::None(0)) {
            Repr::None(_) => {}
            Repr::Page(page, mask) => page.settle(mask, outcome, stage),
            Repr::Fork(fork, branch, mask) => fork.settle(branch, mask, outcome, stage),
            Repr::One(receipt) => receipt.settle_at(outcome, stage),
        }
    }

    /// Copies the elements to that many branches: a run for each.
    pub(crate) fn fork(mut self, branches: usize) -> Vec<Run> {
        let (parent, mask) = match mem::replace(&mut self.0, Repr::None(0)) {
            Repr::None(count) => {
                return (0..branches).map(|_| Run(Repr::None(count))).collect();
            }
            Repr::Page(page, mask) => (Parent::Page(page), mask),
            Repr::Fork(fork, branch, mask) => (Parent::Fork(fork, branch), mask),
            Repr::One(receipt) => (Parent::One(Mutex::new(Some(receipt))), 1),
        };
        let fork = Arc::new(Fork::new(parent, branches));
        (0..branches)
            .map(|branch| Run(Repr::Fork(Arc::clone(&fork), branch as u8, mask)))
            .collect()
    }

    /// Classifies each element by its place in the run.
    pub(crate) fn classify(&self, mut class: impl FnMut(usize) -> Class) {
        let mut masks = [0_u64; Class::COUNT];
        match &self.0 {
            Repr::None(_) => {}
            Repr::Page(_, mask) | Repr::Fork(_, _, mask) => {
                for (place, bit) in crate::position::bits(*mask).enumerate() {
                    masks[class(place).index()] |= 1 << bit;
                }
                for (index, mask) in masks.into_iter().enumerate().filter(|(_, mask)| *mask != 0) {
                    let Some(class) = Class::new(index as u8) else {
                        continue;
                    };
                    match &self.0 {
                        Repr::Page(page, _) => page.classify(mask, class),
                        Repr::Fork(fork, ..) => fork.classify(mask, class),
                        _ => {}
                    }
                }
            }
            Repr::One(receipt) => receipt.classify(class(0)),
        }
    }

    pub(super) fn classify_all(&self, class: Class) {
        self.classify(|_| class);
    }

    /// Whether the predicate holds for all they stand for, and they are tracked.
    pub(crate) fn every(&self, mut holds: impl FnMut(Standing) -> bool) -> bool {
        match &self.0 {
            Repr::One(receipt) => receipt.every(holds),
            _ => self.standing().is_some_and(&mut holds),
        }
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        match &self.0 {
            Repr::None(_) => None,
            Repr::Page(page, _) => Some(standing_of(page)),
            Repr::Fork(fork, ..) => fork.with_page(standing_of),
            Repr::One(receipt) => receipt.standing(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let outcome = match &self.0 {
            Repr::None(_) | Repr::One(_) | Repr::Page(_, 0) | Repr::Fork(_, _, 0) => return,
            Repr::Page(page, _) => page.signal().dropped(),
            Repr::Fork(fork, ..) => fork.dropped(),
        };
        let stage = running::stage();
        if outcome == Outcome::Failed(Reason::Abandoned) {
            let count = self.count() as u64;
            match &self.0 {
                Repr::Page(page, _) => page.abandoned(count, stage),
                Repr::Fork(fork, ..) => {
                    fork.with_page(|page| page.abandoned(count, stage));
                }
                Repr::None(_) | Repr::One(_) => {}
            }
        }
        self.finish(outcome, stage);
    }
}
