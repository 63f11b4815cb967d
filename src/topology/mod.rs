//! The graph as declared: its stages, its bounds, its guarantees, and why it may be refused.
//!
//! # Invariants
//! - A stage has one name, unique in its graph.
//! - The printed bound of a graph is the sum of what its stages declare to hold at most.
//! - What is refused is refused before anything starts.
//!
//! # What it does not do
//! It runs nothing. [`runtime`](crate::runtime) takes what it holds.

mod around;
mod barriers;
mod check;
mod deadlock;
mod graph;
mod guarantee;
mod node;
mod plan;
mod print;

pub(crate) use around::Around;
pub use guarantee::Guarantee;
pub use node::NodeSpec;
pub(crate) use plan::Plan;
pub use print::{EdgeInfo, NodeInfo, Topology};
