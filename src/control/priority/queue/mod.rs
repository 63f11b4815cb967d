//! The lanes, and the decision of an offer.

mod bulk;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid, Scheduler, Turn};
use crate::time::Time;

use super::{
    Away, Entry, Evicted, LaneOrder, LaneSnapshot, Offer, OfferRefusal, Placed, PrioritySettings,
    PrioritySnapshot, Served, Store, Victims, WhenNoRoom,
};

/// A bounded queue that serves the dearest first and gives up the cheapest. See the [module](super).
///
/// `S` is how the elements of one class lie: one by one here, in columns where a boundary keeps them.
#[derive(Clone, Debug)]
pub struct PriorityQueue<P, S = VecDeque<Entry<P>>> {
    settings: PrioritySettings,
    /// Of each class, the oldest in front, but for what comes back from elsewhere.
    lanes: [S; Class::COUNT],
    seen: [LaneSnapshot; Class::COUNT],
    /// Bit `n` is set if lane `n` holds something.
    waiting: u8,
    /// Bit `n` is set if elements of class `n` may make way.
    evictable: u8,
    scheduler: Scheduler,
    items: usize,
    bytes: u64,
    peak_items: usize,
    peak_bytes: u64,
    next_number: u64,
    overloaded: bool,
    history: History,
    payload: PhantomData<fn() -> P>,
}

/// The classes whose bits are set, the highest first.
fn classes(mut bits: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let class = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (class < Class::COUNT).then_some(class)
    })
}

/// Since when the oldest of that lane waits.
fn oldest<P, S: Store<P>>(lanes: &[S; Class::COUNT], class: Class) -> Time {
    let front = lanes[class.index()].front();
    front.map_or(Time::MAX, |front| front.since)
}

impl<P> PriorityQueue<P> {
    /// An empty queue.
    ///
    /// # Errors
    /// As [`PrioritySettings::check`].
    pub fn new(settings: PrioritySettings) -> Result<PriorityQueue<P>, Invalid> {
        PriorityQueue::with_lanes(settings)
    }
}

impl<P, S: Store<P>> PriorityQueue<P, S> {
    /// An empty queue whose elements lie that way.
    pub(crate) fn with_lanes(settings: PrioritySettings) -> Result<PriorityQueue<P, S>, Invalid> {
        settings.check()?;
        Ok(PriorityQueue {
            settings,
            lanes: std::array::from_fn(|_| S::default()),
            seen: [LaneSnapshot::default(); Class::COUNT],
            waiting: 0,
            evictable: (0..Class::COUNT)
                .filter(|class| settings.evictable[*class])
                .fold(0, |bits, class| bits | 1 << class),
            scheduler: Scheduler::new(settings.aging)?,
            items: 0,
            bytes: 0,
            peak_items: 0,
            peak_bytes: 0,
            next_number: 0,
            overloaded: false,
            history: History::default(),
            payload: PhantomData,
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
            let seen = &mut self.seen[at];
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
        self.lanes[offer.class.index()].push_back(Entry {
            payload,
            offer,
            number: self.next_number,
        });
        // Asked only where the oldest of all classes makes way.
        self.next_number += u64::from(self.settings.victims == Victims::Oldest);
        self.came(offer.class.index(), 1, offer.bytes);
        self.note_peak();
    }

    /// So many elements of that class are held more.
    fn came(&mut self, class: usize, count: usize, bytes: u64) {
        self.waiting |= 1 << class;
        let seen = &mut self.seen[class];
        seen.queued += count as u64;
        seen.items += count;
        seen.bytes += bytes;
        self.items += count;
        self.bytes += bytes;
    }

    fn note_peak(&mut self) {
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
            held += self.seen[class].items;
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
        let victims = u8::MAX.checked_shl(from as u32).unwrap_or(0) & self.evictable;
        let (mut items, mut bytes) = (0, 0);
        for class in classes(self.waiting & victims) {
            items += self.seen[class].items;
            bytes += self.seen[class].bytes;
        }
        if items == 0 || !self.would_fit(at, offer.bytes, items, bytes) {
            return false;
        }
        while !self.has_room(offer.class, offer.bytes) {
            let Some(entry) = self.victim(victims) else {
                return false;
            };
            let seen = &mut self.seen[entry.offer.class.index()];
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
    fn victim(&mut self, victims: u8) -> Option<Entry<P>> {
        let held = classes(self.waiting & victims);
        let class = match self.settings.victims {
            Victims::LowestClass => held.last()?,
            Victims::Oldest => held.min_by_key(|class| self.lanes[*class].front_number())?,
        };
        let entry = self.lanes[class].pop_front()?;
        self.left(class, 1, entry.offer.bytes);
        Some(entry)
    }

    /// So many elements of that class are no longer held.
    fn left(&mut self, class: usize, count: usize, bytes: u64) {
        let seen = &mut self.seen[class];
        seen.items -= count;
        seen.bytes -= bytes;
        if seen.items == 0 {
            self.waiting &= !(1 << class);
        }
        self.items -= count;
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
        if self.newest_first(class) {
            self.lanes[class].back()
        } else {
            self.lanes[class].front()
        }
    }

    /// Takes out the element whose turn it is.
    pub fn pop(&mut self, now: Time) -> Option<Served<P>> {
        let since = |class| oldest(&self.lanes, class);
        let turn = self.scheduler.next(now, self.waiting, since)?;
        let class = turn.class.index();
        let newest_first = self.newest_first(class);
        let lane = &mut self.lanes[class];
        let entry = if newest_first {
            lane.pop_back()?
        } else {
            lane.pop_front()?
        };
        self.served(turn, 1, entry.offer.bytes);
        Some(Served {
            entry,
            aged: turn.aged,
        })
    }

    fn served(&mut self, turn: Turn, count: usize, bytes: u64) {
        let class = turn.class.index();
        self.left(class, count, bytes);
        let seen = &mut self.seen[class];
        seen.served += count as u64;
        seen.aged += if turn.aged { count as u64 } else { 0 };
    }

    /// Takes out the elements for which the closure says so, the highest class first, in the order
    /// of their arrival.
    pub fn remove(&mut self, mut is_out: impl FnMut(&Entry<P>) -> bool) -> Vec<Entry<P>> {
        let mut out = Vec::new();
        for class in 0..Class::COUNT {
            let before = out.len();
            self.take_out(class, &mut is_out, &mut out);
            self.seen[class].removed += (out.len() - before) as u64;
        }
        out
    }

    fn take_out(
        &mut self,
        class: usize,
        mut is_out: impl FnMut(&Entry<P>) -> bool,
        out: &mut Vec<Entry<P>>,
    ) {
        for _ in 0..self.seen[class].items {
            let Some(entry) = self.lanes[class].pop_front() else {
                return;
            };
            if is_out(&entry) {
                self.left(class, 1, entry.offer.bytes);
                out.push(entry);
            } else {
                self.lanes[class].push_back(entry);
            }
        }
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
        let above = self.seen.iter().take(class.index() + 1);
        above.map(|lane| lane.items).sum()
    }

    /// Whether an element of a lower class is held that could make way.
    #[must_use]
    pub fn holds_below(&self, class: Class) -> bool {
        let below = u8::MAX.checked_shl(class.index() as u32 + 1).unwrap_or(0);
        self.waiting & self.evictable & below != 0
    }

    /// How long the element that waits longest has waited, over all classes: what a queue delay is
    /// taken from. It looks at the front of each lane.
    #[must_use]
    pub fn longest_wait(&self, now: Time) -> Duration {
        let fronts = self.lanes.iter().filter_map(Store::front);
        let since = fronts.map(|front| front.since).min();
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
            lanes: self.seen,
        }
    }
}
