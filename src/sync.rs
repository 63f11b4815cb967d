//! Locks and atomics: of the standard library, or of loom when its models run.
//!
//! Only the ring, the pages and the wake-ups between tasks use these names; everything else takes
//! the standard library's directly.

#[cfg(not(forebay_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

#[cfg(forebay_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

#[cfg(forebay_loom)]
pub(crate) use loom::future::AtomicWaker;

#[cfg(not(forebay_loom))]
pub(crate) use futures_util::task::AtomicWaker;

/// Takes a lock whether or not a thread panicked while it held it: every structure behind these
/// locks is left whole at each point where user code could panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
