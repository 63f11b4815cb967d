//! Receipts: what must be told how an element ended.
//!
//! A receipt travels with its element, splits when the element is split and merges when elements
//! are merged. Inside a chunk receipts are kept as *runs*: a page of the source's tracker and a mask
//! of its elements, so that a chunk of 256 costs four or five reference counts, and settling it four
//! or five atomic operations.
//!
//! # Invariants
//! - A receipt is settled exactly once. One that is dropped instead settles itself: as failed
//!   (abandoned), or as cancelled when its source is ending. The account of the source notes the
//!   former, and the stage that ran then.
//! - A forked receipt settles its parent when all parts are settled, with the worst of their
//!   outcomes.
//! - A group settles all its members alike.
//!
//! # What it does not do
//! It keeps no account of stages: [`Context::settle`](crate::operator::Context::settle) and the
//! methods of [`Chunk`](crate::chunk::Chunk) do, and stages settle through those.
//!
//! # Example
//! ```
//! use std::sync::{Arc, Mutex};
//! use forebay::outcome::{Outcome, Reason};
//! use forebay::receipt::Receipt;
//!
//! let told = Arc::new(Mutex::new(None));
//! let tell = Arc::clone(&told);
//! let mut receipt = Receipt::on_settle(move |outcome| *tell.lock().unwrap() = Some(outcome));
//! let part = receipt.fork();
//! receipt.settle(Outcome::Delivered);
//! assert_eq!(*told.lock().unwrap(), None, "a part is still out");
//! part.settle(Outcome::Shed(Reason::DropHead));
//! assert_eq!(told.lock().unwrap().map(|outcome| outcome.kind().name()), Some("shed"));
//! ```

mod fork;
mod run;
mod running;
mod single;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use run::Run;
pub(crate) use running::RunningStage;
pub use single::{Receipt, Standing};
