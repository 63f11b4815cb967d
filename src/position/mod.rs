//! Where a source stands: dense sequence numbers, a bit each, and the settled position.
//!
//! A source numbers its elements 0, 1, 2, … in the order in which it hands them over. Sixty-four
//! numbers share a *page*: a mask of what is settled and three masks that hold how. The list
//! of pages *is* the tracker: the settled position is the base of the first page plus its trailing
//! ones, and a page that is settled whole is retired and used again.
//!
//! # Invariants
//! - The settled position never passes an element that is unsettled, cancelled or failed; one that
//!   was shed or expired only where the source declared [`Passes::loss`].
//! - An element is counted once, by the outcome it was settled with first. A second settlement is a
//!   bug of a stage and is counted apart ([`SourceCounts::doubled`]).
//! - After [`Tracker::rewind`] receipts of the older [`Generation`] change nothing.
//! - At most `window` elements lie between the settled position and the newest element.
//!
//! # What it does not do
//! It reads nothing, waits for nothing and knows no clock: a source asks for [`Tracker::credit`] and
//! is woken when there is news.
//!
//! # Example
//! ```
//! use forebay::position::{Passes, SourceId, Tracker};
//!
//! let tracker: Tracker<u64> = Tracker::new(SourceId::new(0), 1024, Passes::resolved());
//! assert_eq!(tracker.credit(), 1024);
//! assert_eq!(tracker.settled().sequence, 0);
//! ```

mod counts;
mod lag;
mod page;
mod signal;
#[cfg(test)]
mod tests;
mod tracker;

pub use counts::{ClassCounts, SourceCounts};
pub use lag::Lag;
pub(crate) use page::{Page, bits};
pub(crate) use signal::NO_STAGE;
pub use signal::{Passes, Unresolved};
pub(crate) use tracker::Walk;
pub use tracker::{Frontier, Settled, Tracker};

/// Which source of a pipeline: its number in the order of declaration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SourceId(u32);

impl SourceId {
    /// The source of that number.
    #[must_use]
    pub const fn new(index: u32) -> SourceId {
        SourceId(index)
    }

    /// Its number.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// A source's life between two rewinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Generation(pub u64);

/// What lies between two barriers of a source: one transaction's worth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Epoch(pub u64);
