//! The work on elements: the user code that every system runs, the same for all.

use std::sync::{Arc, Mutex, PoisonError};

use forebay::time::{self, TimedOut};
use tokio::sync::Semaphore;

use crate::scenario::{Fault, Mode, Scenario, Timeline, Times, Work};
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
/// Which part of its time a call takes that is over the rate.
const REFUSED_PART: u64 = 10;

/// The calls that a destination serves, where it does not serve all.
#[derive(Debug, Default)]
struct Tokens {
    /// None was asked for so far: all are there.
    left: Option<f64>,
    at_ns: u64,
}

/// Where elements are worked on.
#[derive(Debug)]
pub(crate) struct Shop {
    trace: Arc<Trace>,
    timeline: Timeline,
    mode: Mode,
    work: Work,
    workers: Semaphore,
    /// Another destination, which no fault befalls.
    spare: Semaphore,
    call_ns: u64,
    capacity_per_s: f64,
    tokens: Mutex<Tokens>,
}

impl Shop {
    pub(crate) fn new(
        trace: &Arc<Trace>,
        timeline: Timeline,
        scenario: &Scenario,
        times: &Times,
        capacity_per_s: f64,
    ) -> Arc<Shop> {
        Arc::new(Shop {
            trace: Arc::clone(trace),
            timeline,
            mode: scenario.mode,
            work: scenario.work,
            workers: Semaphore::new(scenario.workers),
            spare: Semaphore::new(scenario.policies.divert.workers),
            call_ns: times.call_ns(),
            capacity_per_s,
            tokens: Mutex::default(),
        })
    }

    pub(crate) fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Works on one element, as soon as a worker is free.
    pub(crate) async fn serve(&self, item: Item) -> Result<(), CallFailed> {
        item.begin();
        let _worker = self.workers.acquire().await;
        if self.call(item.id, item.tries(), item.service_ns).await {
            item.finish(Fate::Done);
            Ok(())
        } else {
            item.fail();
            Err(CallFailed)
        }
    }

    /// Works on several in one call, by one worker: all end with it.
    pub(crate) async fn serve_all(&self, items: Vec<Item>) -> Result<(), CallFailed> {
        items.iter().for_each(Item::begin);
        let _worker = self.workers.acquire().await;
        let service_ns = items.iter().map(|item| item.service_ns).sum();
        let (first, tries) = items.first().map_or((0, 0), |item| (item.id, item.tries()));
        if self.call(first, tries, service_ns).await {
            for item in items {
                item.finish(Fate::Done);
            }
            Ok(())
        } else {
            for item in items {
                item.fail();
            }
            Err(CallFailed)
        }
    }

    /// Works on one at the other destination.
    pub(crate) async fn serve_elsewhere(&self, item: Item) {
        item.begin();
        let _worker = self.spare.acquire().await;
        let service_ns = item.service_ns + self.call_ns;
        self.until(self.trace.now(), service_ns).await;
        item.finish(Fate::Done);
    }

    /// A call, as the faults have it; false if it fails. In simulated time each worker has a core of its
    /// own, which pays for the refusals since the last start.
    async fn call(&self, id: u32, tries: u32, service_ns: u64) -> bool {
        let now = self.trace.now();
        let debt = match self.mode {
            Mode::Simulated => self.trace.take_debt(),
            Mode::Wall => 0,
        };
        let service_ns = service_ns + self.call_ns;
        if self.is_over_the_rate(now) {
            self.until(now, debt + service_ns / REFUSED_PART).await;
            return false;
        }
        let ending = self.timeline.call(id, tries, now + debt, service_ns);
        self.until(now, ending.at_ns.saturating_sub(now)).await;
        !ending.failed
    }

    fn is_over_the_rate(&self, now_ns: u64) -> bool {
        let faults = self.timeline.faults().iter();
        let mut limits = faults.filter_map(|fault| match fault {
            Fault::RateLimit { level, burst, .. } if fault.is_on(now_ns) => Some((level, burst)),
            _ => None,
        });
        let Some((level, burst)) = limits.next() else {
            return false;
        };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let past_s = now_ns.saturating_sub(tokens.at_ns) as f64 / 1e9;
        let most = f64::from(*burst);
        let left = tokens.left.unwrap_or(most) + past_s * level * self.capacity_per_s;
        let left = left.min(most);
        let is_over = left < 1.0;
        tokens.left = Some(if is_over { left } else { left - 1.0 });
        tokens.at_ns = now_ns;
        is_over
    }

    /// Lets so much time pass. On the wall clock the calling thread has so much work to do, or the call
    /// waits.
    async fn until(&self, now_ns: u64, after_ns: u64) {
        let at_ns = now_ns.saturating_add(after_ns);
        match self.mode {
            Mode::Simulated => time::sleep_until(self.trace.clock(at_ns)).await,
            Mode::Wall => {
                if self.work == Work::Asleep {
                    time::sleep_until(self.trace.clock(at_ns)).await;
                } else {
                    let mut left = after_ns;
                    if left > SPIN_NS {
                        left = SPIN_NS / 4;
                        time::sleep_until(self.trace.clock(at_ns - left)).await;
                    }
                    spin::work(left);
                }
            }
        }
    }
}
