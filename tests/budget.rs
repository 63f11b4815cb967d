//! One budget of memory for several buffers: bytes are never promised twice, and nobody waits for ever
//! for what others hold.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::error::{Refused, RunError};
use forebay::flow::Flow;
use forebay::host::MemoryBudget;
use forebay::source;
use forebay::testkit::{Simulation, sink_probe};
use forebay::time;

const MS: Duration = Duration::from_millis(1);

fn weighed(count: u64, bytes: u64) -> Flow<u64> {
    source::iter(0..count).weigh(move |_| bytes)
}

/// Calls that take a millisecond, and note how much of the budget is used meanwhile.
fn slow(flow: Flow<u64>, budget: &MemoryBudget, peak: &Arc<AtomicU64>) -> Flow<u64> {
    let (budget, peak) = (budget.clone(), Arc::clone(peak));
    flow.map_async(1, move |n| {
        peak.fetch_max(budget.used_bytes(), Ordering::Relaxed);
        async move {
            time::sleep(MS).await;
            n
        }
    })
}

#[test]
fn two_pipelines_share_what_there_is() {
    let simulation = Simulation::new(1);
    let budget = MemoryBudget::new(1000);
    let peak = Arc::new(AtomicU64::new(0));
    let flow = |bytes| {
        let buffered = weighed(500, bytes).buffer_within(10_000, &budget);
        slow(buffered, &budget, &peak)
    };
    let both = flow(10).collect().and(flow(30).collect());
    let ((left, right), snapshot) = simulation.run(both).unwrap();
    snapshot.check().unwrap();
    assert_eq!((left.len(), right.len()), (500, 500));
    let peak = peak.load(Ordering::Relaxed);
    assert!(
        (500..=1000 + 40).contains(&peak),
        "{peak} bytes at the peak, of 1000"
    );
    assert_eq!(budget.used_bytes(), 0, "all was given back");
}

#[test]
fn buffers_behind_one_another_do_not_wait_for_what_the_others_hold() {
    let simulation = Simulation::new(2);
    let budget = MemoryBudget::new(100);
    let peak = Arc::new(AtomicU64::new(0));
    let flow = weighed(300, 10)
        .buffer_within(1000, &budget)
        .map(|n| n + 1)
        .buffer_within(1000, &budget)
        .buffer_within(1000, &budget);
    let (all, snapshot) = simulation
        .run(slow(flow, &budget, &peak).collect())
        .unwrap();
    snapshot.check().unwrap();
    assert_eq!(all, (1..=300).collect::<Vec<_>>());
    let peak = peak.load(Ordering::Relaxed);
    assert!(peak <= 100 + 3 * 10, "{peak} bytes at the peak, of 100");
}

#[test]
fn an_element_larger_than_the_whole_budget_passes_alone() {
    let simulation = Simulation::new(3);
    let budget = MemoryBudget::new(100);
    let flow = weighed(20, 1000).buffer_within(1000, &budget);
    let (all, snapshot) = simulation.run(flow.collect()).unwrap();
    assert_eq!(all.len(), 20);
    let held = snapshot.stage("buffer_within").unwrap().counts.held_peak;
    assert_eq!(held, 1);
}

#[test]
fn a_cancelled_buffer_gives_its_bytes_back() {
    let simulation = Simulation::new(4);
    let budget = MemoryBudget::new(100);
    let (sink, end) = sink_probe();
    let flow = weighed(1000, 10).buffer_within(1000, &budget);
    let run = simulation.start(flow.to(end)).unwrap();
    simulation.advance(MS);
    assert!(budget.used_bytes() >= 50, "{budget:?}");
    sink.cancel();
    simulation.advance(MS);
    assert_eq!(budget.used_bytes(), 0);
    run.snapshot().check().unwrap();
}

#[test]
fn a_buffer_that_sheds_is_refused() {
    let budget = MemoryBudget::new(100);
    let buffer = Buffer::items(10).when_full(WhenFull::DropHead);
    let refused = weighed(10, 1)
        .buffer_within(buffer, &budget)
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Setting { stage, what })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(stage, "buffer_within");
    assert!(what.contains("back-pressure"), "{what}");
}

#[test]
fn an_error_before_it_stops_the_run_as_itself() {
    let simulation = Simulation::new(5);
    let budget = MemoryBudget::new(1000);
    let flow = weighed(100, 10)
        .try_map(|n| {
            if *n < 50 {
                Ok(*n)
            } else {
                Err("the disk is gone")
            }
        })
        .or_stop()
        .buffer_within(1000, &budget);
    let error = simulation.run(flow.collect()).unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_drain_keeps_the_bytes_of_what_is_still_inside() {
    let simulation = Simulation::new(6);
    let budget = MemoryBudget::new(100);
    let (sink, end) = sink_probe();
    let flow = weighed(1000, 10).buffer_within(1000, &budget);
    let mut run = simulation.start(flow.to(end)).unwrap();
    simulation.advance(MS);
    let inside = budget.used_bytes();
    run.stopper().drain();
    simulation.advance(MS);
    assert_eq!(budget.used_bytes(), inside, "nothing has left");
    sink.request(1000);
    run.join().unwrap();
    assert_eq!(budget.used_bytes(), 0);
}
