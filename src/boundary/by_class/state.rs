//! What is behind the lock of a boundary by class: its queue, and what its policies come to.

use std::sync::Arc;
use std::time::Duration;

use super::lane::Lane;
use super::leaves::Leaves;
use super::policy::Key;
use super::{ClassQueueSnapshot, Lanes, MOSTLY, bytes_of, class_of};
use crate::boundary::link::Link;
use crate::chunk::{ByClass, Chunk, Element};
use crate::class::Class;
use crate::control::{
    Away, Codel, Deferral, Deferred, Evicted, Forecast, Leaving, Offer, Placed, PressureHandle,
    WhenNoRoom,
};
use crate::operator::{Held, guard};
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::time::Time;

pub(super) struct State<T> {
    pub(super) queue: Lanes<T>,
    pub(super) deferral: Option<Deferral<Element<T>>>,
    /// One for each class: under strict order the wait of one says nothing of another's.
    pub(super) codel: Option<[Codel; Class::COUNT]>,
    /// Marks at the head of all elements: the producer waited until there was none before them.
    pub(super) marks: Vec<crate::mark::Mark>,
    /// With the producer, waiting for room or for the side output: they count as inside.
    pub(super) waiting: Held,
    /// Something is put aside that the consumer was woken for.
    pub(super) aside: bool,
    pub(super) evicted: Vec<Evicted<Element<T>>>,
    /// Spilled when they were looked at from downstream: the producer has the side output.
    pub(super) spilled: Vec<Element<T>>,
    /// What an element that comes now has to expect, where that is known.
    pub(super) forecast: Option<Forecast>,
    pub(super) pressure: Option<PressureHandle>,
    /// The key within which order is kept through deferral.
    pub(super) key: Option<Arc<Key<T>>>,
    pub(super) link: Link,
}

/// What is to be known of a chunk that comes.
pub(super) struct Arrivals {
    by_class: ByClass,
    earliest_deadline: Time,
}

impl Arrivals {
    pub(super) fn of<T>(chunk: &Chunk<T>) -> Arrivals {
        Arrivals {
            by_class: chunk.columns.by_class(),
            earliest_deadline: chunk.columns.earliest_deadline(),
        }
    }

    fn items(&self) -> usize {
        self.by_class.iter().map(|(items, _)| items).sum()
    }

    /// Whether they come in where there are so many places, as far as is known without the lock.
    pub(super) fn fit_in(&self, free: usize) -> bool {
        self.items() <= free && self.earliest_deadline == Time::MAX
    }
}

impl<T> State<T> {
    /// Without any policy but the queue's.
    pub(super) fn new(queue: Lanes<T>) -> State<T> {
        State {
            queue,
            deferral: None,
            codel: None,
            marks: Vec::new(),
            waiting: Held::NONE,
            aside: false,
            evicted: Vec::new(),
            spilled: Vec::new(),
            forecast: None,
            pressure: None,
            key: None,
            link: Link::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.has_none_aside() && self.spilled.is_empty()
    }

    pub(super) fn has_none_aside(&self) -> bool {
        self.deferral.as_ref().is_none_or(Deferral::is_empty)
    }

    pub(super) fn snapshot(&self) -> ClassQueueSnapshot {
        ClassQueueSnapshot {
            queue: self.queue.snapshot(),
            deferral: self.deferral.as_ref().map(Deferral::snapshot),
            waiting: self.waiting.items,
        }
    }

    /// Elements queued and put aside.
    pub(super) fn held(&self) -> usize {
        self.queue.len() + self.deferral.as_ref().map_or(0, Deferral::len)
    }

    /// What is begun now is mostly served by then: it is in vain to begin what must be done before.
    /// While there is room for everybody an element is given its chance.
    pub(super) fn served_by(&self, now: Time) -> Time {
        match &self.forecast {
            Some(forecast) if self.queue.is_overloaded() => now + forecast.service * MOSTLY,
            _ => now,
        }
    }

    /// Whether so many elements of a class that waited equally long are given up instead of served, and
    /// of how many of them that is said. While a lower class is held nobody is.
    pub(super) fn judge(
        &mut self,
        now: Time,
        class: Class,
        wait: Duration,
        count: usize,
    ) -> (bool, usize) {
        let Some(codel) = &mut self.codel else {
            return (false, count);
        };
        let (stale, count) = codel[class.index()].are_stale(now, wait, count);
        (stale && !self.queue.holds_below(class), count)
    }

    /// Whether its deadline has passed, or will have when it is served.
    fn is_too_late(&self, now: Time, element: &Element<T>) -> bool {
        let deadline = element.meta.deadline;
        let late = |forecast: &Forecast| {
            let ahead = self.queue.ahead_of(class_of(element));
            forecast.is_too_late(now, ahead, deadline)
        };
        deadline != Time::MAX && (deadline <= now || self.forecast.as_ref().is_some_and(late))
    }

    /// Whether there is too much to do elsewhere for a class that can be done later.
    fn defers_now(&self, now: Time, class: Class) -> bool {
        let (Some(pressure), Some(deferral)) = (&self.pressure, &self.deferral) else {
            return false;
        };
        self.queue.settings().policy(class) == WhenNoRoom::Defer
            && deferral.is_above(pressure.score(now))
    }

    /// Whether nothing has to be decided about any element of a chunk: there is room for all, none is
    /// too late, and none is to be put aside.
    pub(super) fn takes_all(&self, now: Time, chunk: &Arrivals) -> bool {
        if self.key.is_some() && !self.has_none_aside() {
            return false;
        }
        let earliest = chunk.earliest_deadline;
        if earliest != Time::MAX {
            let ahead = self.queue.len() + chunk.items();
            let late = |forecast: &Forecast| forecast.is_too_late(now, ahead, earliest);
            if earliest <= now || self.forecast.as_ref().is_some_and(late) {
                return false;
            }
        }
        let mut classes = (0..Class::COUNT as u8).filter_map(Class::new);
        let has = |class: Class| chunk.by_class[class.index()].0 > 0;
        self.queue.fits_all(&chunk.by_class)
            && (self.pressure.is_none()
                || !classes.any(|class| has(class) && self.defers_now(now, class)))
    }

    /// Queues all of a chunk that was parted by class.
    pub(super) fn take_all(
        &mut self,
        now: Time,
        chunk: &Arrivals,
        parts: &mut [Chunk<T>; Class::COUNT],
    ) {
        let put = |lanes: &mut _| Lane::append(lanes, now, parts);
        self.queue.add_all(&chunk.by_class, put);
    }

    /// Offers an element to the queue. It comes back if it is to wait, with the time at which it has
    /// waited enough.
    pub(super) fn offer(
        &mut self,
        now: Time,
        since: Time,
        element: Element<T>,
        leaves: &mut Leaves<T>,
    ) -> Option<(Element<T>, Time)> {
        if self.is_too_late(now, &element) {
            leaves.settle(element, Outcome::Expired);
            return None;
        }
        if self.defers_now(now, class_of(&element)) {
            self.leave(now, element, Away::Defer, Reason::NoRoom, leaves);
            return None;
        }
        if self.key.is_some() && !self.has_none_aside() {
            let Ok(key) = key_of(self.key.as_deref(), &element) else {
                leaves.settle(element, Outcome::Failed(Reason::Panicked));
                return None;
            };
            let deferral = self.deferral.as_ref();
            if key.is_some_and(|key| deferral.is_some_and(|aside| aside.must_defer(key))) {
                self.put_aside(now, element, key, leaves);
                return None;
            }
        }
        let offer = Offer::new(class_of(&element), bytes_of(&element), since);
        let placed = self.queue.offer(now, offer, element, &mut self.evicted);
        self.lead_away(now, leaves);
        match placed {
            Placed::Queued => {}
            Placed::Wait(element, until) => return Some((element, until)),
            Placed::Refused(element, _) => {
                leaves.settle(element, Outcome::Shed(Reason::NoRoom));
            }
            Placed::Defer(element) => {
                self.leave(now, element, Away::Defer, Reason::NoRoom, leaves);
            }
            Placed::Divert(element) => {
                self.leave(now, element, Away::Divert, Reason::NoRoom, leaves);
            }
        }
        None
    }

    /// Lets those go that made way.
    fn lead_away(&mut self, now: Time, leaves: &mut Leaves<T>) {
        let mut evicted = std::mem::take(&mut self.evicted);
        let (mut place, mut followed) = (0, Vec::new());
        for Evicted { entry, to } in evicted.drain(..) {
            if self.key.is_none() || to != Away::Defer {
                self.leave(now, entry.payload, to, Reason::Evicted, leaves);
            } else {
                let class = entry.offer.class;
                let key = self.put_before(now, &mut place, entry.payload, leaves);
                followed.extend(key.map(|key| (class, key)));
            }
        }
        self.evicted = evicted;
        // What is queued behind them of their keys would pass them.
        for (class, key) in followed {
            let of = self.key.clone();
            let follows = |element: &Element<T>| key_of(of.as_deref(), element) == Ok(Some(key));
            for entry in self.queue.evict(class, |entry| follows(&entry.payload)) {
                self.put_before(now, &mut place, entry.payload, leaves);
            }
        }
    }

    /// Puts aside what was queued, before what of its key was put aside instead of being queued, and
    /// behind so many that made way before it. Returns its key, unless it had to leave.
    fn put_before(
        &mut self,
        now: Time,
        place: &mut usize,
        element: Element<T>,
        leaves: &mut Leaves<T>,
    ) -> Option<u64> {
        let Ok(key) = key_of(self.key.as_deref(), &element) else {
            leaves.settle(element, Outcome::Failed(Reason::Panicked));
            return None;
        };
        let facts = facts_of(&element, key);
        match self
            .deferral
            .as_mut()?
            .defer_at(*place, now, facts, element)
        {
            Ok(()) => {
                *place += 1;
                key
            }
            Err(element) => {
                leaves.settle(element, Outcome::Shed(Reason::NoRoom));
                None
            }
        }
    }

    /// Lets an element go that way.
    fn leave(
        &mut self,
        now: Time,
        element: Element<T>,
        way: Away,
        why: Reason,
        leaves: &mut Leaves<T>,
    ) {
        match way {
            Away::Divert => leaves.diverted.push(element),
            Away::Defer if self.deferral.is_some() => match key_of(self.key.as_deref(), &element) {
                Ok(key) => self.put_aside(now, element, key, leaves),
                Err(_) => leaves.settle(element, Outcome::Failed(Reason::Panicked)),
            },
            _ => leaves.settle(element, Outcome::Shed(why)),
        }
    }

    fn put_aside(
        &mut self,
        now: Time,
        element: Element<T>,
        key: Option<u64>,
        leaves: &mut Leaves<T>,
    ) {
        let Some(deferral) = &mut self.deferral else {
            return;
        };
        let facts = facts_of(&element, key);
        let mut spilled = Vec::new();
        if let Err(element) = deferral.defer(now, facts, element, &mut spilled) {
            leaves.settle(element, Outcome::Shed(Reason::NoRoom));
        }
        // The oldest made way for it.
        let spilled = spilled.into_iter().map(|aside| aside.payload);
        leaves.diverted.extend(spilled);
    }

    /// How full the queue is, or how great the pressure, whichever is more: 0 to 1.
    fn pressure(&self, now: Time) -> f64 {
        let fullness = self.queue.len() as f64 / self.queue.settings().max_items() as f64;
        let outside = self.pressure.as_ref().map(|pressure| pressure.score(now));
        fullness.max(outside.unwrap_or(0.0))
    }

    /// Offers again what was put aside, as far as there is room and time for it.
    pub(super) fn reoffer(&mut self, now: Time, leaves: &mut Leaves<T>) {
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
    pub(super) fn remove(
        &mut self,
        of: Option<SourceId>,
        outcome: Outcome,
        leaves: &mut Leaves<T>,
    ) {
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

fn facts_of<T>(element: &Element<T>, key: Option<u64>) -> Deferred {
    let deadline = element.meta.deadline;
    Deferred {
        key,
        ..Deferred::new(class_of(element), bytes_of(element)).deadline(deadline)
    }
}

/// The key within which an element's order is kept, if it is; or with what the closure panicked.
fn key_of<T>(key: Option<&Key<T>>, element: &Element<T>) -> Result<Option<u64>, String> {
    let Some(key) = key else {
        return Ok(None);
    };
    // Classes pass one another in any case.
    let of_class = (class_of(element).index() as u64).rotate_right(3);
    let key = guard(|| key(&element.value))?;
    Ok(Some(key.wrapping_add(of_class)))
}
