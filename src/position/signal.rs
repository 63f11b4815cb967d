//! What a page tells its source: that there is news, and what could not be resolved.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use super::{Generation, SourceId};
use crate::outcome::{Kind, Outcome, Reason};
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex, Ordering, full_fence, lock};

/// The stage number of a settlement whose stage is not known: a dropped receipt.
pub(crate) const NO_STAGE: u32 = u32::MAX;

/// Which kinds of outcome the settled position may pass, and which are reported to the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passes(u8);

impl Passes {
    /// Filtered, delivered and dead-lettered elements: what every source passes.
    #[must_use]
    pub const fn resolved() -> Passes {
        Passes(
            1 << Kind::Filtered as u8 | 1 << Kind::Delivered as u8 | 1 << Kind::DeadLettered as u8,
        )
    }

    /// Shed and expired elements as well: the source declared that losing them is allowed.
    #[must_use]
    pub const fn loss(self) -> Passes {
        Passes(self.0 | 1 << Kind::Shed as u8 | 1 << Kind::Expired as u8)
    }

    /// Everything: for sources that have no positions and go on whatever happens.
    #[must_use]
    pub const fn all() -> Passes {
        Passes(0x7f)
    }

    /// Whether the settled position passes an element that ended so.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether an element that ended so is reported to the source. A cancelled one never is: it
    /// follows an end already under way.
    #[must_use]
    pub const fn reports(self, kind: Kind) -> bool {
        !self.contains(kind) && !matches!(kind, Kind::Cancelled)
    }
}

/// An element that ended in a way its source has to answer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unresolved {
    /// Its number.
    pub sequence: u64,
    /// The generation it was handed over in.
    pub generation: Generation,
    /// How it ended.
    pub outcome: Outcome,
    /// The number of the stage that settled it, if a stage did.
    pub stage: Option<u32>,
}

/// The part of a tracker that its pages know. Pages hold no tracker, so that a pool of pages keeps
/// nothing alive but this.
pub(crate) struct Signal {
    pub(crate) source: SourceId,
    pub(crate) passes: Passes,
    /// The task of the source, waiting for credit, for quiescence or for a report.
    waker: AtomicWaker,
    waiting: AtomicBool,
    /// Unresolved elements not yet looked at; at most a window of them.
    reports: Mutex<VecDeque<Unresolved>>,
    reported: AtomicBool,
    doubled: AtomicU64,
    /// Receipts dropped unsettled, by the stage that ran then.
    abandoned: Mutex<BTreeMap<u32, u64>>,
    /// 0, or one more than the reason for which what is dropped now counts as cancelled.
    ending: AtomicU64,
}

impl Signal {
    pub(crate) fn new(source: SourceId, passes: Passes) -> Signal {
        Signal {
            source,
            passes,
            waker: AtomicWaker::new(),
            waiting: AtomicBool::new(false),
            reports: Mutex::new(VecDeque::new()),
            reported: AtomicBool::new(false),
            doubled: AtomicU64::new(0),
            abandoned: Mutex::new(BTreeMap::new()),
            ending: AtomicU64::new(0),
        }
    }

    /// Asks to be woken at the next progress. The caller looks again after this call, before it
    /// sleeps: progress between its first look and this call would be missed otherwise.
    pub(crate) fn wait(&self, waker: &Waker) {
        self.waker.register(waker);
        self.waiting.store(true, Ordering::Relaxed);
        // Pairs with the fence in `progress`: either the source sees the bits that were set before
        // it, or the settler sees that the source waits.
        full_fence();
    }

    /// Some elements were settled.
    pub(crate) fn progress(&self) {
        full_fence();
        if self.waiting.load(Ordering::Relaxed) {
            self.waiting.store(false, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Some elements ended unresolved.
    pub(crate) fn report(&self, each: impl Iterator<Item = Unresolved>) {
        lock(&self.reports).extend(each);
        self.reported.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Registers the source's task for reports, which come whether it waits or not.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn take_report(&self) -> Option<Unresolved> {
        if !self.reported.load(Ordering::Acquire) {
            return None;
        }
        let mut reports = lock(&self.reports);
        let first = reports.pop_front();
        if reports.is_empty() {
            self.reported.store(false, Ordering::Release);
        }
        first
    }

    pub(crate) fn clear_reports(&self) {
        let mut reports = lock(&self.reports);
        reports.clear();
        self.reported.store(false, Ordering::Release);
    }

    pub(crate) fn first_report(&self) -> Option<Unresolved> {
        lock(&self.reports).front().copied()
    }

    pub(crate) fn double(&self, count: u32) {
        self.doubled.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    pub(crate) fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::Relaxed)
    }

    pub(crate) fn abandon(&self, count: u64, stage: u32) {
        *lock(&self.abandoned).entry(stage).or_default() += count;
    }

    pub(crate) fn abandoned(&self) -> BTreeMap<u32, u64> {
        lock(&self.abandoned).clone()
    }

    /// From now on a dropped receipt counts as cancelled, for this reason.
    pub(crate) fn end(&self, reason: Reason) {
        self.ending.store(reason as u64 + 1, Ordering::Release);
    }

    /// How a receipt that nobody settled ends.
    pub(crate) fn dropped(&self) -> Outcome {
        match self.ending.load(Ordering::Acquire) {
            0 => Outcome::Failed(Reason::Abandoned),
            code => Outcome::Cancelled(
                usize::try_from(code - 1)
                    .ok()
                    .and_then(|index| Reason::ALL.get(index).copied())
                    .unwrap_or(Reason::Aborted),
            ),
        }
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}
