//! What each class does when there is no room for it.

use std::time::Duration;

use crate::class::Class;
use crate::control::{Aging, Invalid};

/// What becomes of an element for which there is no room, after elements of lower classes have made
/// way as far as that helps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenNoRoom {
    /// The oldest of its own class makes way too.
    Evict,
    /// It waits for room, that long at most; then it is refused. [`Duration::MAX`] is back-pressure.
    Wait(Duration),
    /// It is refused at once.
    Refuse,
    /// It is deferred: served when there is less to do.
    Defer,
    /// It goes another way.
    Divert,
}

/// Who makes way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Victims {
    /// The oldest of the lowest class that is held, for any element of a higher class.
    #[default]
    LowestClass,
    /// The oldest that is held, whatever its class, and only for classes that
    /// [evict](WhenNoRoom::Evict).
    Oldest,
}

/// In which order elements of one class are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LaneOrder {
    /// The oldest first.
    #[default]
    Fifo,
    /// The newest first.
    Lifo,
    /// The newest first while the queue [is overloaded](super::PriorityQueue::set_overloaded), else
    /// the oldest: under load, those who have waited long have mostly given up, and the newest can
    /// still be served in time. (Adaptive LIFO: Maurer, *Fail at Scale*, 2015.)
    Adaptive,
}

/// How a priority queue is declared.
///
/// Default: any number of bytes; every class waits for room (back-pressure), lower classes make way
/// for higher ones, oldest first; each class in order; [`Aging::default`].
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::class::Class;
/// use forebay::control::{PrioritySettings, WhenNoRoom};
///
/// let settings = PrioritySettings::items(1000)
///     .bytes(8 << 20)
///     .when_no_room(Class::MEDIUM, WhenNoRoom::Wait(Duration::from_secs(1)))
///     .when_no_room(Class::LOW, WhenNoRoom::Refuse);
/// assert!(settings.check().is_ok());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrioritySettings {
    pub(super) items: usize,
    pub(super) bytes: u64,
    pub(super) when_no_room: [WhenNoRoom; Class::COUNT],
    /// By class: places for elements of it and below; absent where none says less than all.
    pub(super) places: Option<[u32; Class::COUNT]>,
    pub(super) evictable: [bool; Class::COUNT],
    pub(super) orders: [LaneOrder; Class::COUNT],
    pub(super) victims: Victims,
    pub(super) aging: Aging,
}

impl PrioritySettings {
    /// At most that many elements, from 1.
    #[must_use]
    pub fn items(items: usize) -> PrioritySettings {
        PrioritySettings {
            items,
            bytes: u64::MAX,
            when_no_room: [WhenNoRoom::Wait(Duration::MAX); Class::COUNT],
            places: None,
            evictable: [true; Class::COUNT],
            orders: [LaneOrder::Fifo; Class::COUNT],
            victims: Victims::LowestClass,
            aging: Aging::default(),
        }
    }

    /// A producer's queue as the order system declares it, but with our law of priority: room for
    /// 1000; for HIGH an element of a lower class makes way, and the oldest HIGH where there is none;
    /// MEDIUM takes the place of a LOW one, or waits up to 1 s; LOW is refused at once.
    #[must_use]
    pub fn a6() -> PrioritySettings {
        PrioritySettings::items(1000)
            .when_no_room(Class::HIGH, WhenNoRoom::Evict)
            .when_no_room(Class::MEDIUM, WhenNoRoom::Wait(Duration::from_secs(1)))
            .when_no_room(Class::LOW, WhenNoRoom::Refuse)
            .aging(Aging::none())
    }

    /// The same, as its document says it to the letter: for HIGH the oldest makes way whatever its
    /// class, and nothing makes way for MEDIUM. It breaks the law of priority: a HIGH element may be
    /// given up while LOW ones are held.
    #[must_use]
    pub fn a6_literal() -> PrioritySettings {
        PrioritySettings::a6().victims(Victims::Oldest)
    }

    /// At most that many bytes as well, from 1. One element may exceed them, alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> PrioritySettings {
        self.bytes = bytes;
        self
    }

    /// At most that many of the places, from 1, go to elements of that class and of those below it: the
    /// rest is kept for higher ones. So lower classes wait no longer than is of use to them, and a
    /// burst of higher ones still finds room. Not with [`Victims::Oldest`].
    #[must_use]
    pub fn at_most(mut self, class: Class, items: usize) -> PrioritySettings {
        let places = self.places.get_or_insert([u32::MAX; Class::COUNT]);
        places[class.index()] = u32::try_from(items).unwrap_or(u32::MAX);
        self
    }

    /// What becomes of an element of that class for which there is no room. Where
    /// [`WhenNoRoom::Defer`] or [`WhenNoRoom::Divert`] is said, its elements go that way also when
    /// they make way for higher ones; else those are shed.
    #[must_use]
    pub fn when_no_room(mut self, class: Class, policy: WhenNoRoom) -> PrioritySettings {
        self.when_no_room[class.index()] = policy;
        self
    }

    /// Elements of that class never make way.
    #[must_use]
    pub fn never_evict(mut self, class: Class) -> PrioritySettings {
        self.evictable[class.index()] = false;
        self
    }

    /// In which order elements of that class are served.
    #[must_use]
    pub fn order(mut self, class: Class, order: LaneOrder) -> PrioritySettings {
        self.orders[class.index()] = order;
        self
    }

    /// Who makes way.
    #[must_use]
    pub fn victims(mut self, victims: Victims) -> PrioritySettings {
        self.victims = victims;
        self
    }

    /// How classes take turns.
    #[must_use]
    pub fn aging(mut self, aging: Aging) -> PrioritySettings {
        self.aging = aging;
        self
    }

    /// The most elements that are held.
    #[must_use]
    pub fn max_items(&self) -> usize {
        self.items
    }

    /// The most bytes that are held; `u64::MAX` if they are not limited.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a free place is for an element of whatever class and size.
    pub(crate) fn fits_any(&self) -> bool {
        self.bytes == u64::MAX && self.places.is_none()
    }

    /// Whether that is the policy of any class.
    #[must_use]
    pub fn any(&self, policy: WhenNoRoom) -> bool {
        self.when_no_room.contains(&policy)
    }

    /// What becomes of an element of that class for which there is no room.
    #[must_use]
    pub fn policy(&self, class: Class) -> WhenNoRoom {
        self.when_no_room[class.index()]
    }

    /// How long an element of that class waits for room, if it does.
    #[must_use]
    pub fn longest_wait(&self, class: Class) -> Option<Duration> {
        match self.when_no_room[class.index()] {
            WhenNoRoom::Wait(longest) => Some(longest),
            _ => None,
        }
    }

    /// Whether elements of that class may be given up or refused, so that a stage knows whether it
    /// loses any.
    #[must_use]
    pub fn may_shed(&self, class: Class) -> bool {
        let at = class.index();
        let policy = self.when_no_room[at];
        let kept = matches!(policy, WhenNoRoom::Defer | WhenNoRoom::Divert);
        let waits = matches!(policy, WhenNoRoom::Wait(Duration::MAX));
        let above = match self.victims {
            Victims::LowestClass => at > 0,
            Victims::Oldest => self.when_no_room.contains(&WhenNoRoom::Evict),
        };
        !(kept || waits && !(self.evictable[at] && above))
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The setting that is not: no room at all, or a class that evicts its own kind and is declared
    /// never to be evicted.
    pub fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.items > 0, "items", self.items, "1 and more")?;
        Invalid::unless(self.bytes > 0, "bytes", self.bytes, "1 and more")?;
        for least in self.places.iter().flatten() {
            Invalid::unless(*least > 0, "at_most", least, "1 and more")?;
            let by_class = self.victims == Victims::LowestClass;
            Invalid::unless(
                by_class,
                "at_most",
                least,
                "nothing, where the oldest makes way",
            )?;
        }
        for at in 0..Class::COUNT {
            let evicts = self.when_no_room[at] == WhenNoRoom::Evict;
            let own = self.victims == Victims::LowestClass && !self.evictable[at];
            Invalid::unless(
                !(evicts && own),
                "when_no_room",
                "Evict",
                "anything but Evict for a class that is never evicted",
            )?;
        }
        self.aging.check()
    }
}
