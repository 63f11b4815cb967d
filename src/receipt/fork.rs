//! Up to 64 elements copied to several branches: a child page with a mask for each branch.

use std::sync::Arc;

use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};
use crate::position::{NO_STAGE, Page};
use crate::receipt::Receipt;
use crate::sync::{AtomicU64, Mutex, Ordering, full_fence, lock};

pub(super) enum Parent {
    Page(Arc<Page>),
    Fork(Arc<Fork>, u8),
    One(Mutex<Option<Receipt>>),
}

/// Elements copied to several branches. A bit stands for the same element as in the parent.
pub(crate) struct Fork {
    parent: Parent,
    /// By branch: the elements it settled.
    done: Box<[AtomicU64]>,
    /// By kind of outcome: the elements some branch ended so.
    kinds: [AtomicU64; Kind::COUNT],
    /// The elements whose parent was settled.
    passed_on: AtomicU64,
    /// The last stage that settled a part badly.
    stage: AtomicU64,
}

impl Fork {
    pub(super) fn new(parent: Parent, branches: usize) -> Fork {
        Fork {
            parent,
            done: (0..branches).map(|_| AtomicU64::new(0)).collect(),
            kinds: std::array::from_fn(|_| AtomicU64::new(0)),
            passed_on: AtomicU64::new(0),
            stage: AtomicU64::new(u64::from(NO_STAGE)),
        }
    }

    pub(super) fn settle(&self, branch: u8, mask: u64, outcome: Outcome, stage: u32) {
        if outcome.kind() > Kind::Delivered && stage != NO_STAGE {
            self.stage.store(u64::from(stage), Ordering::Relaxed);
        }
        self.kinds[outcome.kind() as usize].fetch_or(mask, Ordering::AcqRel);
        let Some(done) = self.done.get(usize::from(branch)) else {
            return;
        };
        if done.fetch_or(mask, Ordering::AcqRel) & mask != 0 {
            self.double(mask);
            return;
        }
        // Two branches that settle the same element at once each write their mask and then read the
        // other's: one of them at least must see both.
        full_fence();
        let whole = self
            .done
            .iter()
            .fold(mask, |all, one| all & one.load(Ordering::Acquire));
        let mut left = whole & !self.passed_on.fetch_or(whole, Ordering::AcqRel);
        if left == 0 {
            return;
        }
        let by_kind: [u64; Kind::COUNT] =
            std::array::from_fn(|kind| self.kinds[kind].load(Ordering::Acquire));
        let stage = u32::try_from(self.stage.load(Ordering::Relaxed)).unwrap_or(NO_STAGE);
        for kind in Kind::ALL.into_iter().rev() {
            let some = left & by_kind[kind as usize];
            if some != 0 {
                left &= !some;
                let reason = if outcome.kind() == kind {
                    outcome.reason()
                } else {
                    Reason::Part
                };
                self.settle_parent(some, Outcome::of(kind, reason), stage);
            }
        }
    }

    fn settle_parent(&self, mask: u64, outcome: Outcome, stage: u32) {
        match &self.parent {
            Parent::Page(page) => page.settle(mask, outcome, stage),
            Parent::Fork(fork, branch) => fork.settle(*branch, mask, outcome, stage),
            Parent::One(receipt) => {
                if let Some(receipt) = lock(receipt).take() {
                    receipt.settle_at(outcome, stage);
                }
            }
        }
    }

    fn double(&self, mask: u64) {
        match &self.parent {
            Parent::Page(page) => page.signal().double(mask.count_ones()),
            Parent::Fork(fork, _) => fork.double(mask),
            Parent::One(_) => {}
        }
    }

    pub(super) fn classify(&self, mask: u64, class: Class) {
        match &self.parent {
            Parent::Page(page) => page.classify(mask, class),
            Parent::Fork(fork, _) => fork.classify(mask, class),
            Parent::One(receipt) => {
                if let Some(receipt) = lock(receipt).as_ref() {
                    receipt.classify(class);
                }
            }
        }
    }

    /// How a part ends that nobody settled.
    pub(super) fn dropped(&self) -> Outcome {
        match &self.parent {
            Parent::Page(page) => page.signal().dropped(),
            Parent::Fork(fork, _) => fork.dropped(),
            Parent::One(receipt) => lock(receipt)
                .as_ref()
                .map_or(Outcome::Failed(Reason::Abandoned), Receipt::dropped_as),
        }
    }

    pub(super) fn with_page<R>(&self, f: impl FnOnce(&Page) -> R) -> Option<R> {
        match &self.parent {
            Parent::Page(page) => Some(f(page)),
            Parent::Fork(fork, _) => fork.with_page(f),
            Parent::One(receipt) => lock(receipt).as_ref().and_then(|one| one.with_page(f)),
        }
    }
}
