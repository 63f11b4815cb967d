//! Where elements go: what the sinks of a flow give to those outside.
//!
//! The sinks themselves are methods of [`Flow`](crate::flow::Flow).

pub use crate::flow::FlowStream;
pub use crate::operator::sinks::file::{Durability, FileError, OutFile, Written};
pub use crate::operator::sinks::subscription::{
    Asking, Overflow, Publisher, Subscription, subscription,
};
