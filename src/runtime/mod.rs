//! Running: islands, the handle of a run, its ends.
//!
//! An *island* is a chain of fused stages that ends in a sink or a boundary; it is one task. A run is
//! all islands of a pipeline. The first that stops on an error ends the others; when all have ended,
//! the run has.
//!
//! # Invariants
//! - A turn of an island stays under 200 microseconds, unless one closure takes longer.
//! - [`Running::drain`], [`Running::abort`] and an error reach every island within one of its turns.
//! - What is inside when a run ends early is settled as cancelled, with the reason.
//!
//! # What it does not do
//! It makes no threads but those of the runtime it is asked to build, and keeps nothing running
//! after the run: what outlives a deadline is named.

mod inbox;
mod island;
mod nested;
mod panel;
mod running;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "testkit")]
pub(crate) mod simulated;
mod snapshot;
#[cfg(feature = "testkit")]
pub(crate) mod trace;

pub(crate) use island::{Drive, Island};
pub(crate) use nested::Home;
pub(crate) use panel::{SourceInfo, StageInfo};
pub(crate) use running::start;
pub use running::{Drained, Running, RuntimeKind, Stopper};
pub use snapshot::{Imbalance, IslandReport, Snapshot, SourceReport, StageReport};
