//! The machine as controllers see it: processor, memory, lag of the runtime.
//!
//! [`Host`] looks each 100 ms, on a thread of its own: a runtime that stands still cannot hide it.
//! What a process may use is what its control groups allow ([`Cgroups`], versions 1 and 2), then what
//! the machine has; [`MemoryBudget`] is a limit of one's own, shared by the pipelines of a process.
//! In simulated time a [`Script`] takes the place of the host.
//!
//! # Invariants
//! - The thread ends with its [`Host`], and so does the task that measures the lag.
//! - A file that cannot be understood is an error by name ([`HostError`]), at the start as a result,
//!   later by [`HostReader::trouble`]; it is never a silent zero.
//! - A sample costs its readers one short lock, never a look at the machine.
//!
//! # What it does not do
//! It judges nothing: [`Pressure`](crate::control::Pressure) scores the samples, which are good guards
//! and slow signals: queue delay is the fast one, and the stage has it.
//!
//! # Example
//! ```
//! use forebay::control::{Pressure, PressureSettings};
//! use forebay::host::{Host, HostSettings};
//! use forebay::time;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::start(HostSettings::new())?;
//! let reader = host.reader();
//! let mut pressure = Pressure::new(PressureSettings::new())?;
//! let sample = reader.sample();
//! for reading in sample.readings() {
//!     pressure.read(sample.at, reading);
//! }
//! assert!((0.0..=1.0).contains(&pressure.score(time::now())));
//! # Ok(()) }
//! ```

mod budget;
mod cgroup;
mod error;
mod lag;
// Not with the seeded bug: a reservation that is dropped while its thread panics would end the run.
#[cfg(all(test, forebay_loom, not(forebay_loom_bug)))]
mod loom_models;
mod machine;
mod sample;
mod sampler;
mod script;

pub use budget::{Exhausted, Grant, MemoryBudget, Reservation};
pub use cgroup::Cgroups;
pub use error::HostError;
pub use sample::{CpuUse, HostSample, HostSource, MemoryUse, Origin};
pub use sampler::{Host, HostReader, HostSettings};
pub use script::Script;
