//! The handles by which values are offered.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use super::offer::{Offer, Turn};
use super::shared::{Shared, Tried};
use super::store::Store;
use super::{Offered, QueueEnd};
use crate::chunk::Meta;
use crate::class::Class;
use crate::control::{AdmissionHandle, BreakerHandle};
use crate::error::{BoxError, Stop};
use crate::operator::guard;
use crate::outcome::Reason;
use crate::sync::{lock, wake_lock};
use crate::time::{self, Time};

/// Completes the queue when the last handle is gone.
pub(super) struct Alive<T>(pub(super) Arc<Shared<T>>);

impl<T> Drop for Alive<T> {
    fn drop(&mut self) {
        self.0.complete();
    }
}

/// Offers values to a flow. Cloning gives another handle; the queue completes when the last is
/// dropped.
pub struct Queue<T>(pub(super) Arc<Alive<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Gives each offered value its class. To be set once, before the first offer; without it a
    /// value is of [`Class::MEDIUM`].
    #[must_use]
    pub fn classify(self, f: impl Fn(&T) -> Class + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().classify.set(Box::new(f));
        self
    }

    /// Weighs each offered value in bytes, for a buffer with a bound of bytes. To be set once.
    #[must_use]
    pub fn weigh(self, f: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().weigh.set(Box::new(f));
        self
    }

    /// Is told of each value that was in the queue and was given up for another. To be set once.
    #[must_use]
    pub fn on_drop(self, f: impl Fn(T, Reason) + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().on_drop.set(Box::new(f));
        self
    }

    /// How many offers may wait at once; one more is dropped for [`Reason::Limit`]. Default: 1024.
    #[must_use]
    pub fn max_waiting(self, offers: usize) -> Queue<T> {
        self.shared().max_waiting.store(offers, Ordering::Relaxed);
        self
    }

    /// Refuses offers at once, for [`Reason::BreakerOpen`], while that breaker permits no call: that of
    /// where the values are sent to. To be set once.
    #[must_use]
    pub fn behind(self, breaker: &BreakerHandle) -> Queue<T> {
        let _ = self.shared().breaker.set(breaker.clone());
        self
    }

    /// Refuses offers at once, for [`Reason::Overload`], that this admission does not let in, and tells
    /// it of all. To be set once.
    #[must_use]
    pub fn admitted_by(self, admission: &AdmissionHandle) -> Queue<T> {
        let _ = self.shared().admission.set(admission.clone());
        self
    }

    fn meta(&self, value: &T, class: Option<Class>) -> Meta {
        let shared = self.shared();
        let class = class.or_else(|| {
            let classify = shared.classify.get()?;
            guard(|| classify(value)).ok()
        });
        let bytes = shared
            .weigh
            .get()
            .and_then(|weigh| guard(|| weigh(value)).ok());
        Meta {
            class: Some(class.unwrap_or_default()),
            since: time::now(),
            bytes: bytes.unwrap_or_default(),
            ..Meta::default()
        }
    }

    /// Offers a value, and waits for a place if the buffer is to back-pressure. Cancel safe: a
    /// future that is dropped has offered nothing.
    pub fn offer(&self, value: T) -> Offer<T> {
        let meta = self.meta(&value, None);
        self.offer_meta(value, meta)
    }

    /// The same, for a value of that class.
    pub fn offer_as(&self, class: Class, value: T) -> Offer<T> {
        let meta = self.meta(&value, Some(class));
        self.offer_meta(value, meta)
    }

    fn offer_meta(&self, value: T, meta: Meta) -> Offer<T> {
        Offer::new(Arc::clone(self.shared()), value, meta)
    }

    /// Offers a value without waiting: a full queue that back-pressures drops it.
    pub fn try_offer(&self, value: T) -> Offered<T> {
        let meta = self.meta(&value, None);
        self.try_offer_meta(value, meta)
    }

    /// The same, for a value of that class.
    pub fn try_offer_as(&self, class: Class, value: T) -> Offered<T> {
        let meta = self.meta(&value, Some(class));
        self.try_offer_meta(value, meta)
    }

    fn try_offer_meta(&self, value: T, meta: Meta) -> Offered<T> {
        match self.shared().offer(value, meta, None) {
            Tried::Done(offered) => offered,
            Tried::Wait(value, meta, _) => {
                let mut state = wake_lock(&self.shared().state);
                let reason = match state.store {
                    Store::InOrder { .. } => Reason::DropNew,
                    Store::ByClass(_) => Reason::NoRoom,
                };
                Shared::refuse(&mut state, &meta, reason);
                Offered::Dropped(reason, value)
            }
        }
    }

    /// Offers a value and blocks the calling thread until there is a place. Not for tasks.
    pub fn offer_blocking(&self, value: T) -> Offered<T> {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut offer = self.offer(value);
        loop {
            match offer.poll_turn(&waker) {
                Turn::Ready(offered) => return offered,
                Turn::Wait(Time::MAX) => std::thread::park(),
                Turn::Wait(until) => std::thread::park_timeout(until.since(time::now())),
            }
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn shared(&self) -> &Arc<Shared<T>> {
        &self.0.0
    }

    /// No more offers; what is in the queue goes on, then the flow completes.
    pub fn complete(&self) {
        self.shared().complete();
    }

    /// The flow stops with this error, whether or not there is demand; what is in the queue is
    /// cancelled.
    pub fn fail(&self, error: impl Into<BoxError>) {
        let shared = self.shared();
        shared.fail(&mut wake_lock(&shared.state), Stop::error(error));
    }

    /// Waits until the queue has ended, and tells how. Cancel safe.
    pub fn watch_completion(&self) -> impl Future<Output = QueueEnd> + Send + use<T> {
        let mut end = self.shared().end.subscribe();
        async move {
            match end.wait_for(Option::is_some).await {
                Ok(end) => end.clone().unwrap_or(QueueEnd::Cancelled),
                Err(_) => QueueEnd::Cancelled,
            }
        }
    }

    /// How many values are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared().state).store.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values were refused or given up so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.shared().state).dropped
    }
}
