//! Accounts: what each stage saw, and what became of it.
//!
//! Every stage has one account. The engine fills it: elements in and out are counted around
//! each call of an operator, elements made, merged and settled by the functions that fork, group and
//! settle. An operator cannot count for itself, and so cannot hide a loss: for every stage
//! `entered + made = left + merged + settled + held` holds, or [`StageCounts::check`] names it.
//!
//! # What it does not do
//! It does not know receipts or positions; the account by source is kept by
//! [`position`](crate::position), and the two are compared, where they can be, by
//! [`Snapshot::check`](crate::runtime::Snapshot::check).

mod latency;
mod stage;
#[cfg(test)]
mod tests;
mod time_split;

pub use latency::Latency;
#[cfg(feature = "testkit")]
pub(crate) use stage::Progress;
pub(crate) use stage::StageLedger;
pub use stage::{DestinationKey, Settlement, StageCounts, StageKey};
pub use time_split::TimeSplit;
pub(crate) use time_split::{Spent, TimeLedger};
