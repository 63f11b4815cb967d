//! x
mod scheduler;
pub use scheduler::{Aging, Scheduler, Turn};
