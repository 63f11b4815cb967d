//! Boundaries: the bounded hand-off between two islands.
//!
//! The places still free are the producer's *credits*; they are what the consumer's demand is to the
//! island before it. Under back-pressure the consumer takes all that is queued in one step and
//! serves it from its own side; what it has taken still counts, so that `queued + taken <=
//! capacity` always holds. A buffer that sheds keeps its elements in the shared queue until they are
//! asked for, so that the oldest of them can still be given up.
//!
//! # Invariants
//! - Never more than the capacity inside, in elements; in bytes, one element may exceed it.
//! - Marks keep their place, cost no capacity and are never dropped.
//! - An error overtakes the elements, which count as cancelled.
//! - A cancellation reaches the producer at its next turn, and wakes it.

mod bell;
mod budgeted;
mod buffer;
mod by_class;
#[cfg(test)]
mod by_hand;
mod link;
mod on_disk;
mod ring;

pub(crate) use budgeted::budgeted;
pub use buffer::{Buffer, WhenFull};
pub use by_class::{ClassBuffer, ClassQueueSnapshot, ClassQueueView};
pub(crate) use by_class::{Policies, WAITING as WAITING_BY_CLASS, by_class};
pub(crate) use on_disk::HOLDS as HELD_BY_DISK;
pub use on_disk::{
    Damage, Damaged, DiskBuffer, DiskError, DiskSnapshot, DiskView, Recovered, Stored, SyncPolicy,
};
pub(crate) use ring::ring;
