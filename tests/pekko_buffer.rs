//! Behaviours that users of Pekko Streams rely on, from the expectations of its `FlowBufferSpec`, in
//! our own words and with our own code; and each policy against a model on a `VecDeque`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::error::{Cause, RunError};
use forebay::flow::Flow;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::testkit::{
    SimulatedRun, Simulation, SinkProbe, SourceProbe, sink_probe, source_probe,
};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

/// A stage between a source and a sink in the hands of the test, in simulated time.
struct Bench {
    source: SourceProbe<u32>,
    sink: SinkProbe<u32>,
    run: SimulatedRun<()>,
    simulation: Simulation,
}

impl Bench {
    fn of(stage: impl FnOnce(Flow<u32>) -> Flow<u32>) -> Bench {
        let simulation = Simulation::new(1);
        let (source, flow) = source_probe();
        let (sink, end) = sink_probe();
        let run = simulation.start(stage(flow).to(end)).unwrap();
        Bench {
            source,
            sink,
            run,
            simulation,
        }
    }

    fn buffer(items: usize, when_full: WhenFull) -> Bench {
        Bench::of(|flow| flow.buffer(Buffer::items(items).when_full(when_full)))
    }

    /// Has the source give these, and waits until nothing moves any more.
    fn send(&self, values: impl IntoIterator<Item = u32>) {
        self.source.send(values);
        self.simulation.advance(MS);
    }

    /// Takes these, and nothing else is there to be taken.
    fn takes(&self, values: impl IntoIterator<Item = u32>) {
        let values: Vec<u32> = values.into_iter().collect();
        self.sink.request(values.len());
        self.sink.expect_next_n(values);
    }

    fn held(&self) -> u64 {
        self.run.snapshot().stage("buffer").unwrap().counts.held
    }

    /// The source ends, and then the run, with balanced accounts.
    fn end(mut self) -> Snapshot {
        self.source.complete();
        // A boundary tells its end to whom asks.
        self.sink.request(1);
        self.sink.expect_complete();
        self.run.join().unwrap();
        let snapshot = self.run.snapshot();
        snapshot.check().unwrap();
        snapshot
    }

    /// The run stops with an overflow.
    fn overflows(mut self) -> Snapshot {
        let error = self.run.join().unwrap_err();
        let RunError::Stopped { stage, cause } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(cause, Cause::Overflow { .. }), "{cause}");
        assert_eq!(stage, "buffer");
        let snapshot = self.run.snapshot();
        snapshot.check().unwrap();
        snapshot
    }
}

/// How many came in, were delivered, and were given up for that reason.
fn account(snapshot: &Snapshot, reason: Reason) -> (u64, u64, u64) {
    let total = snapshot.total();
    let given_up = snapshot.stage("buffer").unwrap().counts.reason(reason);
    let others = total.entered - total.outcome(Kind::Delivered) - given_up;
    assert_eq!(others, 0, "{snapshot}");
    (total.entered, total.outcome(Kind::Delivered), given_up)
}

/// `FlowBufferSpec`: pass elements through normally in backpressured mode, also with size one, and
/// through a chain of buffers of different sizes.
#[test]
fn buffer_passes_all_elements_on_in_order() {
    let stages: [fn(Flow<u32>) -> Flow<u32>; 3] = [
        |flow| flow.buffer(1000),
        |flow| flow.buffer(1),
        |flow| flow.buffer(1).buffer(5).buffer(32).buffer(1000).buffer(2),
    ];
    for stage in stages {
        let bench = Bench::of(stage);
        bench.sink.request(1000);
        bench.source.send(1..=1000);
        bench.sink.expect_next_n(1..=1000);
        assert_eq!(account(&bench.end(), Reason::Plain), (1000, 1000, 0));
    }
}

/// `FlowBufferSpec`: accept elements that fit in the buffer while downstream is silent.
#[test]
fn buffer_takes_in_what_it_can_hold_while_nobody_asks_and_no_more() {
    let bench = Bench::buffer(100, WhenFull::Backpressure);
    bench.send(1..=150);
    assert_eq!(bench.held(), 100);
    assert_eq!(bench.run.snapshot().total().entered, 100, "asked for");
    bench.sink.expect_no_message(MS);
    bench.takes(1..=150);
    assert_eq!(account(&bench.end(), Reason::Plain), (150, 150, 0));
}

/// `FlowBufferSpec`: drop head elements if buffer is full and configured so.
#[test]
fn buffer_drops_the_oldest() {
    let bench = Bench::buffer(100, WhenFull::DropHead);
    bench.send(1..=200);
    bench.takes(101..=200);
    bench.sink.request(1);
    bench.sink.expect_no_message(MS);
    bench.send([201]);
    bench.sink.expect_next(201);
    assert_eq!(account(&bench.end(), Reason::DropHead), (201, 101, 100));
}

/// `FlowBufferSpec`: drop tail elements if buffer is full and configured so.
#[test]
fn buffer_drops_the_youngest_it_holds() {
    let bench = Bench::buffer(100, WhenFull::DropTail);
    bench.send(1..=200);
    bench.takes((1..=99).chain([200]));
    bench.send([201]);
    bench.takes([201]);
    assert_eq!(account(&bench.end(), Reason::DropTail), (201, 101, 100));
}

/// `FlowBufferSpec`: drop all elements if buffer is full and configured so.
#[test]
fn buffer_drops_all_it_holds() {
    let bench = Bench::buffer(100, WhenFull::DropBuffer);
    bench.send(1..=150);
    bench.takes(101..=150);
    bench.send([151]);
    bench.takes([151]);
    assert_eq!(account(&bench.end(), Reason::DropBuffer), (151, 51, 100));
}

/// `FlowBufferSpec`: drop new elements if buffer is full and configured so.
#[test]
fn buffer_drops_what_comes() {
    let bench = Bench::buffer(100, WhenFull::DropNew);
    bench.send(1..=150);
    bench.takes(1..=100);
    bench.send([151]);
    bench.takes([151]);
    assert_eq!(account(&bench.end(), Reason::DropNew), (151, 101, 50));
}

/// `FlowBufferSpec`: fail upstream if buffer is full and configured so.
#[test]
fn buffer_fails_when_one_more_comes_than_it_holds() {
    let bench = Bench::buffer(100, WhenFull::Fail);
    bench.send(1..=100);
    bench.takes(1..=100);
    bench.send(101..=200);
    bench.sink.expect_no_message(MS);
    bench.send([201]);
    bench.sink.request(1);
    assert!(bench.sink.expect_error().contains("100"));
    bench.source.expect_cancellation();
    let snapshot = bench.overflows();
    let total = snapshot.total();
    let ends = [Kind::Delivered, Kind::Failed, Kind::Cancelled].map(|kind| total.outcome(kind));
    assert_eq!((total.entered, ends), (201, [100, 1, 100]));
    let stage = snapshot.stage("buffer").unwrap();
    assert_eq!(stage.counts.reason(Reason::Overflow), 1);
}

/// `FlowBufferSpec`: the same with a buffer of size one.
#[test]
fn buffer_of_one_keeps_the_one_that_its_policy_says() {
    for (when_full, reason, kept) in [
        (WhenFull::DropHead, Reason::DropHead, 200),
        (WhenFull::DropTail, Reason::DropTail, 200),
        (WhenFull::DropBuffer, Reason::DropBuffer, 200),
        (WhenFull::DropNew, Reason::DropNew, 1),
    ] {
        let bench = Bench::buffer(1, when_full);
        bench.send(1..=200);
        assert_eq!(bench.held(), 1);
        bench.takes([kept]);
        bench.send([201]);
        bench.takes([201]);
        assert_eq!(
            account(&bench.end(), reason),
            (201, 2, 199),
            "{when_full:?}"
        );
    }
    let bench = Bench::buffer(1, WhenFull::Fail);
    bench.send([1]);
    bench.takes([1]);
    bench.send([2, 3]);
    bench.sink.request(1);
    bench.sink.expect_error();
    let total = bench.overflows().total();
    assert_eq!(
        (total.outcome(Kind::Delivered), total.outcome(Kind::Failed)),
        (1, 1)
    );
}

/// What every stage of Pekko's does with elements inside when upstream completes: they go first.
#[test]
fn buffer_completes_after_what_it_holds() {
    let bench = Bench::buffer(10, WhenFull::Backpressure);
    bench.send(1..=5);
    bench.source.complete();
    bench.sink.expect_no_message(MS);
    assert_eq!(bench.held(), 5);
    bench.takes(1..=5);
    assert_eq!(account(&bench.end(), Reason::Plain), (5, 5, 0));
}

/// And when upstream fails: the failure goes first, and what is inside is cancelled.
#[test]
fn buffer_is_overtaken_by_a_failure() {
    for when_full in [WhenFull::Backpressure, WhenFull::DropHead] {
        let mut bench = Bench::buffer(10, when_full);
        bench.send(1..=5);
        bench.takes([1]);
        bench.source.error("broken");
        let error = bench.run.join().unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        let snapshot = bench.run.snapshot();
        snapshot.check().unwrap();
        let total = snapshot.total();
        let ends = [Kind::Delivered, Kind::Cancelled].map(|kind| total.outcome(kind));
        assert_eq!((total.entered, ends), (5, [1, 4]), "{when_full:?}");
    }
}

/// And when downstream cancels: the source hears of it, full or not.
#[test]
fn buffer_hands_a_cancellation_on() {
    for when_full in [WhenFull::Backpressure, WhenFull::DropNew] {
        let mut bench = Bench::buffer(10, when_full);
        bench.send(1..=20);
        bench.takes([1]);
        bench.sink.cancel();
        bench.source.expect_cancellation();
        bench.run.join().unwrap();
        bench.run.snapshot().check().unwrap();
        let total = bench.run.snapshot().total();
        let (delivered, shed) = (total.outcome(Kind::Delivered), total.outcome(Kind::Shed));
        assert_eq!(delivered, 1);
        assert_eq!(total.outcome(Kind::Cancelled), total.entered - 1 - shed);
    }
}

/// What a test does to a buffer.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u32),
    Take(usize),
}

/// What a buffer is.
struct Model {
    held: VecDeque<u32>,
    capacity: usize,
    when_full: WhenFull,
    given_up: u64,
    /// What back-pressure keeps with the source.
    waiting: VecDeque<u32>,
    /// It has overflowed.
    failed: bool,
}

impl Model {
    fn offer(&mut self, value: u32) {
        if self.held.len() < self.capacity && self.waiting.is_empty() {
            self.held.push_back(value);
            return;
        }
        match self.when_full {
            WhenFull::Backpressure => return self.waiting.push_back(value),
            WhenFull::Fail => self.failed = true,
            WhenFull::DropNew => {}
            WhenFull::DropHead => drop(self.held.pop_front()),
            WhenFull::DropTail => drop(self.held.pop_back()),
            WhenFull::DropBuffer => {
                self.given_up += self.held.len() as u64 - 1;
                self.held.clear();
            }
        }
        self.given_up += 1;
        if self.when_full.sheds() && self.when_full != WhenFull::DropNew {
            self.held.push_back(value);
        }
    }

    fn take(&mut self, count: usize) -> Vec<u32> {
        let all = self.held.drain(..).chain(self.waiting.drain(..));
        let mut all: VecDeque<u32> = all.collect();
        let taken = all.drain(..count.min(all.len())).collect();
        self.waiting = all.split_off(self.capacity.min(all.len()));
        self.held = all;
        taken
    }
}

fn policies() -> impl Strategy<Value = WhenFull> {
    prop::sample::select(vec![
        WhenFull::Backpressure,
        WhenFull::DropHead,
        WhenFull::DropTail,
        WhenFull::DropNew,
        WhenFull::DropBuffer,
        WhenFull::Fail,
    ])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1_u32..40).prop_map(Step::Send),
        (1_usize..30).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 1..20)
}

fn agree(when_full: WhenFull, capacity: usize, steps: &[Step]) {
    let bench = Bench::buffer(capacity, when_full);
    let mut model = Model {
        held: VecDeque::new(),
        capacity,
        when_full,
        given_up: 0,
        waiting: VecDeque::new(),
        failed: false,
    };
    let (mut next, mut delivered) = (0_u32, 0);
    for step in steps {
        match *step {
            Step::Send(count) => {
                bench.send(next..next + count);
                for _ in 0..count {
                    model.offer(next);
                    next += 1;
                    if model.failed {
                        // What comes behind it may have come in and is refused, or not.
                        bench.sink.request(1);
                        bench.sink.expect_error();
                        let total = bench.overflows().total();
                        assert_eq!(total.outcome(Kind::Delivered), delivered);
                        assert_eq!(total.outcome(Kind::Cancelled), capacity as u64);
                        assert!(total.outcome(Kind::Failed) >= 1);
                        return;
                    }
                }
            }
            Step::Take(count) => {
                let taken = model.take(count);
                delivered += taken.len() as u64;
                bench.takes(taken);
            }
        }
        assert!(bench.held() <= capacity as u64);
        if when_full != WhenFull::Backpressure {
            assert_eq!(bench.held(), model.held.len() as u64);
        }
    }
    let rest = model.take(usize::MAX);
    delivered += rest.len() as u64;
    bench.takes(rest);
    let reason = match when_full {
        WhenFull::DropHead => Reason::DropHead,
        WhenFull::DropTail => Reason::DropTail,
        WhenFull::DropNew => Reason::DropNew,
        WhenFull::DropBuffer => Reason::DropBuffer,
        WhenFull::Backpressure | WhenFull::Fail => Reason::Overflow,
    };
    let accounts = (u64::from(next), delivered, model.given_up);
    assert_eq!(account(&bench.end(), reason), accounts);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_buffer_is_its_model(when_full in policies(), capacity in 1_usize..50, steps in steps()) {
        agree(when_full, capacity, &steps);
    }
}
