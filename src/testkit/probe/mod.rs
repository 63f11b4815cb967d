//! Probes: the ends of a flow in the hands of a test.
//!
//! A probe is used from blocking code on either clock. In a [`Simulation`](super::Simulation) each
//! call runs the pipeline until what it expects has happened or its time has passed; on the wall
//! clock it waits while the pipeline runs on a runtime of its own. What does not come in time, or
//! comes otherwise, is a panic that says what was expected and what came, at the caller's line.

mod sink;
mod source;

pub use sink::{ProbeSink, SinkProbe, sink_probe};
pub use source::{SourceProbe, source_probe};

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::time;

/// How long a probe waits unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a probe and its stage share.
struct Watched<S> {
    state: Mutex<S>,
    changed: Condvar,
}

impl<S> Watched<S> {
    fn new(state: S) -> Watched<S> {
        Watched {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// What `look` finds, as soon as it finds it; `None` if it has not for that long.
    fn wait<R>(&self, span: Duration, mut look: impl FnMut(&mut S) -> Option<R>) -> Option<R> {
        let until = time::now() + span;
        if let Some(clock) = time::simulated() {
            loop {
                if let Some(found) = look(&mut self.lock()) {
                    return Some(found);
                }
                if !clock.step(until) {
                    clock.work(until.since(clock.now()).as_nanos() as u64);
                    return look(&mut self.lock());
                }
            }
        }
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = until.since(time::now());
            if left.is_zero() {
                return None;
            }
            state = match self.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

#[track_caller]
fn failed(probe: &str, expected: &str, came: &str) -> ! {
    panic!("{probe}: expected {expected}, but {came}")
}
