//! How the two sides of a lock wake each other.
//!
//! A waiting task leaves its waker behind the lock once; the other side keeps a copy, so that to wake
//! it neither clones nor drops a waker, and is done after the lock has been let go.

use std::task::Waker;

/// Behind the lock: one side's waker, and whether it waits.
#[derive(Default)]
pub(super) struct Place {
    waker: Option<Waker>,
    /// How often the waker was another.
    changes: u64,
    waits: bool,
}

impl Place {
    /// Leaves the waker, whatever its task waits for.
    pub(super) fn register(&mut self, waker: &Waker) {
        if self
            .waker
            .as_ref()
            .is_none_or(|known| !known.will_wake(waker))
        {
            self.waker = Some(waker.clone());
            self.changes += 1;
        }
    }

    /// Waits to be woken.
    pub(super) fn wait(&mut self, waker: &Waker) {
        self.register(waker);
        self.waits = true;
    }
}

/// With the other side: a copy of the waker.
#[derive(Default)]
pub(super) struct Bell {
    waker: Option<Waker>,
    changes: u64,
}

impl Bell {
    /// Whether the place's task waits: then it does no longer, and is to be woken.
    pub(super) fn is_waited_at(&mut self, place: &mut Place) -> bool {
        if place.waits {
            self.follow(place);
        }
        std::mem::take(&mut place.waits)
    }

    /// Takes a copy of the waker that is there now.
    pub(super) fn follow(&mut self, place: &Place) {
        if self.changes != place.changes {
            self.waker.clone_from(&place.waker);
            self.changes = place.changes;
        }
    }

    /// Wakes the task: not under the lock.
    pub(super) fn ring(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The copy itself, for who wakes once it has let go of the lock.
    pub(super) fn into_waker(self) -> Option<Waker> {
        self.waker
    }
}
