//! What the handles of a queue and its flow share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Wake, Waker};

use tokio::sync::watch;

use super::store::{Put, Store};
use super::{Offered, QueueEnd};
use crate::chunk::Meta;
use crate::class::Class;
use crate::control::{AdmissionHandle, BreakerHandle, Gate};
use crate::error::{Cause, Stop};
use crate::operator::guard;
use crate::outcome::Reason;
use crate::sync::{WakeLock, wake_lock};
use crate::time::{self, Time};

/// The rank of an offer that waits, and its number.
pub(super) type Ticket = (usize, u64);

pub(super) enum Life {
    Open,
    /// No more offers; what is inside goes on.
    Completing,
    Ended(QueueEnd),
}

pub(super) struct State<T> {
    pub(super) store: Store<T>,
    /// Offers that wait, by rank and ticket.
    pub(super) waiting: BTreeMap<Ticket, Waker>,
    pub(super) next_ticket: u64,
    pub(super) life: Life,
    pub(super) stop: Option<Stop>,
    pub(super) consumer: Option<Waker>,
    /// The consumer, which nobody asks for values now: it must learn of a failure.
    pub(super) resting: Option<Waker>,
    /// Values that ended before they were handed over and are not in the accounts yet.
    pub(super) refused: BTreeMap<(Class, Reason), usize>,
    pub(super) dropped: u64,
}

pub(super) type Locked<'a, T> = WakeLock<'a, State<T>>;
pub(super) type Classify<T> = Box<dyn Fn(&T) -> Class + Send + Sync>;
pub(super) type Weigh<T> = Box<dyn Fn(&T) -> u64 + Send + Sync>;
pub(super) type OnDrop<T> = Box<dyn Fn(T, Reason) + Send + Sync>;

pub(super) struct Shared<T> {
    pub(super) state: Mutex<State<T>>,
    pub(super) max_waiting: AtomicUsize,
    pub(super) classify: OnceLock<Classify<T>>,
    pub(super) weigh: OnceLock<Weigh<T>>,
    pub(super) on_drop: OnceLock<OnDrop<T>>,
    pub(super) breaker: OnceLock<BreakerHandle>,
    pub(super) admission: OnceLock<AdmissionHandle>,
    /// Spreads the offers of a class over its share.
    offers: AtomicU64,
    pub(super) end: watch::Sender<Option<QueueEnd>>,
}

/// Tells how the queue ended, which wakes those who wait for it: not under the lock either.
struct Telling(watch::Sender<Option<QueueEnd>>, QueueEnd);

impl Wake for Telling {
    fn wake(self: Arc<Self>) {
        self.0.send_replace(Some(self.1.clone()));
    }
}

/// What a try came to: an answer, or the value back because it has to wait until then at most.
pub(super) enum Tried<T> {
    Done(Offered<T>),
    Wait(T, Meta, Time),
}

impl<T> Shared<T> {
    pub(super) fn new(store: Store<T>) -> Shared<T> {
        Shared {
            state: Mutex::new(State {
                store,
                waiting: BTreeMap::new(),
                next_ticket: 0,
                life: Life::Open,
                stop: None,
                consumer: None,
                resting: None,
                refused: BTreeMap::new(),
                dropped: 0,
            }),
            max_waiting: AtomicUsize::new(1024),
            classify: OnceLock::new(),
            weigh: OnceLock::new(),
            on_drop: OnceLock::new(),
            breaker: OnceLock::new(),
            admission: OnceLock::new(),
            offers: AtomicU64::new(0),
            end: watch::channel(None).0,
        }
    }

    /// Counts a value that ends here. The first since the accounts were brought up to date has it
    /// done again, whether or not there is demand.
    pub(super) fn refuse(state: &mut Locked<'_, T>, meta: &Meta, reason: Reason) {
        let first = state.refused.is_empty();
        *state
            .refused
            .entry((meta.class.unwrap_or_default(), reason))
            .or_default() += 1;
        state.dropped += 1;
        if first {
            for waker in [state.consumer.take(), state.resting.take()] {
                state.wake(waker);
            }
        }
    }

    fn refused(&self, value: T, meta: &Meta, reason: Reason) -> Tried<T> {
        Self::refuse(&mut wake_lock(&self.state), meta, reason);
        Tried::Done(Offered::Dropped(reason, value))
    }

    /// Why a value is not even to be offered: nobody would serve it.
    pub(super) fn turned_away(&self, now: Time, class: Class) -> Option<Reason> {
        if let Some(breaker) = self.breaker.get()
            && breaker.check(now).is_err()
        {
            breaker.refuse(1);
            return Some(Reason::BreakerOpen);
        }
        let admission = self.admission.get()?;
        admission.offer(class, 1);
        admission.tick(now);
        if admission.admits_all() {
            return None;
        }
        let dither = Gate::dither(self.offers.fetch_add(1, Ordering::Relaxed));
        (!admission.admits(class, dither)).then_some(Reason::Overload)
    }

    /// Offers a value as the policy says. `ticket`: it waited, and its turn is known.
    pub(super) fn offer(&self, value: T, meta: Meta, ticket: Option<Ticket>) -> Tried<T> {
        let now = time::now();
        let class = meta.class.unwrap_or_default();
        if ticket.is_none()
            && let Some(reason) = self.turned_away(now, class)
        {
            return self.refused(value, &meta, reason);
        }
        let mut made_way = Vec::new();
        let mut state = wake_lock(&self.state);
        let tried = match &state.life {
            Life::Ended(QueueEnd::Failed(why)) => {
                Tried::Done(Offered::Failed(Arc::clone(why), value))
            }
            Life::Completing | Life::Ended(_) => Tried::Done(Offered::Closed(value)),
            Life::Open => {
                let mine = ticket.unwrap_or((state.store.rank(class), u64::MAX));
                let first = state.waiting.keys().next();
                let is_behind = first.is_some_and(|first| *first < mine);
                let longest = state.store.longest_wait(class).filter(|longest| {
                    is_behind
                        && now.since(meta.since) < *longest
                        && state
                            .store
                            .has_room(meta.class.unwrap_or_default(), meta.bytes)
                });
                if let Some(longest) = longest {
                    // There is room, but it is not its turn.
                    let until = meta.since + longest;
                    Tried::Wait(value, meta, until)
                } else {
                    let put = state.store.put(now, value, meta, &mut made_way);
                    self.answer(&mut state, put)
                }
            }
        };
        for (_, meta, reason) in &made_way {
            Self::refuse(&mut state, meta, *reason);
        }
        drop(state);
        if let Some(on_drop) = self.on_drop.get() {
            for (value, _, reason) in made_way {
                let _ = guard(|| on_drop(value, reason));
            }
        }
        tried
    }

    fn answer(&self, state: &mut Locked<'_, T>, put: Put<T>) -> Tried<T> {
        match put {
            Put::In => {
                let consumer = state.consumer.take();
                state.wake(consumer);
                Tried::Done(Offered::Enqueued)
            }
            Put::Wait(value, meta, until) => Tried::Wait(value, meta, until),
            Put::Refused(value, meta, reason) => {
                Self::refuse(state, &meta, reason);
                Tried::Done(Offered::Dropped(reason, value))
            }
            Put::Overflow(value, meta) => {
                let capacity = state.store.len();
                let stop = Stop::cause(Cause::Overflow { capacity });
                Self::refuse(state, &meta, Reason::Overflow);
                let why = self.fail(state, stop);
                Tried::Done(Offered::Failed(why, value))
            }
        }
    }

    /// The queue fails: what is inside is cancelled at the next turn.
    pub(super) fn fail(&self, state: &mut Locked<'_, T>, stop: Stop) -> Arc<str> {
        let why: Arc<str> = Arc::from(stop.to_string());
        state.stop.get_or_insert(stop);
        self.end(state, QueueEnd::Failed(Arc::clone(&why)));
        why
    }

    pub(super) fn end(&self, state: &mut Locked<'_, T>, end: QueueEnd) {
        if matches!(state.life, Life::Ended(_)) {
            return;
        }
        state.life = Life::Ended(end.clone());
        let telling = Telling(self.end.clone(), end);
        state.wake(Some(Waker::from(Arc::new(telling))));
        Self::wake_all(state);
    }

    fn wake_all(state: &mut Locked<'_, T>) {
        for (_, waker) in std::mem::take(&mut state.waiting) {
            state.wake(Some(waker));
        }
        for waker in [state.consumer.take(), state.resting.take()] {
            state.wake(waker);
        }
    }

    pub(super) fn complete(&self) {
        let mut state = wake_lock(&self.state);
        if matches!(state.life, Life::Open) {
            state.life = Life::Completing;
            Self::wake_all(&mut state);
        }
    }
}
