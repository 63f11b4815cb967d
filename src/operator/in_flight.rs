//! Futures in flight: slots that are used again, each with a waker of its own.
//!
//! A slot is allocated once and then reused by every future that comes after (`Pin::set`). Its waker
//! sets a bit; the operator polls only slots whose bit is set. The task is woken only when the
//! operator has said that it sleeps, so that futures which wake themselves cost no scheduling.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use super::guard;
use crate::chunk::Meta;
use crate::position::bits;
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Ordering, full_fence};

/// Which slots were woken, and whom to wake for it.
///
/// It has room for the slots that were ever given a waker, whatever the number allowed.
pub(crate) struct Wakes {
    words: Words,
    /// The operator went to sleep: the next wake-up must wake its task.
    asleep: AtomicBool,
    task: AtomicWaker,
}

/// A bit for each slot. Wakers of running futures read them, so that no word ever moves: where there
/// are too few, as many again and one more follow.
struct Words {
    words: Box<[AtomicU64]>,
    next: OnceLock<Box<Words>>,
}

impl Words {
    fn new(count: usize) -> Words {
        Words {
            words: (0..count).map(|_| AtomicU64::new(0)).collect(),
            next: OnceLock::new(),
        }
    }

    fn segments(&self) -> impl Iterator<Item = &Words> {
        std::iter::successors(Some(self), |words| words.next.get().map(Box::as_ref))
    }

    /// The word of that number, if there is one.
    fn get(&self, mut word: usize) -> Option<&AtomicU64> {
        for Words { words, .. } in self.segments() {
            if let Some(found) = words.get(word) {
                return Some(found);
            }
            word -= words.len();
        }
        None
    }

    /// Makes sure that there is a word of that number.
    fn reach(&self, mut word: usize) {
        let mut at = self;
        while word >= at.words.len() {
            word -= at.words.len();
            let more = at.words.len() * 2;
            at = at.next.get_or_init(|| Box::new(Words::new(more)));
        }
    }
}

impl Wakes {
    pub(crate) fn new() -> Wakes {
        Wakes {
            words: Words::new(1),
            asleep: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    /// A waker for that slot.
    pub(crate) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        self.words.reach(slot / 64);
        Waker::from(Arc::new(SlotWaker {
            wakes: Arc::clone(self),
            slot,
        }))
    }

    fn wake(&self, slot: usize) {
        if let Some(word) = self.words.get(slot / 64) {
            word.fetch_or(1 << (slot % 64), Ordering::AcqRel);
        }
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
            .segments()
            .flat_map(|segment| &segment.words)
            .any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Calls back for each slot that was woken, and forgets that it was.
    pub(crate) fn take(&self, mut each: impl FnMut(usize)) {
        let words = self.words.segments().flat_map(|segment| &segment.words);
        for (index, word) in words.enumerate() {
            if word.load(Ordering::Relaxed) != 0 {
                for bit in bits(word.swap(0, Ordering::AcqRel)) {
                    each(index * 64 + bit as usize);
                }
            }
        }
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
            wakes: Arc::new(Wakes::new()),
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
        let waker = self.wakes.waker(slot);
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
        let InFlight {
            slots, free, wakes, ..
        } = self;
        wakes.take(|index| {
            if let Some(slot) = slots.get_mut(index)
                && slot.meta.is_some()
                && let Poll::Ready(result) = Self::poll(slot)
                && let Some(meta) = slot.meta.take()
            {
                free.push(index);
                each(Finished {
                    key: slot.key,
                    meta,
                    result,
                });
            }
        });
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
