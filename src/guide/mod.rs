//! The guide: what to know before building on forebay.
//!
//! - [`concepts`]: elements, receipts, islands, demand, accounts.
//! - [`overflow`]: choosing what a full buffer does.
//! - [`failure`]: errors, panics, retries, dead letters, and what a source answers.
//! - [`pressure`]: what to do when more comes than can be done.
//! - `kafka`: topics as source and sink, and what is promised (with the feature `kafka`).
//! - [`own_stage`]: writing a stage, a source or a sink of your own.

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("overflow.md")]
pub mod overflow {}

#[doc = include_str!("failure.md")]
pub mod failure {}

/// A plot, as a block of HTML between texts.
macro_rules! plot {
    ($file:literal) => {
        concat!("\n<div>\n", include_str!($file), "</div>\n")
    };
}

#[doc = include_str!("pressure.md")]
#[doc = include_str!("plots/spike.md")]
#[doc = plot!("plots/spike.svg")]
#[doc = include_str!("plots/batch.md")]
#[doc = plot!("plots/batch.svg")]
#[doc = include_str!("plots/retry_budget.md")]
#[doc = plot!("plots/retry_budget.svg")]
#[doc = include_str!("plots/divert.md")]
#[doc = plot!("plots/divert.svg")]
#[doc = include_str!("plots/rest.md")]
pub mod pressure {}

#[cfg(feature = "kafka")]
#[doc = include_str!("kafka.md")]
pub mod kafka {}

#[doc = include_str!("own_stage.md")]
pub mod own_stage {}
