//! The test kit itself: probes on both clocks, and faults.
#![allow(clippy::unwrap_used, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::error::{Cause, RunError};
use forebay::operator::Control;
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::source;
use forebay::testkit::{Faults, Simulation, drop_at, drop_somewhere, sink_probe, source_probe};
use forebay::time::{self, Time};

const MS: Duration = Duration::from_millis(1);

/// The message of an expectation that was not met.
fn disappointed(expect: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(expect)).unwrap_err();
    payload.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn probes_drive_a_simulated_run() {
    let simulation = Simulation::new(1);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let call = |n: u64| async move {
        time::sleep(10 * MS).await;
        n
    };
    let mut run = simulation.start(flow.map_async(2, call).to(end)).unwrap();

    sink.expect_no_message(5 * MS);
    assert_eq!(
        simulation.now(),
        Time::from_nanos(5_000_000),
        "it waited exactly that long"
    );
    sink.request(3);
    assert_eq!(source.expect_request(), 2, "no more than may be in flight");
    source.send([1, 2, 3]);
    sink.expect_next(1);
    assert_eq!(simulation.now(), Time::from_nanos(15_000_000));
    sink.expect_next_n([2, 3]);
    assert_eq!(source.expect_outcome(Kind::Delivered), 0);

    source.send([4]);
    sink.expect_no_message(50 * MS);
    sink.request_next(4);
    source.complete();
    sink.expect_complete();
    run.join().unwrap();
    run.snapshot().check().unwrap();
    assert_eq!(run.snapshot().total().outcome(Kind::Delivered), 4);
}

#[test]
fn probes_wait_on_the_wall_clock_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let pipeline = flow.map(|n: u64| n + 1).to(end);
    let mut run = runtime.block_on(async { pipeline.run() }).unwrap();
    sink.request(1);
    source.expect_request();
    source.send([1, 2]);
    sink.expect_next(2);
    sink.expect_no_message(20 * MS);
    sink.request_next(3);
    source.error("no more");
    assert!(sink.expect_error().contains("no more"));
    let error = runtime.block_on(run.join()).unwrap_err();
    assert!(matches!(error, RunError::Stopped { stage, .. } if stage == "source_probe"));
    run.snapshot().check().unwrap();
}

#[test]
fn a_cancel_reaches_the_source_with_and_without_demand() {
    for demand in [0, 5] {
        let simulation = Simulation::new(1);
        let (source, flow) = source_probe::<u64>();
        let (sink, end) = sink_probe();
        let mut run = simulation.start(flow.buffer(2).to(end)).unwrap();
        sink.request(demand);
        source.expect_request();
        sink.cancel();
        source.expect_cancellation();
        run.join().unwrap();
        run.snapshot().check().unwrap();
    }
}

#[test]
fn a_test_settles_by_hand() {
    let simulation = Simulation::new(1);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let mut run = simulation.start(flow.to(end.by_hand())).unwrap();
    sink.request(3);
    source.send([1, 2, 3]);
    sink.expect_next_unordered([3, 1, 2]);
    source.expect_no_outcome(MS);
    sink.settle([Outcome::Delivered, Outcome::Shed(Reason::DropNew)]);
    assert_eq!(source.expect_outcome(Kind::Delivered), 0);
    assert_eq!(source.expect_outcome(Kind::Shed), 1);
    assert_eq!(run.snapshot().stage("sink").unwrap().counts.held, 1);
    run.abort();
    assert_eq!(source.expect_outcome(Kind::Cancelled), 2);
    sink.expect_abandoned();
    run.snapshot().check().unwrap();
}

#[test]
fn a_drain_reaches_the_source_and_messages_go_upstream() {
    let simulation = Simulation::new(1);
    let (source, flow) = source_probe::<u64>();
    let (sink, end) = sink_probe();
    let mut run = simulation.start(flow.async_boundary().to(end)).unwrap();
    sink.request(1);
    source.expect_request();
    sink.control(Control::Drain);
    source.expect_drain();
    sink.expect_complete();
    run.join().unwrap();
}

#[test]
fn expectations_that_are_not_met_say_what_came() {
    let simulation = Simulation::new(1);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let _run = simulation.start(flow.to(end)).unwrap();
    let probe = sink.within(MS);

    let message = disappointed(|| probe.expect_next(1));
    assert_eq!(message, "sink probe: expected an element, but none came");
    probe.request(9);
    source.send([7, 8, 9]);
    let message = disappointed(|| probe.expect_next(1));
    assert_eq!(message, "sink probe: expected 1, but 7 came");
    let message = disappointed(|| probe.expect_no_message(MS));
    assert_eq!(message, "sink probe: expected no message, but 8 came");
    let message = disappointed(|| probe.expect_complete());
    assert_eq!(
        message,
        "sink probe: expected the end, but 2 elements came first"
    );
    let message = disappointed(|| source.expect_no_request(MS));
    let (start, end) = (
        "source probe: expected no request, but ",
        " elements were asked for",
    );
    let asked = message
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    let asked = asked.and_then(|count| count.parse::<u64>().ok());
    // How many at a time is the island's choice.
    assert!(
        asked.is_some_and(|count| (1..=6).contains(&count)),
        "{message}"
    );
    let message = disappointed(|| {
        source.expect_outcome(Kind::Failed);
    });
    let expected = "source probe: expected an element to end failed, but element 0 ended delivered";
    assert_eq!(message, expected);
    probe.expect_next_n([8, 9]);
    source.error("broken");
    let message = disappointed(|| probe.expect_complete());
    assert_eq!(
        message,
        "sink probe: expected the end, but the flow failed: broken"
    );
    let message = disappointed(|| {
        probe.expect_any();
    });
    assert_eq!(
        message,
        "sink probe: expected an element, but the flow failed: broken"
    );
}

fn through_faults(faults: Faults) -> (Result<Vec<u64>, RunError>, Vec<u64>, Time) {
    let simulation = Simulation::new(5);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = Arc::clone(&seen);
    let pipeline = source::iter(0..100_u64)
        .buffer(8)
        .through(|flow| faults.inject(flow))
        .inspect(move |n| see.lock().unwrap().push(*n))
        .collect();
    let mut run = simulation.start(pipeline).unwrap();
    let result = run.join();
    let accounts = run.snapshot();
    assert!(accounts.balances(), "{accounts}");
    assert_eq!(accounts.held(), 0);
    let seen = seen.lock().unwrap().clone();
    (result, seen, simulation.now())
}

#[test]
fn delays_cost_time_and_nothing_else() {
    let (result, _, took) = through_faults(Faults::new(3).delay(2, 10 * MS));
    assert_eq!(result.unwrap(), (0..100).collect::<Vec<_>>());
    assert!(took > Time::ZERO + 10 * MS, "{took:?}");
    let (_, _, again) = through_faults(Faults::new(3).delay(2, 10 * MS));
    let (_, _, other) = through_faults(Faults::new(4).delay(2, 10 * MS));
    assert!(took == again && took != other);
}

#[test]
fn faults_come_before_their_element_and_end_the_run_by_name() {
    for at in [0, 1, 37, 99] {
        let before: Vec<u64> = (0..at).collect();
        let (result, seen, _) = through_faults(Faults::new(1).error_at(at));
        let RunError::Stopped {
            stage,
            cause: Cause::Error(error),
        } = result.unwrap_err()
        else {
            panic!("not stopped by an error")
        };
        assert_eq!(stage, "faults");
        assert_eq!(
            error.to_string(),
            format!("a planned error before element {at}")
        );
        assert_eq!(seen, before);

        let (result, seen, _) = through_faults(Faults::new(1).panic_at(at));
        let RunError::Stopped {
            cause: Cause::Panicked(message),
            ..
        } = result.unwrap_err()
        else {
            panic!("not stopped by a panic")
        };
        assert_eq!(message, "a planned panic");
        assert_eq!(seen, before);

        let (result, seen, _) = through_faults(Faults::new(1).stall_at(at));
        let RunError::Stopped {
            cause: Cause::Stalled,
            ..
        } = result.unwrap_err()
        else {
            panic!("not stalled")
        };
        assert_eq!(seen, before);
    }
    for seed in 0..30 {
        let (result, seen, _) = through_faults(Faults::new(seed).any_within(100));
        result.unwrap_err();
        assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_join_dropped_at_any_await_can_be_called_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut polls = 0;
    loop {
        let (early, output) = runtime.block_on(async {
            let mut run = source::iter(0..50_u64)
                .map_async(2, |n| async move {
                    tokio::task::yield_now().await;
                    n
                })
                .collect()
                .run()
                .unwrap();
            let early = drop_at(polls, run.join()).await;
            match early {
                Some(output) => (true, output.unwrap()),
                None => (false, run.join().await.unwrap()),
            }
        });
        assert_eq!(output, (0..50).collect::<Vec<_>>());
        if early {
            break;
        }
        polls += 1;
    }
    assert!(polls > 0, "it was dropped at least once");
}

#[test]
fn a_seed_chooses_where_a_future_is_dropped() {
    let simulation = Simulation::new(1);
    let mut done = [0; 2];
    for seed in 0..60 {
        let steps = Arc::new(Mutex::new(0_u64));
        let count = Arc::clone(&steps);
        let script = async move {
            for _ in 0..5 {
                time::sleep(MS).await;
                *count.lock().unwrap() += 1;
            }
        };
        let result = simulation
            .block_on(drop_somewhere(seed, 12, script))
            .unwrap();
        done[usize::from(result.is_some())] += 1;
        assert_eq!(*steps.lock().unwrap() == 5, result.is_some());
    }
    assert!(done[0] > 10 && done[1] > 10, "{done:?}");
}

#[test]
fn an_offer_dropped_at_any_await_is_either_in_or_not() {
    let mut polls = 0;
    loop {
        let simulation = Simulation::new(polls as u64);
        let (queue, flow) = source::queue(1);
        let slow = |n: u64| async move {
            time::sleep(MS).await;
            n
        };
        let mut run = simulation.start(flow.map_async(1, slow).collect()).unwrap();
        let producer = queue.clone();
        let offers = async move {
            for n in 0..5 {
                let _ = producer.offer(n).await;
            }
        };
        let all = simulation
            .block_on(drop_at(polls, offers))
            .unwrap()
            .is_some();
        queue.complete();
        let came = run.join().unwrap();
        assert_eq!(came, (0..came.len() as u64).collect::<Vec<_>>());
        run.snapshot().check().unwrap();
        if all {
            assert_eq!(came.len(), 5);
            break;
        }
        polls += 1;
    }
    assert!(polls >= 2, "it waited, and was dropped there");
}
