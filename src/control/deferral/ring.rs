//! The ring, and what leaves it.

use std::collections::VecDeque;

use crate::class::Class;
use crate::control::{Adjustment, History, Invalid, Throttle, ThrottleMode, Throttled};
use crate::time::Time;

use super::DeferralSettings;
use super::keys::Keys;

/// What is known of an element that is put aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deferred {
    /// How dear it is.
    pub class: Class,
    /// Its size.
    pub bytes: u64,
    /// Its key, as a number, where order per key matters.
    pub key: Option<u64>,
    /// When it is too late for it.
    pub deadline: Time,
}

impl Deferred {
    /// An element of that class and size, without key and deadline.
    #[must_use]
    pub fn new(class: Class, bytes: u64) -> Deferred {
        Deferred {
            class,
            bytes,
            key: None,
            deadline: Time::MAX,
        }
    }

    /// Its key: a hash of it will do, two keys with the same number only wait for one another.
    #[must_use]
    pub fn key(mut self, key: u64) -> Deferred {
        self.key = Some(key);
        self
    }

    /// When it is too late for it.
    #[must_use]
    pub fn deadline(mut self, deadline: Time) -> Deferred {
        self.deadline = deadline;
        self
    }
}

/// An element that was put aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aside<P> {
    /// The element.
    pub payload: P,
    /// What is known of it.
    pub facts: Deferred,
    /// Since when it is put aside.
    pub since: Time,
    /// It was put aside as long as it may: this is its last offer.
    pub is_overdue: bool,
}

/// How an element leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "an element is in here"]
pub enum Leaving<P> {
    /// It is offered again. If it is not taken, it is [put back](Deferral::put_back).
    Reoffer(Aside<P>),
    /// It goes to the place outside memory.
    Spill(Aside<P>),
    /// It was put aside for too long, or its deadline has passed.
    Expire(Aside<P>),
}

/// How a deferral stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeferralSnapshot {
    /// Elements held.
    pub items: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The most elements it ever held.
    pub peak_items: usize,
    /// The most bytes it ever held.
    pub peak_bytes: u64,
    /// Elements are being offered again.
    pub is_reoffering: bool,
    /// Elements that were put aside, by the number of their class.
    pub deferred: [u64; Class::COUNT],
    /// Elements that were not, because there was no room.
    pub refused: u64,
    /// Times an element was offered again.
    pub reoffered: u64,
    /// Times one of those came back.
    pub put_back: u64,
    /// Elements that went to the place outside.
    pub spilled: u64,
    /// Elements that expired.
    pub expired: u64,
    /// Elements that were removed.
    pub removed: u64,
}

/// Elements that are put aside until there is less to do. See the [module](super).
#[derive(Debug)]
pub struct Deferral<P> {
    settings: DeferralSettings,
    ring: VecDeque<Aside<P>>,
    keys: Keys,
    pace: Throttle,
    /// When the pace lets the next one pass, as far as is known.
    paced_until: Time,
    is_reoffering: bool,
    is_draining: bool,
    seen: DeferralSnapshot,
    history: History,
}

impl<P> Deferral<P> {
    /// Holds nothing.
    ///
    /// # Errors
    /// As [`DeferralSettings::check`] and, for the rate, [`Throttle::new`].
    pub fn new(settings: DeferralSettings, now: Time) -> Result<Deferral<P>, Invalid> {
        settings.check()?;
        let mode = ThrottleMode::Shaping;
        Ok(Deferral {
            settings,
            ring: VecDeque::new(),
            keys: Keys::new(),
            pace: Throttle::new(settings.rate_per_s, settings.burst, mode, now)?,
            paced_until: Time::ZERO,
            is_reoffering: false,
            is_draining: false,
            seen: DeferralSnapshot::default(),
            history: History::default(),
        })
    }

    /// Whether an element of that key must be put aside, because one of its key is. Never without
    /// [`DeferralSettings::order_per_key`].
    #[must_use]
    pub fn must_defer(&self, key: u64) -> bool {
        self.settings.order_per_key && (self.keys.holds(key) || self.keys.spilled(key))
    }

    /// Puts an element aside. What must leave for it, oldest first, is added to `spilled`.
    ///
    /// # Errors
    /// There is no room and no place outside: the element is handed back.
    pub fn defer(
        &mut self,
        now: Time,
        facts: Deferred,
        payload: P,
        spilled: &mut Vec<Aside<P>>,
    ) -> Result<(), P> {
        while !self.has_room(facts.bytes) {
            let oldest = self.settings.spill.then(|| self.pop()).flatten();
            let Some(oldest) = oldest else {
                self.seen.refused += 1;
                return Err(payload);
            };
            self.note_spilled(&oldest);
            spilled.push(oldest);
        }
        self.insert(self.ring.len(), now, facts, payload);
        Ok(())
    }

    /// Puts an element aside that came before all that are, but for so many at the front: what was
    /// queued, and made way. It stays no longer than the one behind it may.
    ///
    /// # Errors
    /// There is no room: the element is handed back.
    pub(crate) fn defer_at(
        &mut self,
        place: usize,
        now: Time,
        facts: Deferred,
        payload: P,
    ) -> Result<(), P> {
        if !self.has_room(facts.bytes) {
            self.seen.refused += 1;
            return Err(payload);
        }
        let place = place.min(self.ring.len());
        let since = self.ring.get(place).map_or(now, |next| next.since);
        self.insert(place, since, facts, payload);
        Ok(())
    }

    fn insert(&mut self, place: usize, since: Time, facts: Deferred, payload: P) {
        self.keys.came(facts.key);
        self.seen.deferred[facts.class.index()] += 1;
        self.seen.items += 1;
        self.seen.bytes += facts.bytes;
        let aside = Aside {
            payload,
            facts,
            since,
            is_overdue: false,
        };
        self.ring.insert(place, aside);
        self.note_peak();
    }

    /// Whether an element of that size could be put aside without another one leaving.
    #[must_use]
    pub fn has_room(&self, bytes: u64) -> bool {
        let held = self.seen.bytes.saturating_add(bytes);
        self.ring.len() < self.settings.items
            && (self.ring.is_empty() || held <= self.settings.bytes)
    }

    fn note_peak(&mut self) {
        self.seen.peak_items = self.seen.peak_items.max(self.seen.items);
        self.seen.peak_bytes = self.seen.peak_bytes.max(self.seen.bytes);
    }

    fn note_spilled(&mut self, aside: &Aside<P>) {
        self.keys.spill(aside.facts.key);
        self.seen.spilled += 1;
    }

    /// Takes the oldest out.
    fn pop(&mut self) -> Option<Aside<P>> {
        let oldest = self.ring.pop_front()?;
        self.left(&oldest);
        Some(oldest)
    }

    fn left(&mut self, aside: &Aside<P>) {
        self.keys.left(aside.facts.key);
        self.seen.items -= 1;
        self.seen.bytes -= aside.facts.bytes;
    }

    /// The element that leaves now, if one does. Ask again until none does.
    pub fn next(&mut self, now: Time, pressure: f64) -> Option<Leaving<P>> {
        self.feel(now, pressure);
        let oldest = self.ring.front()?;
        if now >= oldest.facts.deadline {
            let late = self.pop()?;
            self.seen.expired += 1;
            return Some(Leaving::Expire(late));
        }
        if self.follows(oldest) {
            let follower = self.pop()?;
            self.note_spilled(&follower);
            return Some(Leaving::Spill(follower));
        }
        let is_overdue = now >= oldest.since + self.settings.ttl;
        if !is_overdue && !self.is_draining {
            if !self.is_reoffering {
                return None;
            }
            if let Throttled::Wait(wait) = self.pace.ask(now, 1) {
                self.paced_until = now + wait;
                return None;
            }
        }
        let mut oldest = self.pop()?;
        oldest.is_overdue = is_overdue;
        self.seen.reoffered += 1;
        Some(Leaving::Reoffer(oldest))
    }

    /// Whether one of its key is in the place outside, before it.
    fn follows(&self, aside: &Aside<P>) -> bool {
        let is_outside = |key| self.keys.spilled(key);
        self.settings.order_per_key && aside.facts.key.is_some_and(is_outside)
    }

    /// Whether elements are offered again at that pressure.
    fn feel(&mut self, now: Time, pressure: f64) {
        let (is_reoffering, because) = if self.is_reoffering {
            let stays = pressure < self.settings.until;
            (stays, "the pressure is back")
        } else {
            let starts = pressure < self.settings.below;
            (starts, "the pressure has fallen")
        };
        self.history.add(Adjustment {
            at: now,
            what: "reoffering",
            from: f64::from(u8::from(self.is_reoffering)),
            to: f64::from(u8::from(is_reoffering)),
            because,
        });
        self.is_reoffering = is_reoffering;
    }

    /// An element that was offered again was not taken. It goes to the front again, before anything
    /// else is asked of the ring; or it leaves, if that was its last offer (or there is no room, which
    /// cannot be if nothing else was asked in between).
    pub fn put_back(&mut self, aside: Aside<P>) -> Option<Leaving<P>> {
        self.seen.put_back += 1;
        if aside.is_overdue || !self.has_room(aside.facts.bytes) {
            if self.settings.spill {
                self.note_spilled(&aside);
                return Some(Leaving::Spill(aside));
            }
            self.seen.expired += 1;
            return Some(Leaving::Expire(aside));
        }
        self.keys.came(aside.facts.key);
        self.seen.items += 1;
        self.seen.bytes += aside.facts.bytes;
        self.ring.push_front(aside);
        self.note_peak();
        None
    }

    /// When to ask for the [next](Deferral::next) at last, though the pressure stay as it is. `None`
    /// while nothing is held.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        let oldest = self.ring.front()?;
        if self.is_draining || self.follows(oldest) {
            return Some(Time::ZERO);
        }
        let due = oldest.facts.deadline.min(oldest.since + self.settings.ttl);
        Some(if self.is_reoffering {
            due.min(self.paced_until)
        } else {
            due
        })
    }

    /// Offers everything again, whatever the pressure and the rate: the run is to end.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// The place outside is empty, and all that was in it was taken: keys are free again.
    pub fn spill_is_empty(&mut self) {
        self.keys.forget_spilled();
    }

    /// Takes out the elements for which the closure says so, oldest first: what a source has lost its
    /// claim on, or all that is held when a run ends.
    pub fn remove(&mut self, mut is_out: impl FnMut(&Aside<P>) -> bool) -> Vec<Aside<P>> {
        let mut out = Vec::new();
        for _ in 0..self.ring.len() {
            let Some(aside) = self.ring.pop_front() else {
                break;
            };
            if is_out(&aside) {
                self.left(&aside);
                self.seen.removed += 1;
                out.push(aside);
            } else {
                self.ring.push_back(aside);
            }
        }
        out
    }

    /// Elements held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether that pressure is too great to offer anything again.
    #[must_use]
    pub fn is_above(&self, pressure: f64) -> bool {
        pressure >= self.settings.until
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// When it began and ceased to offer elements again.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> DeferralSnapshot {
        DeferralSnapshot {
            is_reoffering: self.is_reoffering,
            ..self.seen
        }
    }
}
