//! What tests of pipelines are made of. Feature `testkit`.
//!
//! - [`Simulation`]: runs pipelines in simulated time, from a seed.

mod simulation;

pub use crate::runtime::simulated::SimulatedRun;
pub use crate::runtime::trace::{Event, Trace, What};
pub use simulation::Simulation;
