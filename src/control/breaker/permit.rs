//! The right to make one call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Shared;
use super::machine::{Call, Ticket};
use super::words::starts;
use crate::time::Time;

/// In which generation a call was let through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Generation {
    Whole(u64),
    /// Its lower bits.
    Low(u64),
}

impl Generation {
    /// The whole number, which is not long before `latest`.
    pub(super) fn whole(self, latest: u64) -> u64 {
        match self {
            Generation::Whole(whole) => whole,
            Generation::Low(low) => starts::whole(low, latest),
        }
    }
}

/// The right to make one call. Report how it ended; dropping it says that nobody will ever know, as
/// when the call's future is cancelled.
#[must_use = "a permit that is dropped counts as abandoned"]
pub struct Permit {
    /// `None` once reported.
    shared: Option<Arc<Shared>>,
    generation: Generation,
    started: Time,
}

impl Permit {
    pub(super) fn new(shared: Arc<Shared>, generation: Generation, started: Time) -> Permit {
        Permit {
            shared: Some(shared),
            generation,
            started,
        }
    }

    /// The call ended well; it took so long, without what its element waited before.
    pub fn success(self, now: Time, service: Duration) {
        self.report(Some(now), Call::Success(service));
    }

    /// The call failed; it took so long.
    pub fn failure(self, now: Time, service: Duration) {
        self.report(Some(now), Call::Failure(service));
    }

    /// The call ended in a way that says nothing about its destination: its element was wrong, say.
    pub fn ignore(self) {
        self.report(None, Call::Ignored);
    }

    /// No call was made: no element came for it. It counts as never let through.
    pub fn unused(self) {
        self.report(None, Call::Unused);
    }

    /// When the call was let through.
    #[must_use]
    pub fn started(&self) -> Time {
        self.started
    }

    fn report(mut self, now: Option<Time>, call: Call) {
        self.end(now, call);
    }

    fn end(&mut self, now: Option<Time>, call: Call) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let (generation, started) = (self.generation, self.started);
        shared.locked(|breaker| {
            let ticket = Ticket {
                generation: generation.whole(breaker.generation()),
                started,
            };
            breaker.report(now.unwrap_or(breaker.seen()), ticket, call);
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(None, Call::Abandoned);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
