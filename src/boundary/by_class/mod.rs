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
mod policy;
mod producer;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use crate::chunk::{Chunk, Element};
use crate::class::Class;
use crate::control::{
    AdmissionHandle, Codel, Deferral, Deferred, Evicted, Forecast, Invalid, Leaving, Offer, Placed,
    PressureHandle, PriorityQueue, WhenNoRoom,
};
use crate::operator::outlet::Outlet;
use crate::operator::{Context, Held, Stage};
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::time::Time;
pub(crate) use consumer::ClassSource;
use lane::Lane;
pub use policy::{ClassBuffer, ClassQueueSnapshot, ClassQueueView};
pub(crate) use producer::ClassSink;

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

struct State<T> {
    queue: Lanes<T>,
    deferral: Option<Deferral<Element<T>>>,
    /// One for each class: under strict order the wait of one says nothing of another's.
    codel: Option<[Codel; Class::COUNT]>,
    /// Marks at the head of all elements: the producer waited until there was none before them.
    marks: Vec<crate::mark::Mark>,
    /// With the producer, waiting for room or for the side output: they count as inside.
    waiting: Held,
    /// Something was put aside when the producer last looked.
    aside: bool,
    evicted: Vec<Evicted<Element<T>>>,
    /// Spilled when they were looked at from downstream: the producer has the side output.
    spilled: Vec<Element<T>>,
    /// What an element that comes now has to expect, where that is known.
    forecast: Option<Forecast>,
    pressure: Option<PressureHandle>,
    link: Link,
}

/// Elements on their way out of the boundary, to be settled or diverted once the lock is let go.
struct Leaves<T> {
    settled: Vec<(Element<T>, Outcome)>,
    /// To be served after their deadline.
    expired: Chunk<T>,
    /// To be served after they waited too long.
    stale: Chunk<T>,
    diverted: Vec<Element<T>>,
}

impl<T> Default for Leaves<T> {
    fn default() -> Leaves<T> {
        Leaves {
            settled: Vec::new(),
            expired: Chunk::default(),
            stale: Chunk::default(),
            diverted: Vec::new(),
        }
    }
}

impl<T> Leaves<T> {
    fn settle(&mut self, element: Element<T>, outcome: Outcome) {
        self.settled.push((element, outcome));
    }

    fn settle_all(&mut self, cx: &mut Context<'_, '_>) {
        for (element, outcome) in self.settled.drain(..) {
            cx.settle(element.meta, outcome);
        }
        cx.settle_chunk(&mut self.expired, Outcome::Expired);
        cx.settle_chunk(&mut self.stale, Outcome::Shed(Reason::QueueDelay));
    }
}

fn class_of<T>(element: &Element<T>) -> Class {
    element.meta.class.unwrap_or_default()
}

fn bytes_of<T>(element: &Element<T>) -> u64 {
    element.meta.bytes
}

impl<T> State<T> {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.has_none_aside() && self.spilled.is_empty()
    }

    fn has_none_aside(&self) -> bool {
        self.deferral.as_ref().is_none_or(Deferral::is_empty)
    }

    fn snapshot(&self) -> ClassQueueSnapshot {
        ClassQueueSnapshot {
            queue: self.queue.snapshot(),
            deferral: self.deferral.as_ref().map(Deferral::snapshot),
            waiting: self.waiting.items,
        }
    }

    /// Elements queued and put aside.
    fn held(&self) -> usize {
        self.queue.len() + self.deferral.as_ref().map_or(0, Deferral::len)
    }

    /// What is begun now is mostly served by then: it is in vain to begin what must be done before.
    /// While there is room for everybody an element is given its chance.
    fn served_by(&self, now: Time) -> Time {
        match &self.forecast {
            Some(forecast) if self.queue.is_overloaded() => now + forecast.service * MOSTLY,
            _ => now,
        }
    }

    /// Whether so many elements of a class that waited equally long are given up instead of served, and
    /// of how many of them that is said. While a lower class is held nobody is.
    fn judge(&mut self, now: Time, class: Class, wait: Duration, count: usize) -> (bool, usize) {
        let Some(codel) = &mut self.codel else {
            return (false, count);
        };
        let (stale, count) = codel[class.index()].are_stale(now, wait, count);
        (stale && !self.queue.holds_below(class), count)
    }

    /// Whether it would be served after its deadline.
    fn is_too_late(&self, now: Time, element: &Element<T>) -> bool {
        self.forecast.is_some_and(|forecast| {
            let ahead = self.queue.ahead_of(class_of(element));
            forecast.is_too_late(now, ahead, element.meta.deadline)
        })
    }

    /// Whether there is too much to do elsewhere for a class that can be done later.
    fn defers_now(&self, now: Time, class: Class) -> bool {
        let (Some(pressure), Some(deferral)) = (&self.pressure, &self.deferral) else {
            return false;
        };
        self.queue.settings().policy(class) == WhenNoRoom::Defer
            && deferral.is_above(pressure.score(now))
    }

    /// Queues all of a chunk in one step, if nothing has to be decided about any of its elements:
    /// there is room for all, none is too late, and none is to be put aside.
    fn offer_all(&mut self, now: Time, chunk: &mut Chunk<T>) -> bool
    where
        T: 'static,
    {
        let earliest = chunk.columns.earliest_deadline();
        if earliest != Time::MAX {
            let ahead = self.queue.len() + chunk.len();
            let late = |forecast: &Forecast| forecast.is_too_late(now, ahead, earliest);
            if earliest <= now || self.forecast.as_ref().is_some_and(late) {
                return false;
            }
        }
        let added = chunk.columns.by_class();
        let mut classes = (0..Class::COUNT as u8).filter_map(Class::new);
        if self.pressure.is_some()
            && classes.any(|class| added[class.index()].0 > 0 && self.defers_now(now, class))
        {
            return false;
        }
        self.queue.offer_all(&added, |lanes| {
            Lane::append(lanes, now, chunk, &added);
        })
    }

    /// Offers an element to the queue. It comes back if it is to wait, with the time at which it has
    /// waited enough.
    fn offer(
        &mut self,
        now: Time,
        since: Time,
        element: Element<T>,
        leaves: &mut Leaves<T>,
    ) -> Option<(Element<T>, Time)> {
        if element.meta.deadline <= now || self.is_too_late(now, &element) {
            leaves.settle(element, Outcome::Expired);
            return None;
        }
        if self.defers_now(now, class_of(&element)) {
            self.leave(now, element, Way::Defer, Reason::NoRoom, leaves);
            return None;
        }
        let offer = Offer::new(class_of(&element), bytes_of(&element), since);
        let placed = self.queue.offer(now, offer, element, &mut self.evicted);
        let mut evicted = std::mem::take(&mut self.evicted);
        for Evicted { entry, to } in evicted.drain(..) {
            self.leave(now, entry.payload, to.into(), Reason::Evicted, leaves);
        }
        self.evicted = evicted;
        match placed {
            Placed::Queued => {}
            Placed::Wait(element, until) => return Some((element, until)),
            Placed::Refused(element, _) => {
                leaves.settle(element, Outcome::Shed(Reason::NoRoom));
            }
            Placed::Defer(element) => {
                self.leave(now, element, Way::Defer, Reason::NoRoom, leaves);
            }
            Placed::Divert(element) => {
                self.leave(now, element, Way::Divert, Reason::NoRoom, leaves);
            }
        }
        None
    }

    fn leave(
        &mut self,
        now: Time,
        element: Element<T>,
        way: Way,
        why: Reason,
        leaves: &mut Leaves<T>,
    ) {
        match (way, &mut self.deferral) {
            (Way::Divert, _) => leaves.diverted.push(element),
            (Way::Defer, Some(deferral)) => {
                let facts = Deferred::new(class_of(&element), bytes_of(&element))
                    .deadline(element.meta.deadline);
                let mut spilled = Vec::new();
                if let Err(element) = deferral.defer(now, facts, element, &mut spilled) {
                    leaves.settle(element, Outcome::Shed(Reason::NoRoom));
                }
                // The oldest made way for it.
                let spilled = spilled.into_iter().map(|aside| aside.payload);
                leaves.diverted.extend(spilled);
            }
            _ => leaves.settle(element, Outcome::Shed(why)),
        }
    }

    /// How full the queue is, or how great the pressure, whichever is more: 0 to 1.
    fn pressure(&self, now: Time) -> f64 {
        let fullness = self.queue.len() as f64 / self.queue.settings().max_items() as f64;
        let outside = self.pressure.as_ref().map(|pressure| pressure.score(now));
        fullness.max(outside.unwrap_or(0.0))
    }

    /// Offers again what was put aside, as far as there is room and time for it.
    fn reoffer(&mut self, now: Time, leaves: &mut Leaves<T>) {
        loop {
            let pressure = self.pressure(now);
            let Some(deferral) = &mut self.deferral else {
                return;
            };
            match deferral.next(now, pressure) {
                None => return,
                Some(Leaving::Expire(aside)) => leaves.settle(aside.payload, Outcome::Expired),
                Some(Leaving::Spill(aside)) => self.spilled.push(aside.payload),
                Some(Leaving::Reoffer(aside)) => {
                    if self.queue.has_room(aside.facts.class, aside.facts.bytes) {
                        let offer = Offer::new(aside.facts.class, aside.facts.bytes, now);
                        let _ = self
                            .queue
                            .offer(now, offer, aside.payload, &mut self.evicted);
                        continue;
                    }
                    match deferral.put_back(aside) {
                        None => return,
                        Some(Leaving::Spill(aside)) => self.spilled.push(aside.payload),
                        Some(Leaving::Reoffer(aside) | Leaving::Expire(aside)) => {
                            leaves.settle(aside.payload, Outcome::Expired);
                        }
                    }
                }
            }
        }
    }

    /// Takes out what is held of a source, or all.
    fn remove(&mut self, of: Option<SourceId>, outcome: Outcome, leaves: &mut Leaves<T>) {
        let is_out =
            |element: &Element<T>| of.is_none_or(|source| element.meta.receipt.is_of(source));
        for entry in self.queue.remove(|entry| is_out(&entry.payload)) {
            leaves.settle(entry.payload, outcome);
        }
        if let Some(deferral) = &mut self.deferral {
            for aside in deferral.remove(|aside| is_out(&aside.payload)) {
                leaves.settle(aside.payload, outcome);
            }
        }
        for element in std::mem::take(&mut self.spilled) {
            if is_out(&element) {
                leaves.settle(element, outcome);
            } else {
                self.spilled.push(element);
            }
        }
    }
}

/// Where an element goes for which there is no room.
enum Way {
    Shed,
    Defer,
    Divert,
}

impl From<crate::control::Away> for Way {
    fn from(away: crate::control::Away) -> Way {
        match away {
            crate::control::Away::Shed => Way::Shed,
            crate::control::Away::Defer => Way::Defer,
            crate::control::Away::Divert => Way::Divert,
        }
    }
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
}

impl<T> Policies<T> {
    /// Why there cannot be such a buffer, if there cannot.
    pub(crate) fn new(buffer: &ClassBuffer, has_side: bool) -> Result<Policies<T>, String> {
        let make = || -> Result<Policies<T>, Invalid> {
            let codel = |(target, interval)| {
                let codel = Codel::new(target, interval)?;
                Ok(std::array::from_fn(|_| codel.clone()))
            };
            let deferral = |settings| Deferral::new(settings, Time::ZERO);
            Ok(Policies {
                queue: PriorityQueue::with_lanes(buffer.settings)?,
                deferral: buffer.deferral.map(deferral).transpose()?,
                codel: buffer.stale.map(codel).transpose()?,
                admission: buffer.admission.clone(),
                pressure: buffer.pressure.clone(),
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
            queue: policies.queue,
            deferral: policies.deferral,
            codel: policies.codel,
            marks: Vec::new(),
            waiting: Held::NONE,
            aside: false,
            evicted: Vec::new(),
            spilled: Vec::new(),
            forecast: None,
            pressure: policies.pressure,
            link: Link::default(),
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
