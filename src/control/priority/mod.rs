//! A bounded queue that serves the dearest first and gives up the cheapest.
//!
//! [`PriorityQueue`] holds elements of any kind, each with its class and its bytes, in a lane a
//! class. A stage keeps its elements in it, a producers' queue its offers: both ask the same policy,
//! and both are told what became of each element. What waits, is deferred or diverted is handed back:
//! the queue holds only what it has queued.
//!
//! # Invariants
//! - Never more elements than `items`; never more bytes than `bytes`, but for one element alone;
//!   never more elements of a class and those below it than [`PrioritySettings::at_most`] says.
//! - Under [`Victims::LowestClass`] no element is evicted or refused while one of a lower class that
//!   may be evicted is held, unless evicting all of those would still not make room for its bytes.
//! - Who makes way is the oldest of the lowest class; nothing is evicted unless that makes room.
//! - Served are the highest class first, but for [grants](Aging); within a class by its
//!   [`LaneOrder`].
//! - An offer takes time in the number of classes, and in the number of elements that it evicts.
//! - offered = queued + refused + timed out + deferred + diverted + told to wait, for every class;
//!   queued = served + evicted + removed + held.
//!
//! # What it does not do
//! It keeps nobody waiting itself: who is told to wait asks again when there is room, or when the
//! time is up. Whoever holds those that wait asks for them, the highest class first, before anything
//! new is offered, or a newcomer takes the room.
//!
//! # Example
//! ```
//! use forebay::class::Class;
//! use forebay::control::{Offer, Placed, PriorityQueue, PrioritySettings, WhenNoRoom};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let settings = PrioritySettings::items(2).when_no_room(Class::LOW, WhenNoRoom::Refuse);
//! let mut queue = PriorityQueue::new(settings)?;
//! let mut evicted = Vec::new();
//! for name in ["a", "b"] {
//!     let low = Offer::new(Class::LOW, 1, Time::ZERO);
//!     assert!(queue.offer(Time::ZERO, low, name, &mut evicted).is_queued());
//! }
//! let high = Offer::new(Class::HIGH, 1, Time::ZERO);
//! assert_eq!(queue.offer(Time::ZERO, high, "c", &mut evicted), Placed::Queued);
//! assert_eq!(evicted[0].entry.payload, "a", "the oldest of the lowest class made way");
//! assert_eq!(queue.pop(Time::ZERO).map(|served| served.entry.payload), Some("c"));
//! # Ok(()) }
//! ```

#[cfg(test)]
mod model;
mod offer;
mod queue;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod when_full;

pub use offer::{Away, Entry, Evicted, Offer, OfferRefusal, Placed, Served};
pub use queue::PriorityQueue;
pub use snapshot::{LaneSnapshot, PrioritySnapshot};
pub(crate) use store::Store;
pub use when_full::{LaneOrder, PrioritySettings, Victims, WhenNoRoom};

#[cfg(doc)]
use crate::control::Aging;
