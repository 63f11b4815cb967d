//! Locks and atomics: of the standard library, or of loom when its models run.
//!
//! Only the ring, the pages and the wake-ups between tasks use these names; everything else takes
//! the standard library's directly.

use std::task::Waker;

#[cfg(not(forebay_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(forebay_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(not(forebay_loom))]
pub(crate) use futures_util::task::AtomicWaker;

/// Loom's, with the signatures of the other.
#[cfg(forebay_loom)]
#[derive(Debug)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

#[cfg(forebay_loom)]
impl Default for AtomicWaker {
    fn default() -> AtomicWaker {
        AtomicWaker::new()
    }
}

#[cfg(forebay_loom)]
impl AtomicWaker {
    pub(crate) fn new() -> AtomicWaker {
        AtomicWaker(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// A lock of either library: the models replace only those they look at.
pub(crate) trait Lockable {
    type Guard<'a>
    where
        Self: 'a;

    fn guard(&self) -> Self::Guard<'_>;
}

impl<T> Lockable for std::sync::Mutex<T> {
    type Guard<'a>
        = std::sync::MutexGuard<'a, T>
    where
        T: 'a;

    fn guard(&self) -> std::sync::MutexGuard<'_, T> {
        self.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(forebay_loom)]
impl<T> Lockable for loom::sync::Mutex<T> {
    type Guard<'a>
        = loom::sync::MutexGuard<'a, T>
    where
        T: 'a;

    fn guard(&self) -> loom::sync::MutexGuard<'_, T> {
        self.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<M: Lockable> Lockable for std::sync::Arc<M> {
    type Guard<'a>
        = M::Guard<'a>
    where
        M: 'a;

    fn guard(&self) -> M::Guard<'_> {
        M::guard(self)
    }
}

/// Takes a lock whether or not a thread panicked while it held it: every structure behind these
/// locks is left whole at each point where user code could panic.
pub(crate) fn lock<M: Lockable>(mutex: &M) -> M::Guard<'_> {
    mutex.guard()
}

/// A lock, and whom to wake once it has been let go: a waker may poll at once, on this very stack, and
/// take the same lock.
pub(crate) struct WakeLock<'a, S> {
    // Fields are dropped in this order.
    state: std::sync::MutexGuard<'a, S>,
    wakes: Wakes,
}

/// Wakes when it is dropped.
#[derive(Default)]
struct Wakes {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let more = std::mem::take(&mut self.more);
        for waker in self.first.take().into_iter().chain(more) {
            waker.wake();
        }
    }
}

impl<S> WakeLock<'_, S> {
    /// Wakes that one, if there is one, once the lock has been let go.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        match &self.wakes.first {
            None => self.wakes.first = waker,
            Some(_) => self.wakes.more.extend(waker),
        }
    }
}

impl<S> std::ops::Deref for WakeLock<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S> std::ops::DerefMut for WakeLock<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

/// Takes a lock behind which wakers are kept.
pub(crate) fn wake_lock<S>(mutex: &std::sync::Mutex<S>) -> WakeLock<'_, S> {
    WakeLock {
        state: mutex.guard(),
        wakes: Wakes::default(),
    }
}

/// Takes a lock that is held for less than a microsecond at a time: by trying for a while before it
/// sleeps, because waking up takes longer than that, and somebody else has the lock again by then.
pub(crate) fn spin_lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..2000 {
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
        std::hint::spin_loop();
    }
    lock(mutex)
}

/// Orders everything before it with everything after it, for two sides that each write one place and
/// then read the other's: at least one of them sees the other's write.
///
/// Under `forebay_loom_bug` it does nothing: the models must find that.
pub(crate) fn full_fence() {
    #[cfg(not(any(forebay_loom, forebay_loom_bug)))]
    std::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(all(forebay_loom, not(forebay_loom_bug)))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}
