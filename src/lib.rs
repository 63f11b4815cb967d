//! forebay
pub mod boundary;
pub mod chunk;
pub mod class;
pub mod control;
pub mod dead_letter;
mod demand;
pub mod error;
pub mod flow;
mod json;
pub mod ledger;
#[cfg(all(test, forebay_loom))]
mod loom_models;
pub mod mark;
pub mod operator;
pub mod outcome;
pub mod position;
#[cfg(feature = "testkit")]
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
