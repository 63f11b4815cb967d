//! Who is let in when not all can be served, and what is given up on the way.
//!
//! Each part is a policy of its own; a stage asks those it was declared with, in this order:
//! 1. [`Gate`]: one load and a compare, before anything else is done for an offer. [`Admission`] sets
//!    its threshold once a window.
//! 2. [`Forecast`]: an element that would be served after its deadline is expired on arrival.
//! 3. A bounded [`PriorityQueue`](super::PriorityQueue), whose [`Scheduler`] says which class is
//!    served next.
//! 4. [`Codel`]: at the moment of service, what has waited too long in a standing queue is given up.
//!
//! [`Emergency`](super::Emergency) is a mode before all of them: far over the capacity only the
//! highest class is let in.
//!
//! # How the threshold is found
//! The share that must be refused is known: `r = 1 - mu / lambda`, with the capacity `mu` (what the
//! workers complete in the time they are busy) and the offers `lambda` of the last window. This feed
//! forward converges in one window where a stepwise search takes dozens (DAGOR's 5 % a window needs 45
//! from ten times the load). What it gets wrong shows in the queue: a PI controller on the queue's
//! delay, as in Uber's Cinnamon, trims `mu`. The offers are then ranked by (class, a
//! number from 0 to 127 that spreads each class evenly), and the threshold is the quantile `1 - r` of
//! what was offered of late: lower classes go first, and of the class at the edge a share goes, not
//! all or nothing, which would swing from one window to the next.
//!
//! # Invariants
//! - No class is cut before every lower one is refused whole.
//! - A protected class is not cut while it and those above offer less than the capacity.
//! - With less offered than can be served, everything is admitted whatever the queue does.
//! - A step of the load is followed within two windows.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::class::Class;
//! use forebay::control::{Admission, AdmissionSettings, AdmissionWindow, Gate};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let gate = Gate::open();
//! let mut admission = Admission::new(AdmissionSettings::default(), Time::ZERO)?;
//! let mut window = AdmissionWindow {
//!     completed: 100,
//!     busy: Duration::from_millis(10),
//!     workers: 1,
//!     queued: 50,
//!     ..AdmissionWindow::default()
//! };
//! window.offered[Class::HIGH.index()] = 40;
//! window.offered[Class::LOW.index()] = 120;
//! let now = admission.window_ends();
//! gate.set(admission.on_window(now, &window));
//! assert!((0..128).all(|n| gate.admits(Class::HIGH, n)));
//! let low = (0..128).filter(|n| gate.admits(Class::LOW, *n)).count();
//! assert_eq!(low, 64, "100 of 160 fit: all of HIGH, and half of LOW");
//! # Ok(()) }
//! ```

mod codel;
mod estimate;
mod forecast;
mod gate;
mod handle;
mod policy;
mod scheduler;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod virtual_queue;

pub use codel::{Codel, CodelSnapshot};
pub use forecast::Forecast;
pub use gate::Gate;
pub use handle::AdmissionHandle;
pub use policy::{Admission, AdmissionSnapshot, AdmissionWindow};
pub use scheduler::{Aging, Scheduler, Turn};
pub use settings::AdmissionSettings;
