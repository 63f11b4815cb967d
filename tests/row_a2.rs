//! Mission row A2 in a pipeline: a clock of one tick a second, conflated, zipped with a fast
//! producer; and a throttle of 100 a second with a burst of 20, shaping, enforcing and diverting.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::control::{ThrottleMode, TooFast};
use forebay::error::{Cause, RunError};
use forebay::flow::Rate;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::{Simulation, sink_probe, source_probe};
use forebay::time::{self, Time};

#[path = "../examples/a2_throttle.rs"]
mod a2_throttle;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RATE: f64 = 100.0;
const BURST: u32 = 20;

fn rate(mode: ThrottleMode) -> Rate {
    Rate::new(RATE, BURST, mode).unwrap()
}

fn balanced(snapshot: &Snapshot) {
    snapshot.check().unwrap();
}

type Arrivals = Arc<Mutex<Vec<(u64, Time)>>>;

fn arrivals() -> (Arrivals, impl FnMut(u64) + Send + 'static) {
    let arrivals = Arrivals::default();
    let seen = Arc::clone(&arrivals);
    let note = move |n| seen.lock().unwrap().push((n, time::now()));
    (arrivals, note)
}

#[test]
fn row_a2_ticks_conflated_and_zipped_with_a_fast_producer_give_one_element_a_second() {
    let simulation = Simulation::new(1);
    let produced = Arc::new(Mutex::new(0_u64));
    let count = Arc::clone(&produced);
    // 1000 a second, of which the clock takes what has come since its last tick as one sum.
    let fast = source::unfold_async(0_u64, move |n| {
        let count = Arc::clone(&count);
        async move {
            time::sleep(MS).await;
            *count.lock().unwrap() += 1;
            (n < 10_000).then_some((n + 1, 1_u64))
        }
    })
    .untracked();
    let conflated = fast.conflate(|sum, one| *sum += one);
    let clock = source::tick(SECOND).skip(1);
    let (sums, note) = arrivals();
    let pipeline = clock
        .zip(conflated)
        .map(|(_, sum)| sum)
        .take(9)
        .for_each(note);
    simulation.run(pipeline).unwrap();
    let sums = sums.lock().unwrap();
    assert_eq!(sums.len(), 9);
    assert_eq!(
        *produced.lock().unwrap(),
        9_000,
        "the producer is not slowed down"
    );
    for (second, (sum, at)) in (1..).zip(sums.iter()) {
        assert_eq!(
            *at,
            Time::ZERO + SECOND * second,
            "one a second, on the second"
        );
        // Zip fetches one value ahead: the first two are what had come when it asked.
        assert!(
            (998..=1002).contains(sum) || second <= 2,
            "{sum} in second {second}"
        );
    }
}

#[test]
fn row_a2_shaping_passes_the_burst_at_once_and_then_100_a_second() {
    let simulation = Simulation::new(2);
    let (seen, note) = arrivals();
    let pipeline = source::iter(0..3020_u64)
        .throttle(&rate(ThrottleMode::Shaping))
        .for_each(note);
    simulation.run(pipeline).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3020, "shaping gives nothing up");
    assert!(seen.iter().map(|(n, _)| *n).eq(0..3020), "in order");
    let at_once = seen.iter().filter(|(_, at)| *at == Time::ZERO).count();
    assert_eq!(at_once, 20);
    let span = seen.last().unwrap().1.since(Time::ZERO).as_secs_f64();
    let per_second = 3000.0 / span;
    assert!(
        (per_second / RATE - 1.0).abs() < 0.02,
        "{per_second} a second"
    );
    for pair in seen[20..].windows(2) {
        let apart = pair[1].1.since(pair[0].1);
        assert!(
            apart >= Duration::from_micros(9_999),
            "{apart:?} apart: delayed one by one"
        );
    }
}

#[test]
fn row_a2_shaping_slows_the_producer_down() {
    let simulation = Simulation::new(3);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let run = simulation
        .start(flow.throttle(&rate(ThrottleMode::Shaping)).to(end))
        .unwrap();
    sink.request(1000);
    simulation.advance(MS);
    source.send(0..20_u64);
    simulation.advance(MS);
    assert_eq!(sink.expect_any_n(20).len(), 20);
    source.send(20..40);
    sink.expect_no_message(8 * MS);
    simulation.advance(2 * MS);
    sink.expect_next(20);
    assert!(
        run.snapshot().stage("throttle").unwrap().counts.held <= 20,
        "it takes in no more than may pass"
    );
    simulation.advance(SECOND);
    assert_eq!(sink.expect_any_n(19).len(), 19);
    balanced(&run.snapshot());
}

#[test]
fn row_a2_enforcing_fails_at_the_21st_and_says_how_much_too_soon() {
    let simulation = Simulation::new(4);
    let (seen, note) = arrivals();
    let pipeline = source::iter(0..100_u64)
        .throttle(&rate(ThrottleMode::Enforcing))
        .for_each(note);
    let mut run = simulation.start(pipeline).unwrap();
    let error = run.join().unwrap_err();
    let too_fast = match &error {
        RunError::Stopped {
            cause: Cause::Error(error),
            ..
        } => error.downcast_ref::<TooFast>().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        *too_fast,
        TooFast::For(10 * MS),
        "the 21st came 10 ms too soon"
    );
    assert_eq!(seen.lock().unwrap().len(), 20, "exactly the burst");
    let snapshot = run.snapshot();
    let counts = snapshot.stage("throttle").unwrap().counts.clone();
    assert_eq!(counts.reason(Reason::Throttled), 1);
    assert_eq!(counts.outcome(Kind::Failed), 1);
    balanced(&snapshot);
}

#[test]
fn row_a2_enforcing_lets_pass_who_keeps_the_rate() {
    let simulation = Simulation::new(5);
    let (seen, note) = arrivals();
    let pipeline = source::tick(10 * MS)
        .map(|tick| tick.number)
        .take(500)
        .throttle(&rate(ThrottleMode::Enforcing))
        .for_each(note);
    simulation.run(pipeline).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 500);
}

#[test]
fn diverting_sheds_what_comes_too_soon_and_counts_it() {
    let simulation = Simulation::new(6);
    let (seen, note) = arrivals();
    // 1000 a second offered for 10 s.
    let pipeline = source::tick(MS)
        .untracked()
        .map(|tick| tick.number)
        .take(10_000)
        .throttle(&rate(ThrottleMode::Diverting))
        .for_each(note);
    let mut run = simulation.start(pipeline).unwrap();
    run.join().unwrap();
    let passed = seen.lock().unwrap().len() as u64;
    assert!(
        (1000..=1021).contains(&passed),
        "{passed} of 10 s at 100, and the burst"
    );
    let snapshot = run.snapshot();
    let counts = snapshot.stage("throttle").unwrap().counts.clone();
    assert_eq!(counts.outcome(Kind::Shed), 10_000 - passed);
    balanced(&snapshot);
}

#[test]
fn a_changed_rate_wakes_who_waits_and_keeps_the_spent_burst() {
    let simulation = Simulation::new(7);
    let rate = Rate::new(1.0, 1, ThrottleMode::Shaping).unwrap();
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let run = simulation.start(flow.throttle(&rate).to(end)).unwrap();
    sink.request(1000);
    simulation.advance(MS);
    source.send(0..50_u64);
    simulation.advance(MS);
    sink.expect_next(0);
    sink.expect_no_message(500 * MS);
    let faster = rate.clone();
    simulation
        .block_on(async move { faster.set(1000.0, "the service is well again") })
        .unwrap()
        .unwrap();
    simulation.advance(10 * MS);
    let passed = sink.expect_any_n(9);
    assert!(
        passed.iter().copied().eq(1..10),
        "{passed:?}: about 10 in 10 ms, no new burst"
    );
    let last = rate.adjustments().pop().unwrap();
    assert_eq!(last.because, "the service is well again");
    balanced(&run.snapshot());
}

#[test]
fn one_rate_serves_two_flows_together() {
    let simulation = Simulation::new(8);
    let rate = rate(ThrottleMode::Shaping);
    let (seen, note) = arrivals();
    let (others, note_other) = arrivals();
    let left = source::repeat(1_u64).untracked().throttle(&rate);
    let right = source::repeat(2_u64).untracked().throttle(&rate);
    let _left = simulation.start(left.for_each(note)).unwrap();
    let _right = simulation.start(right.for_each(note_other)).unwrap();
    simulation.advance(10 * SECOND);
    let (left, right) = (seen.lock().unwrap().len(), others.lock().unwrap().len());
    let both = left + right;
    assert!((1018..=1022).contains(&both), "{left} and {right}");
    assert!(
        left > 200 && right > 200,
        "{left} and {right}: none starves"
    );
}

#[test]
fn cost_above_the_burst_trickles_in() {
    let simulation = Simulation::new(9);
    let (seen, note) = arrivals();
    let rate = rate(ThrottleMode::Shaping);
    let pipeline = source::iter([10_u64, 100, 0, 5])
        .throttle_by(&rate, |n| *n as u32)
        .for_each(note);
    simulation.run(pipeline).unwrap();
    let at: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(_, at)| at.since(Time::ZERO).as_millis())
        .collect();
    // 10 of the 20 at once; the 100 wait for 90 more; what costs nothing follows; 5 take 50 ms.
    assert_eq!(at, [0, 900, 900, 950]);
}

#[test]
fn row_a2_the_example() {
    a2_throttle::main().unwrap();
}
