//! One receipt shared by a growing number of parts.

use crate::outcome::{Kind, Outcome, Reason};
use crate::receipt::Receipt;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The parent of parts made one at a time, for stages that do not know beforehand how many.
pub(super) struct Split {
    /// Parts not yet settled.
    open: AtomicU64,
    /// Which kinds of outcome parts had, a bit each.
    kinds: AtomicU64,
    parent: Mutex<Option<Receipt>>,
}

impl Split {
    pub(super) fn new(parent: Receipt) -> Split {
        Split {
            open: AtomicU64::new(1),
            kinds: AtomicU64::new(0),
            parent: Mutex::new(Some(parent)),
        }
    }

    pub(super) fn add(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn settle(&self, outcome: Outcome, stage: u32) {
        self.kinds
            .fetch_or(1 << outcome.kind() as u8, Ordering::AcqRel);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(parent) = lock(&self.parent).take()
        {
            let kinds = self.kinds.load(Ordering::Acquire);
            let whole = if kinds.is_power_of_two() {
                outcome
            } else {
                worst(kinds)
            };
            parent.settle_at(whole, stage);
        }
    }

    pub(super) fn with_parent<R>(&self, f: impl FnOnce(&Receipt) -> R) -> Option<R> {
        lock(&self.parent).as_ref().map(f)
    }
}

/// The outcome that stands for a set of kinds (a bit each).
pub(super) fn worst(kinds: u64) -> Outcome {
    let kind = Kind::ALL
        .into_iter()
        .rev()
        .find(|kind| kinds & (1 << *kind as u8) != 0);
    Outcome::of(kind.unwrap_or(Kind::Filtered), Reason::Part)
}
