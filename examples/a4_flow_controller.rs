//! A flow controller that goes by the average response time: 100 calls at first; over a second on
//! average it shrinks by 10, under 100 ms it grows by 5, between 10 and 200. A service that is quick,
//! then slow, then quick again, in simulated time.
//!
//! `cargo run --features testkit --example a4_flow_controller`

use std::time::Duration;

use forebay::control::limit::{LimitHandle, MeanLatency};
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::{self, Time};

const SECOND: Duration = Duration::from_secs(1);

/// Slow from the 10th to the 40th second.
fn response_time(now: Time) -> Duration {
    let seconds = now.since(Time::ZERO).as_secs();
    if (10..40).contains(&seconds) {
        Duration::from_millis(1500)
    } else {
        Duration::from_millis(50)
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulation = Simulation::new(4);
    let limit = LimitHandle::new(MeanLatency::a4());
    let watched = limit.clone();
    // More is asked for than any limit allows.
    let end = Time::ZERO + 60 * SECOND;
    let requests = std::iter::from_fn(move || (time::now() < end).then_some(()));
    let calls = source::iter(requests)
        .map_async(&limit, |()| async {
            let took = response_time(time::now());
            time::sleep(took).await;
        })
        .ignore();
    let watch = source::tick(SECOND)
        .map(move |tick| (tick.number, watched.limit()))
        .take(59)
        .collect();
    let (((), limits), accounts) = simulation.run(calls.and(watch))?;
    assert!(accounts.balances(), "{accounts}");
    for adjustment in limit.adjustments().iter().rev().take(5).rev() {
        eprintln!("{adjustment}");
    }
    let at = |second: usize| limits.get(second).map(|(_, limit)| *limit);
    assert_eq!(at(5), Some(200), "quick: up to the ceiling");
    assert_eq!(at(35), Some(10), "slow: down to the floor");
    assert_eq!(at(58), Some(200), "quick again");
    let most = limit.snapshot().peak;
    assert_eq!(most, 200, "never more calls than the limit");
    eprintln!(
        "{} changes, at most {most} calls at once",
        limit.snapshot().limit.rounds
    );
    Ok(())
}
