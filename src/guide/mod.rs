//! The guide: what to know before building on forebay.
//!
//! - [`concepts`]: elements, receipts, islands, demand, accounts.
//! - [`overflow`]: choosing what a full buffer does.
//! - [`failure`]: errors, panics, retries, dead letters, and what a source answers.
//! - [`pressure`]: what to do when more comes than can be done.
//! - [`own_stage`]: writing a stage, a source or a sink of your own.

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("overflow.md")]
pub mod overflow {}

#[doc = include_str!("failure.md")]
pub mod failure {}

#[doc = include_str!("pressure.md")]
pub mod pressure {}

#[doc = include_str!("own_stage.md")]
pub mod own_stage {}
