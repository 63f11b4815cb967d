//! What tests of pipelines are made of. Feature `testkit`.
//!
//! - [`Simulation`]: pipelines in simulated time, from a seed, with a [`Trace`].
//! - [`source_probe`] and [`sink_probe`]: the ends of a flow in the hands of a test, on either clock.
//! - [`Faults`], [`drop_at`]: delays, errors, panics, stalls, and futures dropped where they wait.
//! - [`fuzzed`]: wake-ups, demand and the size of chunks disturbed on every edge of a declaration.
//! - [`Conformance`], [`conformance!`](crate::conformance): a part of a pipeline and its model
//!   through the rules every stage has to keep. Run it on stages of your own.
//!
//! # Invariants
//! - The same seed and the same declaration give the same run, byte for byte in its trace.
//! - A sound stage passes the suite with every seed; a violation names the stage, the rule and the
//!   seed that shows it again.
//!
//! # What it does not do
//! It does not make code deterministic that draws on something else: threads, the wall clock, a
//! hash map's order. The suite's rule `seed` tells of it.

mod conformance;
mod fault;
mod fuzz;
mod probe;
mod replay;
mod simulation;

pub use crate::conformance;
pub use crate::runtime::simulated::SimulatedRun;
pub use crate::runtime::trace::{Event, Trace, What};
pub use conformance::{Conformance, Conformed, Violation};
pub use fault::{DropAt, Faults, drop_at, drop_somewhere};
pub use fuzz::{fuzzed, planned_panic};
pub use probe::{ProbeSink, SinkProbe, SourceProbe, sink_probe, source_probe};
pub use replay::replay;
pub use simulation::Simulation;
