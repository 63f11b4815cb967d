//! What tests of pipelines are made of. Feature `testkit`.
//!
//! - [`Simulation`]: runs pipelines in simulated time, from a seed.

mod conformance;
mod fuzz;
mod probe;
mod simulation;

pub use crate::conformance;
pub use crate::runtime::simulated::SimulatedRun;
pub use crate::runtime::trace::{Event, Trace, What};
pub use conformance::{Conformance, Conformed, Violation};
pub use fuzz::{fuzzed, planned_panic};
pub use probe::{ProbeSink, SinkProbe, SourceProbe, sink_probe, source_probe};
pub use simulation::Simulation;
