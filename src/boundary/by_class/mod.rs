//! A boundary that knows classes: the dearest are served first, the cheapest given up first.
//!
//! The elements lie in a [`PriorityQueue`] behind one lock, so that any of them can still make way.
//! What its policies come to is done here: elements are shed, wait with the producer, are put aside
//! in a [`Deferral`], or go to a side output; what is put aside and has to leave does so too. The
//! consumer takes only as many as it is asked for: what it took ahead could make way for nobody.
//!
//! A chunk for all of which there is room goes into the lanes in one step, in columns, and neighbours
//! that are served alike leave in one: only where something must be decided is an element looked at.

mod consumer;
mod lane;
mod leaves;
mod policy;
mod producer;
mod state;
#[cfg(all(test, feature = "testkit"))]
mod tests;
mod waiting;

use std::sync::Arc;

use crate::chunk::Element;
use crate::class::Class;
use crate::control::{
    AdmissionHandle, Codel, Deferral, DeferralSettings, Invalid, PressureHandle, PriorityQueue,
};
use crate::operator::outlet::Outlet;
use crate::operator::{Held, Stage};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::time::Time;
pub(crate) use consumer::ClassSource;
use lane::Lane;
use leaves::Leaves;
use policy::Key;
pub use policy::{ClassBuffer, ClassQueueSnapshot, ClassQueueView};
pub(crate) use producer::ClassSink;
use state::State;

/// Elements that may wait with the producer before it asks for no more.
pub(crate) const WAITING: usize = 64;

/// Service times after which nearly all elements are served: of exponential ones 95 in 100.
const MOSTLY: u32 = 3;

struct Shared<T> {
    state: Mutex<State<T>>,
    /// What is inside, without the lock: elements, and their bytes.
    items: AtomicU64,
    bytes: AtomicU64,
    /// Free places in the queue, as of the last time the lock was held.
    free: AtomicU64,
    /// There is something the producer must look at: a message, or that the consumer left.
    attention: AtomicBool,
    admission: Option<AdmissionHandle>,
    /// How long a queue the admission was told of; changed under the lock.
    told: AtomicU64,
}

type Lanes<T> = PriorityQueue<Element<T>, Lane<T>>;

fn class_of<T>(element: &Element<T>) -> Class {
    element.meta.class.unwrap_or_default()
}

fn bytes_of<T>(element: &Element<T>) -> u64 {
    element.meta.bytes
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(admission) = &self.admission {
            let told = self.told.load(Ordering::Relaxed);
            admission.queue(told as usize, 0);
        }
    }
}

impl<T> Shared<T> {
    fn publish(&self, state: &State<T>) {
        let (items, bytes) = match &state.deferral {
            None => (state.queue.len(), state.queue.bytes()),
            Some(deferral) => {
                let aside = deferral.snapshot();
                (
                    state.queue.len() + aside.items,
                    state.queue.bytes() + aside.bytes,
                )
            }
        };
        if let Some(admission) = &self.admission {
            let queued = state.queue.len() + state.waiting.items;
            let told = self.told.load(Ordering::Relaxed) as usize;
            if told != queued {
                self.told.store(queued as u64, Ordering::Relaxed);
                admission.queue(told, queued);
            }
        }
        let spilled: u64 = state.spilled.iter().map(bytes_of).sum();
        let inside = items + state.waiting.items + state.spilled.len();
        self.items.store(inside as u64, Ordering::Relaxed);
        self.bytes
            .store(bytes + state.waiting.bytes + spilled, Ordering::Relaxed);
        let free = state.queue.settings().max_items() - state.queue.len();
        self.free.store(free as u64, Ordering::Relaxed);
    }

    /// Looks at what the admission knows, before elements are offered.
    fn look(&self, state: &mut State<T>, now: Time) {
        let refuses = match &self.admission {
            Some(admission) => {
                state.forecast = admission.forecast();
                !admission.admits_all()
            }
            None => state
                .codel
                .as_ref()
                .is_some_and(|codel| codel.iter().any(Codel::is_overloaded)),
        };
        state
            .queue
            .set_overloaded(now, refuses, "more is offered than can be served");
    }

    fn held(&self) -> Held {
        Held {
            items: self.items.load(Ordering::Relaxed) as usize,
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// The policies of a boundary by class, made as declared.
pub(crate) struct Policies<T> {
    queue: Lanes<T>,
    deferral: Option<Deferral<Element<T>>>,
    codel: Option<[Codel; Class::COUNT]>,
    admission: Option<AdmissionHandle>,
    pressure: Option<PressureHandle>,
    key: Option<Arc<Key<T>>>,
}

impl<T: 'static> Policies<T> {
    /// Why there cannot be such a buffer, if there cannot.
    pub(crate) fn new(buffer: &ClassBuffer, has_side: bool) -> Result<Policies<T>, String> {
        let key = buffer.key.as_ref().map(policy::KeyOf::of::<T>);
        if matches!(key, Some(None)) {
            return Err("the key for its order is one of another type of element".to_owned());
        }
        let key = key.flatten();
        let make = || -> Result<Policies<T>, Invalid> {
            let codel = |(target, interval)| {
                let codel = Codel::new(target, interval)?;
                Ok(std::array::from_fn(|_| codel.clone()))
            };
            let deferral = |settings: DeferralSettings| {
                let ordered = settings.order_per_key();
                let settings = if key.is_some() { ordered } else { settings };
                Deferral::new(settings, Time::ZERO)
            };
            Ok(Policies {
                queue: PriorityQueue::with_lanes(buffer.settings)?,
                deferral: buffer.deferral.map(deferral).transpose()?,
                codel: buffer.stale.map(codel).transpose()?,
                admission: buffer.admission.clone(),
                pressure: buffer.pressure.clone(),
                key: key.clone(),
            })
        };
        match buffer.contradiction(has_side) {
            Some(why) => Err(why.to_owned()),
            None => make().map_err(|invalid| invalid.to_string()),
        }
    }
}

/// A boundary by class: what the island before it ends in, and what the island after it starts with.
pub(crate) fn by_class<T: Send + 'static>(
    policies: Policies<T>,
    view: &ClassQueueView,
    stage: &Arc<Stage>,
    side: Option<Outlet<T>>,
) -> (ClassSink<T>, ClassSource<T>) {
    let free = AtomicU64::new(policies.queue.settings().max_items() as u64);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            deferral: policies.deferral,
            codel: policies.codel,
            pressure: policies.pressure,
            key: policies.key,
            ..State::new(policies.queue)
        }),
        items: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        free,
        attention: AtomicBool::new(false),
        admission: policies.admission,
        told: AtomicU64::new(0),
    });
    let probe = Arc::downgrade(&shared);
    stage.ledger.probe(move || {
        probe
            .upgrade()
            .map_or(0, |shared| shared.held().items as u64)
    });
    let seen = Arc::downgrade(&shared);
    view.set(move || {
        let shared = seen.upgrade()?;
        let state = lock(&shared.state);
        Some(state.snapshot())
    });
    (
        ClassSink::new(Arc::clone(&shared), side),
        ClassSource::new(shared, view.clone()),
    )
}
