//! What one refusal costs on this machine, by the clock on the wall, in each system.
//!
//! The system is built as the scenario says and filled; its workers never finish, so that each further
//! offer has one element refused or given up. A single thread offers, and lets the system run to where
//! it has nothing more to do: after each offer, the dearest way, which is what is charged, or after
//! several. What the same loop costs with nothing behind it is taken off. So the whole way is in the
//! figure: the offer, the wake-up and the turn of the island, the queue, the settling of the receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::time;
use tokio::task::{JoinSet, yield_now};

use crate::measure::quantile;
use crate::scenario::{Files, Mode, Rank, Scenario, Service, Timeline, Work};
use crate::schedule::Arrival;
use crate::shop::Shop;
use crate::system::{self, Setup};
use crate::trace::{Fate, Trace};

/// Refusals in a round.
const REFUSALS: usize = 20_000;
/// The median of so many rounds is told.
const ROUNDS: usize = 7;
/// Nothing is too late, and no call ends.
const NEVER: Duration = Duration::from_secs(3600);
/// What is offered before, so that the system is full; what it holds at most.
const FILL: usize = 4096;

/// Offers at once where several are.
pub(crate) const AT_ONCE: usize = 64;

/// Nanoseconds for a refusal in that system, set up as that scenario says, if so many are offered at
/// once; rounded up.
pub(crate) fn refusal_ns(scenario: &Scenario, system: &str, at_once: usize) -> Result<u64, String> {
    let mut scenario = Scenario {
        mode: Mode::Wall,
        work: Work::Asleep,
        faults: Vec::new(),
        ..scenario.clone()
    };
    // The workers never finish: there is no rate to keep to.
    scenario.policies.throttle.level = 0.0;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bare = runtime.block_on(round(&scenario, None, at_once))?;
        let whole = runtime.block_on(round(&scenario, Some(system), at_once))?;
        rounds.push((whole - bare).max(0.0).ceil() as u64);
    }
    Ok(quantile(&mut rounds, 0.5).unwrap_or_default())
}

/// The classes of a load of ten times the capacity.
fn rank(number: usize) -> Rank {
    match number % 25 {
        0 => Rank::High,
        even if even % 2 == 0 => Rank::Medium,
        _ => Rank::Low,
    }
}

/// Nanoseconds for each refusal; without a system, of the loop alone.
async fn round(scenario: &Scenario, system: Option<&str>, at_once: usize) -> Result<f64, String> {
    let fill = if system.is_some() { FILL } else { 0 };
    let arrivals = (0..fill + REFUSALS).map(|number| Arrival {
        at_ns: 0,
        service_ns: 2 * NEVER.as_nanos() as u64,
        bytes: scenario.item_bytes,
        rank: rank(number),
        tries: 0,
    });
    let trace = Trace::new(Arc::new(arrivals.collect()), 0, 0);
    trace.begin(time::now());
    let times = Service::Constant { mean_us: 1.0 }.times(&Files::none(), 0.0)?;
    let shop = Shop::new(&trace, Timeline::new(&[], 1), scenario, &times, 1.0);
    let never = NEVER.as_nanos() as u64;
    let Some(name) = system else {
        let start = Instant::now();
        for id in 0..REFUSALS as u32 {
            if let Some(item) = trace.offer(id, never) {
                item.refuse();
            }
            if (id as usize).is_multiple_of(at_once) {
                yield_now().await;
            }
        }
        return Ok(start.elapsed().as_nanos() as f64 / REFUSALS as f64);
    };
    let built = system::build(
        name,
        &Setup {
            scenario,
            shop: &shop,
            // So that no call is slow, no wait long and no window over while it is measured.
            mean_service: Duration::from_secs(1),
            max_bytes: scenario.item_bytes,
        },
    )?;
    let mut tasks = JoinSet::new();
    for task in built.work.tasks {
        tasks.spawn(task);
    }
    let mut running = match built.work.pipeline {
        Some(pipeline) => Some(pipeline.run().map_err(|refused| refused.to_string())?),
        None => None,
    };
    let offer = |id: u32| {
        if let Some(item) = trace.offer(id, never)
            && let Err(item) = built.system.offer(item)
        {
            item.refuse();
        }
    };
    for id in 0..fill as u32 {
        offer(id);
        yield_now().await;
    }
    let given_up = || {
        (0..(fill + REFUSALS) as u32)
            .filter(|id| matches!(trace.fate(*id), Fate::Refused | Fate::Lost))
            .count()
    };
    let before = given_up();
    let start = Instant::now();
    for id in fill as u32..(fill + REFUSALS) as u32 {
        offer(id);
        if (id as usize).is_multiple_of(at_once) {
            yield_now().await;
        }
    }
    let took = start.elapsed().as_nanos() as f64;
    let refused = given_up() - before;
    trace.close();
    tasks.shutdown().await;
    if let Some(running) = &mut running {
        // What is left is cancelled; there is nothing more to learn from it.
        let _ = running.drain(Duration::ZERO).await;
    }
    if refused < REFUSALS / 2 {
        return Err(format!(
            "{name}: of {REFUSALS} offers {refused} were refused"
        ));
    }
    Ok(took / refused as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refusal_costs_something_in_every_system() {
        let text = "name = \"tiny\"\nabout = \"b\"\nduration_ms = 50\nworkers = 2\n\
                    load.total = [{ shape = \"constant\", level = 2.0 }]\n\
                    [service]\nkind = \"constant\"\nmean_us = 1000\n";
        let scenario = Scenario::parse(text).unwrap();
        for system in system::all(false) {
            for at_once in [1, AT_ONCE] {
                let ns = refusal_ns(&scenario, &system, at_once).unwrap();
                assert!((1..1_000_000).contains(&ns), "{system}: {ns}");
            }
        }
    }
}
