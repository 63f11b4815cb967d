//! Memory that the pipelines of a process share.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::sample::{MemoryUse, Origin};
use crate::control::Waiters;
use crate::demand::Demand;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, full_fence, lock};

/// An account of bytes. Clones are the same one: give one to each pipeline.
///
/// A stage turns what is free into its demand: it takes a [`Grant`] before it asks upstream, keeps of
/// it what the elements really weigh, and lets go of it when they have left. So no two stages ask for
/// the same bytes.
///
/// # Invariants
/// - The bytes in use are the sum of the [`Reservation`]s that live.
/// - They exceed the total only by elements that weighed more than was granted for them:
///   [`Reservation::resize`].
/// - Who waits in [`MemoryBudget::poll_demand`] is woken when bytes are free.
///
/// # Example
/// ```
/// use forebay::host::MemoryBudget;
///
/// let budget = MemoryBudget::new(1000);
/// let mut held = budget.try_reserve(600).expect("free");
/// let refused = budget.try_reserve(600).expect_err("not free");
/// assert_eq!((refused.asked_bytes, refused.free_bytes), (600, 400));
/// held.resize(100);
/// assert_eq!(budget.free_bytes(), 900);
/// drop(held);
/// assert_eq!(budget.used_bytes(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryBudget {
    account: Arc<Account>,
}

struct Account {
    total_bytes: u64,
    used_bytes: AtomicU64,
    /// Whether somebody waits for bytes.
    is_awaited: AtomicBool,
    waiting: Mutex<Waiters>,
}

/// Bytes that are not free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{asked_bytes} bytes were asked for, {free_bytes} are free")]
pub struct Exhausted {
    /// How many were asked for.
    pub asked_bytes: u64,
    /// How many were free.
    pub free_bytes: u64,
}

/// What a stage may ask for, and the bytes that are kept for it.
#[derive(Debug)]
pub struct Grant {
    /// At most what was wanted, and at most half of the bytes that were free.
    pub demand: Demand,
    /// Its bytes: resize it to what came.
    pub reservation: Reservation,
}

impl MemoryBudget {
    /// An account of so many bytes, all free.
    #[must_use]
    pub fn new(total_bytes: u64) -> MemoryBudget {
        let account = Account {
            total_bytes,
            used_bytes: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::new(Waiters::default()),
        };
        MemoryBudget {
            account: Arc::new(account),
        }
    }

    /// The bytes there are.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.account.total_bytes
    }

    /// The bytes reserved.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.account.used_bytes.load(Ordering::Acquire)
    }

    /// The bytes that are free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.total_bytes().saturating_sub(self.used_bytes())
    }

    /// As a sample of the host tells it.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        MemoryUse {
            used_bytes: self.used_bytes(),
            limit_bytes: self.total_bytes(),
            origin: Origin::Budget,
        }
    }

    /// Reserves so many bytes, all or none.
    ///
    /// # Errors
    /// [`Exhausted`]: not as many are free.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, Exhausted> {
        self.take(|free| (bytes <= free).then_some(bytes))
            .map_err(|free_bytes| Exhausted {
                asked_bytes: bytes,
                free_bytes,
            })
    }

    /// What may be asked for of what is wanted: at most half of the bytes that are free, so that
    /// stages that ask at the same time all get some. `None` while no byte is free, or nothing is wanted.
    #[must_use]
    pub fn try_demand(&self, want: Demand) -> Option<Grant> {
        if want.is_none() || want.bytes == 0 {
            return None;
        }
        let part = |free: u64| Some(want.bytes.min(free.div_ceil(2))).filter(|part| *part > 0);
        let reservation = self.take(part).ok()?;
        Some(Grant {
            demand: Demand {
                items: want.items,
                bytes: reservation.bytes(),
            },
            reservation,
        })
    }

    /// The same, but waits until a byte is free. Pending for ever if nothing is wanted. Cancel safe.
    pub fn poll_demand(&self, task: &mut Context<'_>, want: Demand) -> Poll<Grant> {
        if let Some(grant) = self.try_demand(want) {
            return Poll::Ready(grant);
        }
        let mut waiting = lock(&self.account.waiting);
        let displaced = waiting.add(task.waker());
        self.account.is_awaited.store(true, Ordering::Release);
        drop(waiting);
        displaced.into_iter().for_each(Waker::wake);
        // Either this sees what is given back from now on, or who gives it back sees that it is awaited.
        full_fence();
        self.try_demand(want).map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes what the closure wants of the free bytes; an error is how many are free.
    fn take(&self, part: impl Fn(u64) -> Option<u64>) -> Result<Reservation, u64> {
        let account = &self.account;
        let mut used = account.used_bytes.load(Ordering::Acquire);
        loop {
            let free = account.total_bytes.saturating_sub(used);
            let bytes = part(free).ok_or(free)?;
            let taken = account.used_bytes.compare_exchange_weak(
                used,
                used + bytes,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                Ok(_) => {
                    return Ok(Reservation {
                        account: Arc::clone(account),
                        bytes,
                    });
                }
                Err(changed) => used = changed,
            }
        }
    }
}

impl Account {
    fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
        full_fence();
        if self.is_awaited.load(Ordering::Acquire) {
            let mut waiting = lock(&self.waiting);
            self.is_awaited.store(false, Ordering::Release);
            let woken = waiting.take();
            drop(waiting);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("used_bytes", &self.used_bytes())
            .field("total_bytes", &self.total_bytes())
            .finish_non_exhaustive()
    }
}

/// Bytes that are kept for somebody, until it is dropped.
#[must_use = "a reservation that is dropped is free again"]
pub struct Reservation {
    account: Arc<Account>,
    bytes: u64,
}

impl Reservation {
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it what the elements weigh: less gives bytes back; more is taken even if it is not free,
    /// because the elements are there already. Their stage was told how much to ask for, and one element
    /// may be larger than that.
    pub fn resize(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes >= before {
            let more = bytes - before;
            self.account.used_bytes.fetch_add(more, Ordering::AcqRel);
        } else {
            self.account.give_back(before - bytes);
        }
    }

    /// Adds the bytes of another, of the same account. Those of another account are given back there,
    /// and taken here even if they are not free.
    pub fn join(&mut self, mut other: Reservation) {
        if Arc::ptr_eq(&self.account, &other.account) {
            self.bytes += std::mem::take(&mut other.bytes);
        } else {
            self.resize(self.bytes + other.bytes);
        }
    }

    /// Takes so many bytes out of it, at most all, as a reservation of their own: for elements that go
    /// another way.
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Reservation {
            account: Arc::clone(&self.account),
            bytes,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
