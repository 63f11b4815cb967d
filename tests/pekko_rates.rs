//! Behaviours that Pekko's stream tests expect where producers and consumers differ in speed, in our
//! words: of its `FlowConflateSpec`, `FlowBatchSpec`, `FlowBatchWeightedSpec` and `FlowExpandSpec`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::error::RunError;
use forebay::flow::Flow;
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::{Simulation, SinkProbe, SourceProbe, sink_probe, source_probe};
use forebay::time;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

struct Bench<T, U> {
    simulation: Simulation,
    source: SourceProbe<T>,
    sink: SinkProbe<U>,
    run: forebay::testkit::SimulatedRun<()>,
}

fn bench<T, U>(part: impl FnOnce(Flow<T>) -> Flow<U>) -> Bench<T, U>
where
    T: Send + 'static,
    U: Send + 'static,
{
    let simulation = Simulation::new(7);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let run = simulation.start(flow.through(part).to(end)).unwrap();
    Bench {
        simulation,
        source,
        sink,
        run,
    }
}

impl<T: Send + 'static, U: Send + 'static> Bench<T, U> {
    /// Lets everything happen that can.
    fn settle(&self) {
        self.simulation.advance(MS);
    }

    fn outcome(&self, kind: Kind) -> u64 {
        self.settle();
        self.run.snapshot().total().outcome(kind)
    }

    fn ends(mut self) {
        self.run.join().unwrap();
        self.run.snapshot().check().unwrap();
    }
}

fn add(sum: &mut u64, n: u64) {
    *sum += n;
}

/// A queue of all values, in order.
fn gather(part: Flow<u64>, most: u64) -> Flow<Vec<u64>> {
    part.batch_with_seed(most, |_| 1, |n| vec![n], Vec::push)
}

#[test]
fn conflate_passes_elements_on_when_there_is_no_rate_difference() {
    let bench = bench(|flow| flow.conflate(add));
    for n in 1..=100 {
        bench.sink.request(1);
        bench.source.send([n]);
        bench.sink.expect_next(n);
    }
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn conflate_merges_what_came_while_nobody_asked() {
    let bench = bench(|flow| flow.conflate(add));
    for n in 1..=100 {
        bench.source.send([n]);
        bench.settle();
    }
    assert_eq!(bench.outcome(Kind::Delivered), 0);
    bench.sink.request(1);
    bench.sink.expect_next(5050);
    assert_eq!(
        bench.outcome(Kind::Delivered),
        100,
        "its receipt stood for all of them"
    );
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn conflate_back_pressures_downstream_when_upstream_is_slower() {
    let bench = bench(|flow| flow.conflate(add));
    bench.sink.request(1);
    bench.source.send([1]);
    bench.sink.expect_next(1);
    bench.sink.request(1);
    bench.sink.expect_no_message(50 * MS);
    bench.source.send([2]);
    bench.sink.expect_next(2);
    bench.source.send([3]);
    bench.settle();
    bench.source.send([4]);
    bench.settle();
    bench.sink.request(1);
    bench.sink.expect_next(7);
    bench.sink.request(1);
    bench.sink.expect_no_message(50 * MS);
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn conflate_hands_on_what_it_holds_before_it_completes() {
    let bench = bench(|flow| flow.conflate(add));
    bench.source.send([1, 2, 3]);
    bench.source.complete();
    bench.settle();
    bench.sink.request(1);
    bench.sink.expect_next(6);
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn conflate_with_seed_makes_a_value_of_another_type() {
    let bench = bench(|flow: Flow<u64>| {
        flow.conflate_with_seed(|n| format!("{n}"), |text, n| text.push_str(&n.to_string()))
    });
    bench.source.send([1, 2, 3]);
    bench.settle();
    bench.sink.request(1);
    bench.sink.expect_next("123".to_owned());
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn a_panic_of_the_merge_stops_the_run_and_every_element_is_accounted_for() {
    let bench = bench(|flow: Flow<u64>| flow.conflate(|_, n| assert!(n != 3, "three")));
    bench.source.send([1, 2]);
    bench.settle();
    bench.source.send([3]);
    assert!(bench.sink.expect_error().contains("three"));
    let Bench { mut run, .. } = bench;
    assert!(matches!(run.join(), Err(RunError::Stopped { stage, .. }) if stage == "conflate"));
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[test]
fn a_cancel_settles_what_is_merged() {
    let bench = bench(|flow| flow.conflate(add));
    bench.source.send([1, 2, 3]);
    bench.settle();
    bench.sink.cancel();
    bench.source.expect_cancellation();
    assert_eq!(bench.outcome(Kind::Cancelled), 3);
    bench.ends();
}

#[test]
fn batch_gathers_up_to_its_most_and_then_back_pressures() {
    let bench = bench(|flow| gather(flow, 3));
    bench.source.send(1..=10);
    bench.settle();
    let stage = bench
        .run
        .snapshot()
        .stage("batch_with_seed")
        .unwrap()
        .counts
        .held;
    assert_eq!(stage, 3, "and takes no more");
    bench.sink.request(1);
    bench.sink.expect_next(vec![1, 2, 3]);
    bench.settle();
    bench.sink.request(1);
    bench.sink.expect_next(vec![4, 5, 6]);
    bench.sink.cancel();
    bench.source.expect_cancellation();
    bench.ends();
}

#[test]
fn batch_weighted_keeps_to_the_weight_and_lets_a_heavier_one_pass_alone() {
    let bench = bench(|flow: Flow<u64>| flow.batch_with_seed(10, |n| *n, |n| vec![n], Vec::push));
    bench.source.send([4, 5, 6, 1, 40, 2]);
    bench.settle();
    for expected in [vec![4, 5], vec![6, 1], vec![40], vec![2]] {
        bench.sink.request(1);
        bench.sink.expect_next(expected);
        bench.settle();
    }
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn expand_repeats_the_last_element_while_upstream_is_silent() {
    let bench = bench(|flow: Flow<u64>| flow.expand(std::iter::repeat));
    bench.source.send([42]);
    for _ in 0..10 {
        bench.sink.request(1);
        bench.sink.expect_next(42);
    }
    bench.source.send([u64::MAX]);
    bench.settle();
    bench.sink.request(1);
    bench.sink.expect_next(u64::MAX);
    bench.sink.cancel();
    bench.source.expect_cancellation();
    bench.ends();
}

#[test]
fn expand_hands_on_each_element_once_at_least_however_slow_downstream_is() {
    let bench = bench(|flow: Flow<u64>| flow.expand(std::iter::repeat));
    bench.source.send([1]);
    bench.sink.request(1);
    bench.sink.expect_next(1);
    for n in 2..=20 {
        bench.source.send([n]);
        bench.settle();
        bench.sink.request(1);
        bench.sink.expect_next(n);
    }
    bench.source.complete();
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn expand_ends_the_expansion_with_its_iterator() {
    let bench = bench(|flow: Flow<u64>| flow.expand(|n| (0..n).map(move |part| n * 10 + part)));
    bench.sink.request(100);
    bench.source.send([2]);
    bench.sink.expect_next_n([20, 21]);
    bench.sink.expect_no_message(20 * MS);
    bench.source.send([0]);
    bench.settle();
    assert_eq!(bench.outcome(Kind::Filtered), 1, "nothing was made of it");
    bench.source.send([1]);
    bench.sink.expect_next(10);
    bench.source.complete();
    bench.sink.expect_complete();
    let snapshot = bench.run.snapshot();
    let made = snapshot.stage("expand").unwrap().counts.made;
    assert_eq!(made, 1, "the second value of the first element");
    bench.ends();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the speeds: every value comes out once, in order, and no batch is too large.
    #[test]
    fn a_batch_loses_nothing(
        seed in any::<u64>(),
        most in 1..20_u64,
        count in 0..300_u64,
        pauses in proptest::collection::vec((0..300_u64, 0..3_u64), 0..20),
    ) {
        let elements = source::iter(0..count).map_async(1, move |n| {
            let pause = pauses.iter().filter(|(at, _)| *at == n).map(|(_, ms)| *ms).sum::<u64>();
            async move {
                time::sleep(pause as u32 * MS).await;
                n
            }
        });
        let pipeline = gather(elements, most)
            .map_async(1, |batch| async move {
                time::sleep(MS / 4).await;
                batch
            })
            .collect();
        let (batches, snapshot) = Simulation::new(seed).run(pipeline).unwrap();
        snapshot.check().unwrap();
        prop_assert!(batches.iter().all(|batch| (1..=most).contains(&(batch.len() as u64))));
        prop_assert_eq!(batches.concat(), (0..count).collect::<Vec<_>>());
    }

    /// Conflation under cancellation at any element keeps the account.
    #[test]
    fn a_conflation_balances_when_it_is_cut_off(seed in any::<u64>(), taken in 1..20_usize) {
        let pipeline = source::iter(0..1000_u64)
            .conflate(add)
            .map_async(1, |n| async move {
                time::sleep(MS).await;
                n
            })
            .take(taken)
            .collect();
        let (_, snapshot) = Simulation::new(seed).run(pipeline).unwrap();
        snapshot.check().unwrap();
        let total = snapshot.total();
        let settled = Kind::ALL.iter().map(|kind| total.outcome(*kind)).sum::<u64>();
        prop_assert_eq!(settled, total.entered);
    }
}
