//! Simulated time: a second takes no time at all, and the same seed gives the same run.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{Cause, Refused, RunError};
use crate::flow::Pipeline;
use crate::runtime::Snapshot;
use crate::runtime::simulated::{SimulatedRun, Simulator};
use crate::runtime::trace::Trace;
use crate::time::{self, Clock, Entered, Time};

/// A clock and an executor on the calling thread, both driven by a seed.
///
/// While it lives, [`time::now`], [`time::sleep`] and [`time::work`] of this thread are its own.
/// Tasks that are ready run in an order drawn from the seed; when none is, the clock jumps to the
/// next timer. Time goes on by timers and by [`time::work`] alone.
///
/// It enters no tokio runtime: `tokio::sync` works, and what needs a runtime (`tokio::time`,
/// `tokio::spawn`, I/O) ends the run with [`Cause::NeedsTokio`]. A pipeline with stages on threads
/// of their own is refused. When nothing is ready and no timer is set, the run ends with
/// [`Cause::Stalled`] and the names of what waits.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::source;
/// use forebay::testkit::Simulation;
/// use forebay::time;
///
/// let run = |seed| {
///     let simulation = Simulation::new(seed);
///     let pipeline = source::iter(0..100_u64)
///         .map_async(4, |n| async move {
///             time::sleep(Duration::from_secs(n % 7)).await;
///             n
///         })
///         .collect();
///     let (all, accounts) = simulation.run(pipeline).unwrap();
///     assert_eq!(all, (0..100).collect::<Vec<_>>());
///     accounts.check().unwrap();
///     (simulation.now(), simulation.trace())
/// };
/// assert_eq!(run(7), run(7), "the same seed, the same run");
/// ```
pub struct Simulation {
    simulator: Arc<Simulator>,
    _entered: Entered,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// Starts a clock at zero. One simulation at a time on a thread; of several, the youngest rules,
    /// and they must be dropped youngest first.
    #[must_use]
    pub fn new(seed: u64) -> Simulation {
        let simulator = Simulator::new(seed);
        let entered = time::enter(Arc::clone(&simulator) as Arc<dyn Clock>);
        Simulation {
            simulator,
            _entered: entered,
        }
    }

    /// Runs a pipeline to its end, and gives what it made and its accounts.
    ///
    /// # Errors
    /// As [`SimulatedRun::join`]. To see the accounts of a run that failed, [`start`](Self::start)
    /// it.
    pub fn run<O: Send + 'static>(&self, pipeline: Pipeline<O>) -> Result<(O, Snapshot), RunError> {
        let mut run = self.start(pipeline)?;
        let output = run.join()?;
        Ok((output, run.snapshot()))
    }

    /// Starts a pipeline; it goes on only inside the calls of its handle, of this simulation and of
    /// probes.
    ///
    /// # Errors
    /// What is wrong with the declaration; [`Refused::NotSimulable`] for a stage with threads,
    /// [`Refused::Runtime`] inside a tokio runtime.
    pub fn start<O: Send + 'static>(
        &self,
        pipeline: Pipeline<O>,
    ) -> Result<SimulatedRun<O>, Refused> {
        pipeline.simulate(&self.simulator)
    }

    /// Runs a future to its end, together with the pipelines that were started.
    ///
    /// # Errors
    /// [`Cause::Stalled`] when nothing is ready and no timer is set, [`Cause::Panicked`] when it
    /// panicked.
    pub fn block_on<F>(&self, future: F) -> Result<F::Output, RunError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&output);
        self.simulator.spawn_alone("block_on", async move {
            let value = future.await;
            if let Ok(mut slot) = slot.lock() {
                *slot = Some(value);
            }
        });
        let stopped = |cause| RunError::Stopped {
            stage: "block_on".to_owned(),
            cause,
        };
        loop {
            if let Ok(mut slot) = output.lock()
                && let Some(value) = slot.take()
            {
                return Ok(value);
            }
            if Arc::strong_count(&output) == 1 {
                return Err(stopped(Cause::Panicked("the future panicked".to_owned())));
            }
            if !self.simulator.step(Time::MAX) {
                return Err(stopped(Cause::Stalled));
            }
        }
    }

    /// Runs for that long in simulated time, and leaves the clock there.
    pub fn advance(&self, span: Duration) {
        self.simulator.advance(span);
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.simulator.now()
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.simulator.trace()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.simulator.clear();
    }
}
