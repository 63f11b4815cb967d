//! The work on an element: the user code that every system runs, the same for all.

use std::sync::Arc;

use forebay::time::{self, TimedOut};
use tokio::sync::Semaphore;

use crate::scenario::{Mode, Scenario, Timeline, Work};
use crate::spin;
use crate::trace::{Fate, Item, Trace};

/// The call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the call failed")]
pub(crate) struct CallFailed;

impl From<TimedOut> for CallFailed {
    fn from(_: TimedOut) -> CallFailed {
        CallFailed
    }
}

/// What takes longer on the wall clock is mostly slept through: it is a fault that holds calls up.
const SPIN_NS: u64 = 20_000_000;

/// Where elements are worked on.
#[derive(Debug)]
pub(crate) struct Shop {
    trace: Arc<Trace>,
    timeline: Timeline,
    mode: Mode,
    work: Work,
    workers: Semaphore,
}

impl Shop {
    pub(crate) fn new(trace: &Arc<Trace>, timeline: Timeline, scenario: &Scenario) -> Arc<Shop> {
        Arc::new(Shop {
            trace: Arc::clone(trace),
            timeline,
            mode: scenario.mode,
            work: scenario.work,
            workers: Semaphore::new(scenario.workers),
        })
    }

    pub(crate) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Works on one element, as soon as a worker is free. In simulated time each has a core of its own,
    /// which pays for the refusals since the last start; on the wall clock the calling thread has the
    /// work to do, or the call waits.
    pub(crate) async fn serve(&self, mut item: Item) -> Result<(), CallFailed> {
        item.begin();
        let _worker = self.workers.acquire().await;
        let now = self.trace.now();
        let debt = match self.mode {
            Mode::Simulated => self.trace.take_debt(),
            Mode::Wall => 0,
        };
        let ending = self.timeline.call(item.id, now + debt, item.service_ns);
        match self.mode {
            Mode::Simulated => time::sleep_until(self.trace.clock(ending.at_ns)).await,
            Mode::Wall => {
                if self.work == Work::Asleep {
                    time::sleep_until(self.trace.clock(ending.at_ns)).await;
                } else {
                    let mut left = ending.at_ns.saturating_sub(now);
                    if left > SPIN_NS {
                        left = SPIN_NS / 4;
                        time::sleep_until(self.trace.clock(ending.at_ns - left)).await;
                    }
                    spin::work(left);
                }
            }
        }
        if ending.failed {
            item.finish(Fate::Failed);
            Err(CallFailed)
        } else {
            item.finish(Fate::Done);
            Ok(())
        }
    }
}
