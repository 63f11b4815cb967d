//! **forebay**: stream pipelines that stay bounded, and account for every element, under more load
//! than they can carry.
//!
//! A pipeline is declared: source, bounded buffers, asynchronous stages, sink. Demand flows
//! upstream, so nothing is handed over that was not asked for; every queue has a limit; and each
//! element ends in exactly one [outcome](outcome::Outcome), which its source learns.
//!
//! # A first pipeline
//! ```
//! use forebay::source;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let mut running = source::iter(1..=1000_u64)
//!     .map(|n| n * n)
//!     .buffer(64)
//!     .map_async(8, |n| async move { n + 1 })
//!     .fold(0, |sum, n| *sum += n)
//!     .run()?;
//! let sum = running.join().await?;
//! let account = running.snapshot();
//! assert_eq!(sum, 333_834_500);
//! assert!(account.balances());
//! # Ok(()) }) }
//! ```
//!
//! # Guarantees
//! 1. **Conservation.** For every source, what entered = delivered + filtered + shed + expired +
//!    dead-lettered + cancelled + failed + unsettled; for every stage, what came = what went + what
//!    ended there + what is held. The two are counted apart, by the engine and never by an operator.
//!    [`Snapshot::check`](runtime::Snapshot::check) proves that every stage handed on, ended or
//!    holds what came to it, that no receipt was dropped unsettled, settled twice or never, and,
//!    once the run has ended, that every outcome a source was told is one that some stage counted.
//!    It names the stage; of a receipt settled twice, never, or told otherwise than counted, the
//!    source. Numbers of outcomes are compared only where each stands for one element: nothing was
//!    forked, merged, diverted, left untracked or read again. That an outcome is true (delivered
//!    means delivered) it cannot see, and of untracked elements it proves the number alone.
//! 2. **No position passes a loss.** The settled position of a source never passes an element that
//!    is unsettled, cancelled or failed; one that was shed or expired only where the source declared
//!    that loss is allowed.
//! 3. **Bounded.** Every queue, window and group has a limit; [`Topology`](topology::Topology)
//!    prints their sum.
//! 4. **Demand.** No stage hands over more than was asked for.
//! 5. **Nothing is dropped silently.** What is shed is counted by stage, class and reason.
//! 6. **Ends are clean.** Completion drains; cancellation reaches the source within a turn of each
//!    island; a panic in user code fails its element; what outlives a deadline is named.
//!
//! What they do not cover: the process being killed (a source with positions resumes from its saved
//! position, and elements after it come again), and effects of user code that is cancelled half-way.
//!
//! # Cancel safety
//! - [`Running::join`](runtime::Running::join) can be dropped and called again. Dropping the
//!   [`Running`](runtime::Running) itself aborts the run: what is inside is cancelled and counted so.
//! - A future that a stage runs is dropped where it stands when its element is cancelled. Its side
//!   effects up to there remain: put what must not be torn into one call that is not.
//! - Timers ([`time::sleep`], [`time::timeout`]) are cancel safe; `timeout` drops the future in it.
//!
//! # Stability
//! Before 1.0 the traits of [`operator`] may change between minor versions; the changelog says how
//! and why. Methods of [`flow::Flow`] change only where a name was wrong.
//!
//! # Features
//! None is on by default. `gzip`: compressed input of [`source::lines`]. `metrics`: what runs
//! tell, for exporters. `signals`: the first
//! interrupt drains, the second aborts. `tower`: any `tower` service as a stage, and a pipeline as a
//! service. `testkit`: probes, simulated time, fault injection, conformance. `full`: all of them.
//!
//! # Where to read on
//! [`guide`] explains the concepts, how to choose an overflow strategy, what to do under pressure, what
//! happens when something fails, and how to write a stage of your own.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]

pub mod boundary;
pub mod chunk;
pub mod class;
pub mod control;
pub mod dead_letter;
mod demand;
pub mod error;
pub mod flow;
pub mod guide;
pub mod host;
mod json;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod ledger;
#[cfg(all(test, forebay_loom))]
mod loom_models;
pub mod mark;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod observe;
pub mod operator;
pub mod outcome;
pub mod position;
mod random;
pub mod receipt;
pub mod runtime;
pub mod sink;
pub mod source;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod time;
pub mod topology;
