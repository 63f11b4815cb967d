//! Timers over three islands in simulated time, twice from one seed: the same trace, byte for byte.
//!
//! `cargo run --features testkit --example spike_time`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use forebay::error::RunError;
use forebay::source;
use forebay::testkit::{Simulation, Trace};
use forebay::time::{self, Time};

/// One run: a call that takes up to 50 ms, a boundary, one that charges the processor, another
/// boundary, and a slow sink.
fn run(seed: u64) -> Result<(Vec<u64>, Time, Trace), RunError> {
    let simulation = Simulation::new(seed);
    let pipeline = source::iter(0..500_u64)
        .map_async(8, |n| async move {
            time::sleep(Duration::from_millis(n * 31 % 50)).await;
            n
        })
        .buffer(16)
        .map_async(4, |n| async move {
            time::work(Duration::from_micros(20));
            time::sleep(Duration::from_millis(n * 17 % 9)).await;
            n * 2
        })
        .async_boundary()
        .map(|n| {
            time::work(Duration::from_micros(100));
            n + 1
        })
        .collect();
    let (all, accounts) = simulation.run(pipeline)?;
    assert!(accounts.balances(), "{accounts}");
    Ok((all, simulation.now(), simulation.trace()))
}

pub(crate) fn main() -> Result<(), RunError> {
    let (all, took, trace) = run(42)?;
    assert_eq!(
        all,
        (0..500).map(|n| n * 2 + 1).collect::<Vec<_>>(),
        "in order"
    );
    assert!(
        took > Time::from_nanos(1_000_000_000),
        "the calls took seconds of simulated time"
    );

    let again = run(42)?;
    assert_eq!((&again.0, again.1), (&all, took));
    assert_eq!(
        again.2.to_string(),
        trace.to_string(),
        "the same seed, the same trace"
    );

    let other = run(43)?;
    assert_eq!(
        other.0, all,
        "another seed gives another schedule and the same result"
    );
    assert_ne!(other.2, trace);

    for event in trace.events().iter().take(20) {
        println!("{event}");
    }
    println!(
        "{} elements, {} events in {:?}",
        all.len(),
        trace.len(),
        took.since(Time::ZERO)
    );
    Ok(())
}
