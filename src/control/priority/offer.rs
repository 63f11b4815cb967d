//! What is offered, and what becomes of it.

use crate::class::Class;
use crate::time::Time;

/// What is known of an element that is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// How dear it is.
    pub class: Class,
    /// Its size.
    pub bytes: u64,
    /// When it was offered first: an offer that waits and asks again keeps it.
    pub since: Time,
}

impl Offer {
    /// An element of that class and size, offered first at that time.
    #[must_use]
    pub fn new(class: Class, bytes: u64, since: Time) -> Offer {
        Offer {
            class,
            bytes,
            since,
        }
    }
}

/// An element in the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<P> {
    /// The element.
    pub payload: P,
    /// What it was offered as.
    pub offer: Offer,
    /// Its place in the order of arrival, where that is asked for.
    pub(crate) number: u64,
}

/// Why an offer was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferRefusal {
    /// There is no room, and its class is told so at once.
    #[error("no room")]
    NoRoom,
    /// It waited as long as its class may, and there was no room.
    #[error("no room in time")]
    TimedOut,
}

/// What became of an offer. What was not queued is handed back.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "an element that was not queued is in here"]
pub enum Placed<P> {
    /// It is in the queue.
    Queued,
    /// It waits for room; it is offered again when there is, or at that time at last.
    Wait(P, Time),
    /// It is given up.
    Refused(P, OfferRefusal),
    /// It is to be deferred.
    Defer(P),
    /// It is to go another way.
    Divert(P),
}

impl<P> Placed<P> {
    /// Whether it is in the queue.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        matches!(self, Placed::Queued)
    }
}

/// Where an element goes that made way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Away {
    /// It is given up.
    Shed,
    /// It is to be deferred.
    Defer,
    /// It is to go another way.
    Divert,
}

/// An element that made way for another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evicted<P> {
    /// It.
    pub entry: Entry<P>,
    /// Where it goes, as its class says.
    pub to: Away,
}

/// An element whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served<P> {
    /// It.
    pub entry: Entry<P>,
    /// It was served while a higher class waited, for its own wait.
    pub aged: bool,
}
