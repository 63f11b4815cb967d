//! Futures in flight: slots that are used again, each with a waker of its own.
//!
//! A slot is allocated once and then reused by every future that comes after (`Pin::set`). Its waker
//! sets a bit; the operator polls only slots whose bit is set. The task is woken only when the
//! operator has said that it sleeps, so that futures which wake themselves cost no scheduling.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::guard;
use crate::chunk::Meta;
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Ordering, full_fence};

/// Which slots were woken, and whom to wake for it.
pub(crate) struct Wakes {
    words: Box<[AtomicU64]>,
    /// The operator went to sleep: the next wake-up must wake its task.
    asleep: AtomicBool,
    task: AtomicWaker,
}

impl Wakes {
    pub(crate) fn new(slots: usize) -> Wakes {
        Wakes {
            words: (0..slots.div_ceil(64).max(1))
                .map(|_| AtomicU64::new(0))
                .collect(),
            asleep: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    /// A waker for that slot.
    pub(crate) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Waker::from(Arc::new(SlotWaker {
            wakes: Arc::clone(self),
            slot,
        }))
    }

    pub(crate) fn wake(&self, slot: usize) {
        self.words[slot / 64].fetch_or(1 << (slot % 64), Ordering::AcqRel);
        // Pairs with the fence in `sleep`: either it sees the bit, or this sees that it sleeps.
        full_fence();
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// Goes to sleep, unless a slot was woken meanwhile: then false.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        self.task.register(waker);
        self.asleep.store(true, Ordering::Relaxed);
        full_fence();
        if self.any() {
            self.asleep.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    pub(crate) fn any(&self) -> bool {
        self.words
            .iter()
            .any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// The woken slots of a word, whose bits are cleared.
    pub(crate) fn take(&self, word: usize) -> u64 {
        if self.words[word].load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.words[word].swap(0, Ordering::AcqRel)
    }
}

struct SlotWaker {
    wakes: Arc<Wakes>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wakes.wake(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.wake(self.slot);
    }
}

struct Slot<F, M> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
    /// What the operator calls the element in this slot.
    key: u64,
    meta: Option<M>,
}

/// A future that has ended: what the operator called it, what belongs to its element, what it
/// returned or the message of its panic.
pub(crate) struct Finished<O, M> {
    pub(crate) key: u64,
    pub(crate) meta: M,
    pub(crate) result: Result<O, String>,
}

/// Up to `limit` futures in flight, each with what belongs to its element: its meta, or nothing
/// where the operator keeps that elsewhere.
pub(crate) struct InFlight<F, M = Meta> {
    slots: Vec<Slot<F, M>>,
    free: Vec<usize>,
    wakes: Arc<Wakes>,
    limit: usize,
}

impl<F: Future, M> InFlight<F, M> {
    pub(crate) fn new(limit: usize) -> InFlight<F, M> {
        let limit = limit.max(1);
        InFlight {
            slots: Vec::new(),
            free: Vec::new(),
            wakes: Arc::new(Wakes::new(limit)),
            limit,
        }
    }

    /// How many futures have not ended.
    pub(crate) fn running(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many more may be started.
    pub(crate) fn room(&self) -> usize {
        self.limit - self.running()
    }

    fn slot(&mut self) -> usize {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = self.slots.len();
        let waker = Waker::from(Arc::new(SlotWaker {
            wakes: Arc::clone(&self.wakes),
            slot,
        }));
        self.slots.push(Slot {
            future: Box::pin(None),
            waker,
            key: 0,
            meta: None,
        });
        slot
    }

    /// Has user code make a future and polls it at once. Its result if it is ready, or the message
    /// of a panic; else `meta` is asked for, and the future stays. There must be room.
    ///
    /// All user code of an element that is ready at once runs under one guard.
    pub(crate) fn start(
        &mut self,
        make: impl FnOnce() -> F,
        stays: impl FnOnce() -> (u64, M),
    ) -> Option<Result<F::Output, String>> {
        let index = self.slot();
        let slot = &mut self.slots[index];
        let mut output = None;
        let polled = guard(|| {
            slot.future.set(Some(make()));
            let mut cx = Context::from_waker(&slot.waker);
            if let Some(future) = slot.future.as_mut().as_pin_mut()
                && let Poll::Ready(ready) = future.poll(&mut cx)
            {
                output = Some(ready);
                slot.future.set(None);
            }
        });
        let result = match (output, polled) {
            // A destructor of user code may panic as well; the element has ended all the same.
            (Some(output), _) => Ok(output),
            (None, Err(panic)) => {
                let _ = guard(|| slot.future.set(None));
                Err(panic)
            }
            (None, Ok(())) => {
                let (key, meta) = stays();
                slot.key = key;
                slot.meta = Some(meta);
                return None;
            }
        };
        self.free.push(index);
        Some(result)
    }

    fn poll(slot: &mut Slot<F, M>) -> Poll<Result<F::Output, String>> {
        let mut cx = Context::from_waker(&slot.waker);
        let polled = guard(|| match slot.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut cx),
            None => Poll::Pending,
        });
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        // A destructor of user code may panic as well; the element has ended all the same.
        let _ = guard(|| slot.future.set(None));
        Poll::Ready(result)
    }

    /// Polls the futures that were woken, once each.
    pub(crate) fn poll_woken(&mut self, mut each: impl FnMut(Finished<F::Output, M>)) {
        for word in 0..self.slots.len().div_ceil(64) {
            let mut woken = self.wakes.take(word);
            while woken != 0 {
                let index = word * 64 + woken.trailing_zeros() as usize;
                woken &= woken - 1;
                let Some(slot) = self.slots.get_mut(index) else {
                    continue;
                };
                if slot.meta.is_none() {
                    continue;
                }
                if let Poll::Ready(result) = Self::poll(slot)
                    && let Some(meta) = slot.meta.take()
                {
                    self.free.push(index);
                    each(Finished {
                        key: slot.key,
                        meta,
                        result,
                    });
                }
            }
        }
    }

    /// Whether some future was woken and not polled since.
    pub(crate) fn is_woken(&self) -> bool {
        self.wakes.any()
    }

    /// Goes to sleep until a future is woken; false if one was already.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        self.wakes.sleep(waker)
    }

    /// Drops the futures for whose element the predicate holds, and gives back what belongs to it.
    pub(crate) fn cancel(
        &mut self,
        mut which: impl FnMut(u64, &M) -> bool,
        mut each: impl FnMut(u64, M),
    ) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let key = slot.key;
            if slot.meta.as_ref().is_some_and(|meta| which(key, meta)) {
                let _ = guard(|| slot.future.set(None));
                if let Some(meta) = slot.meta.take() {
                    self.free.push(index);
                    each(key, meta);
                }
            }
        }
    }

    /// Gives the elements other keys.
    pub(crate) fn rename(&mut self, name: impl Fn(u64) -> u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.meta.is_some()) {
            slot.key = name(slot.key);
        }
    }
}
