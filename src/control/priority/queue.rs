//! The lanes, and the decision of an offer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid, Scheduler};
use crate::time::Time;

use super::{
    Away, Entry, Evicted, LaneOrder, LaneSnapshot, Offer, OfferRefusal, Placed, PrioritySettings,
    PrioritySnapshot, Served, Victims, WhenNoRoom,
};

#[derive(Clone, Debug)]
struct Lane<P> {
    /// The oldest in front, but for what comes back from elsewhere.
    entries: VecDeque<Entry<P>>,
    seen: LaneSnapshot,
}

/// A bounded queue that serves the dearest first and gives up the cheapest. See the [module](super).
#[derive(Clone, Debug)]
pub struct PriorityQueue<P> {
    settings: PrioritySettings,
    lanes: [Lane<P>; Class::COUNT],
    /// Bit `n` is set if lane `n` holds something.
    waiting: u8,
    scheduler: Scheduler,
    items: usize,
    bytes: u64,
    peak_items: usize,
    peak_bytes: u64,
    next_number: u64,
    overloaded: bool,
    history: History,
}

/// Since when the oldest of that lane waits.
fn oldest<P>(lanes: &[Lane<P>; Class::COUNT], class: Class) -> Time {
    let front = lanes[class.index()].entries.front();
    front.map_or(Time::MAX, |entry| entry.offer.since)
}

impl<P> PriorityQueue<P> {
    /// An empty queue.
    ///
    /// # Errors
    /// As [`PrioritySettings::check`].
    pub fn new(settings: PrioritySettings) -> Result<PriorityQueue<P>, Invalid> {
        settings.check()?;
        Ok(PriorityQueue {
            settings,
            lanes: std::array::from_fn(|_| Lane {
                entries: VecDeque::new(),
                seen: LaneSnapshot::default(),
            }),
            waiting: 0,
            scheduler: Scheduler::new(settings.aging)?,
            items: 0,
            bytes: 0,
            peak_items: 0,
            peak_bytes: 0,
            next_number: 0,
            overloaded: false,
            history: History::default(),
        })
    }

    /// Offers an element. Elements that made way for it are added to `evicted`.
    pub fn offer(
        &mut self,
        now: Time,
        offer: Offer,
        payload: P,
        evicted: &mut Vec<Evicted<P>>,
    ) -> Placed<P> {
        let at = offer.class.index();
        if !self.has_room(offer.class, offer.bytes) && !self.make_way(offer, evicted) {
            let seen = &mut self.lanes[at].seen;
            return match self.settings.when_no_room[at] {
                WhenNoRoom::Wait(longest) if now.since(offer.since) < longest => {
                    seen.told_to_wait += 1;
                    Placed::Wait(payload, offer.since + longest)
                }
                WhenNoRoom::Wait(_) => {
                    seen.timed_out += 1;
                    Placed::Refused(payload, OfferRefusal::TimedOut)
                }
                WhenNoRoom::Evict | WhenNoRoom::Refuse => {
                    seen.refused += 1;
                    Placed::Refused(payload, OfferRefusal::NoRoom)
                }
                WhenNoRoom::Defer => {
                    seen.deferred += 1;
                    Placed::Defer(payload)
                }
                WhenNoRoom::Divert => {
                    seen.diverted += 1;
                    Placed::Divert(payload)
                }
            };
        }
        self.insert(offer, payload);
        Placed::Queued
    }

    fn insert(&mut self, offer: Offer, payload: P) {
        self.waiting |= 1 << offer.class.index();
        let lane = &mut self.lanes[offer.class.index()];
        lane.entries.push_back(Entry {
            payload,
            offer,
            number: self.next_number,
        });
        lane.seen.queued += 1;
        lane.seen.items += 1;
        lane.seen.bytes += offer.bytes;
        self.next_number += 1;
        self.items += 1;
        self.bytes += offer.bytes;
        self.peak_items = self.peak_items.max(self.items);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    /// Whether an element of that class and size fits now without anything making way.
    #[must_use]
    pub fn has_room(&self, class: Class, bytes: u64) -> bool {
        self.would_fit(class.index(), bytes, 0, 0)
    }

    /// Whether it fits once so much less is held of its class and those below.
    fn would_fit(&self, at: usize, bytes: u64, less_items: usize, less_bytes: u64) -> bool {
        let items = self.items - less_items;
        let held = self.bytes - less_bytes;
        items < self.settings.items
            && (items == 0 || held.saturating_add(bytes) <= self.settings.bytes)
            && self.has_place(at, less_items)
    }

    /// Whether each class that counts an element of that one has a place for it once so much less is
    /// held of it and those below.
    fn has_place(&self, at: usize, less_items: usize) -> bool {
        let Some(places) = &self.settings.places else {
            return true;
        };
        let mut held = 0;
        (0..Class::COUNT).rev().all(|class| {
            held += self.lanes[class].seen.items;
            class > at || held - less_items < places[class] as usize
        })
    }

    /// Evicts what must make way for the offer, if that makes room for it; else nothing.
    fn make_way(&mut self, offer: Offer, evicted: &mut Vec<Evicted<P>>) -> bool {
        let at = offer.class.index();
        let evicts = self.settings.when_no_room[at] == WhenNoRoom::Evict;
        let from = match self.settings.victims {
            Victims::LowestClass => at + usize::from(!evicts),
            Victims::Oldest if evicts => 0,
            Victims::Oldest => return false,
        };
        let victims = from..Class::COUNT;
        let (mut items, mut bytes) = (0, 0);
        for class in victims
            .clone()
            .filter(|class| self.settings.evictable[*class])
        {
            items += self.lanes[class].seen.items;
            bytes += self.lanes[class].seen.bytes;
        }
        if !self.would_fit(at, offer.bytes, items, bytes) {
            return false;
        }
        while !self.has_room(offer.class, offer.bytes) {
            let Some(entry) = self.victim(victims.clone()) else {
                return false;
            };
            let seen = &mut self.lanes[entry.offer.class.index()].seen;
            let to = match self.settings.when_no_room[entry.offer.class.index()] {
                WhenNoRoom::Defer => Away::Defer,
                WhenNoRoom::Divert => Away::Divert,
                _ => Away::Shed,
            };
            seen.evicted += u64::from(to == Away::Shed);
            seen.evicted_elsewhere += u64::from(to != Away::Shed);
            evicted.push(Evicted { entry, to });
        }
        true
    }

    /// Takes out the one that makes way next, of those classes.
    fn victim(&mut self, classes: std::ops::Range<usize>) -> Option<Entry<P>> {
        let mut held = classes
            .filter(|class| self.settings.evictable[*class])
            .filter_map(|class| {
                let front = self.lanes[class].entries.front()?;
                Some((class, front.number))
            });
        let (class, _) = match self.settings.victims {
            Victims::LowestClass => held.next_back()?,
            Victims::Oldest => held.min_by_key(|(_, number)| *number)?,
        };
        let entry = self.lanes[class].entries.pop_front()?;
        self.left(class, entry.offer.bytes);
        Some(entry)
    }

    /// An element of that class is no longer held.
    fn left(&mut self, class: usize, bytes: u64) {
        let seen = &mut self.lanes[class].seen;
        seen.items -= 1;
        seen.bytes -= bytes;
        if seen.items == 0 {
            self.waiting &= !(1 << class);
        }
        self.items -= 1;
        self.bytes -= bytes;
    }

    fn newest_first(&self, class: usize) -> bool {
        match self.settings.orders[class] {
            LaneOrder::Fifo => false,
            LaneOrder::Lifo => true,
            LaneOrder::Adaptive => self.overloaded,
        }
    }

    /// The element that would be served next: its class, its size, since when it waits.
    #[must_use]
    pub fn peek(&self, now: Time) -> Option<Offer> {
        let since = |class| oldest(&self.lanes, class);
        let turn = self.scheduler.peek(now, self.waiting, since)?;
        let class = turn.class.index();
        let entries = &self.lanes[class].entries;
        let entry = if self.newest_first(class) {
            entries.back()
        } else {
            entries.front()
        };
        entry.map(|entry| entry.offer)
    }

    /// Takes out the element whose turn it is.
    pub fn pop(&mut self, now: Time) -> Option<Served<P>> {
        let since = |class| oldest(&self.lanes, class);
        let turn = self.scheduler.next(now, self.waiting, since)?;
        let class = turn.class.index();
        let newest_first = self.newest_first(class);
        let entries = &mut self.lanes[class].entries;
        let entry = if newest_first {
            entries.pop_back()?
        } else {
            entries.pop_front()?
        };
        self.left(class, entry.offer.bytes);
        let seen = &mut self.lanes[class].seen;
        seen.served += 1;
        seen.aged += u64::from(turn.aged);
        Some(Served {
            entry,
            aged: turn.aged,
        })
    }

    /// Takes out the elements for which the closure says so, the highest class first, in the order
    /// of their arrival.
    pub fn remove(&mut self, mut is_out: impl FnMut(&Entry<P>) -> bool) -> Vec<Entry<P>> {
        let mut out = Vec::new();
        for class in 0..Class::COUNT {
            for _ in 0..self.lanes[class].entries.len() {
                let Some(entry) = self.lanes[class].entries.pop_front() else {
                    break;
                };
                if is_out(&entry) {
                    self.left(class, entry.offer.bytes);
                    self.lanes[class].seen.removed += 1;
                    out.push(entry);
                } else {
                    self.lanes[class].entries.push_back(entry);
                }
            }
        }
        out
    }

    /// Tells lanes in [adaptive order](LaneOrder::Adaptive) whether there is more than can be served.
    pub fn set_overloaded(&mut self, now: Time, overloaded: bool, because: &'static str) {
        if overloaded == self.overloaded {
            return;
        }
        self.history.add(Adjustment {
            at: now,
            what: "newest_first",
            from: f64::from(u8::from(self.overloaded)),
            to: f64::from(u8::from(overloaded)),
            because,
        });
        self.overloaded = overloaded;
    }

    /// What it was [told](PriorityQueue::set_overloaded) last.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Elements held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many elements are held that are served before one of that class that comes now (but for
    /// grants, and where its lane serves the newest first): those of its class and above.
    #[must_use]
    pub fn ahead_of(&self, class: Class) -> usize {
        let above = self.lanes.iter().take(class.index() + 1);
        above.map(|lane| lane.entries.len()).sum()
    }

    /// Whether an element of a lower class is held that could make way.
    #[must_use]
    pub fn holds_below(&self, class: Class) -> bool {
        let below = class.index() + 1..Class::COUNT;
        let mut could = below.filter(|class| self.settings.evictable[*class]);
        could.any(|class| !self.lanes[class].entries.is_empty())
    }

    /// How long the element that waits longest has waited, over all classes: what a queue delay is
    /// taken from. It looks at the front of each lane.
    #[must_use]
    pub fn longest_wait(&self, now: Time) -> Duration {
        let fronts = self.lanes.iter().filter_map(|lane| lane.entries.front());
        let since = fronts.map(|entry| entry.offer.since).min();
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether another order of service was told, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it was declared.
    #[must_use]
    pub fn settings(&self) -> &PrioritySettings {
        &self.settings
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> PrioritySnapshot {
        PrioritySnapshot {
            items: self.items,
            bytes: self.bytes,
            peak_items: self.peak_items,
            peak_bytes: self.peak_bytes,
            lanes: std::array::from_fn(|class| self.lanes[class].seen),
        }
    }
}
