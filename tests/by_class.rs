//! The buffer by class in a running pipeline: who is served, who makes way, who waits, who is put
//! aside, and that every one of them is accounted for.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, Aging, DeferralSettings, PrioritySettings, WhenNoRoom,
};
use forebay::error::RunError;
use forebay::flow::Flow;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::{
    SimulatedRun, Simulation, SinkProbe, SourceProbe, sink_probe, source_probe,
};
use forebay::time::{self, Time};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const HIGH: Class = Class::HIGH;
const MEDIUM: Class = Class::MEDIUM;
const LOW: Class = Class::LOW;

/// An element: its class, and a number.
type Item = (Class, u32);

struct Bench {
    simulation: Simulation,
    source: SourceProbe<Item>,
    sink: SinkProbe<Item>,
    run: SimulatedRun<()>,
}

fn bench(buffer: impl Into<ClassBuffer>) -> Bench {
    let simulation = Simulation::new(3);
    let (source, flow) = source_probe();
    let (sink, end) = sink_probe();
    let flow = flow.classify(|(class, _): &Item| *class);
    let run = simulation
        .start(flow.buffer_by_class(buffer).to(end))
        .unwrap();
    Bench {
        simulation,
        source,
        sink,
        run,
    }
}

impl Bench {
    fn send(&self, class: Class, numbers: impl IntoIterator<Item = u32>) {
        self.source.send(numbers.into_iter().map(|n| (class, n)));
        self.simulation.advance(MS);
    }

    /// Takes so many elements and says which they were.
    fn take(&self, count: usize) -> Vec<u32> {
        self.sink.request(count);
        let taken = self.sink.expect_any_n(count);
        taken.into_iter().map(|(_, n)| n).collect()
    }

    fn shed(&self, why: Reason) -> u64 {
        self.simulation.advance(MS);
        let snapshot = self.run.snapshot();
        snapshot
            .stage("buffer_by_class")
            .unwrap()
            .counts
            .reason(why)
    }

    fn outcome(&self, kind: Kind) -> u64 {
        self.simulation.advance(MS);
        self.run.snapshot().total().outcome(kind)
    }

    fn held(&self) -> u64 {
        let snapshot = self.run.snapshot();
        snapshot.stage("buffer_by_class").unwrap().counts.held
    }

    fn ends(mut self) -> Snapshot {
        self.run.join().unwrap();
        let snapshot = self.run.snapshot();
        snapshot.check().unwrap();
        snapshot
    }
}

fn room_for(items: usize) -> PrioritySettings {
    PrioritySettings::items(items).aging(Aging::none())
}

#[test]
fn the_dearest_are_served_first_and_each_class_in_order() {
    let bench = bench(room_for(10));
    bench.send(LOW, [1, 2]);
    bench.send(MEDIUM, [3, 4]);
    bench.send(HIGH, [5, 6]);
    assert_eq!(bench.take(4), [5, 6, 3, 4]);
    bench.send(HIGH, [7]);
    assert_eq!(bench.take(3), [7, 1, 2]);
    bench.source.complete();
    bench.sink.request(1);
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn the_oldest_of_the_lowest_class_makes_way_for_a_higher_one() {
    let settings = room_for(3).when_no_room(LOW, WhenNoRoom::Refuse);
    let bench = bench(settings);
    bench.send(LOW, [1, 2, 3, 4]);
    assert_eq!(bench.shed(Reason::NoRoom), 1, "the fourth was refused");
    bench.send(HIGH, [5]);
    assert_eq!(bench.shed(Reason::Evicted), 1, "the first made way");
    assert_eq!(bench.take(3), [5, 2, 3]);
    bench.source.complete();
    bench.sink.request(1);
    bench.sink.expect_complete();
    assert_eq!(bench.ends().total().outcome(Kind::Shed), 2);
}

#[test]
fn who_may_wait_waits_and_is_refused_when_the_time_is_up() {
    let wait = WhenNoRoom::Wait(1000 * MS);
    let bench = bench(room_for(2).when_no_room(MEDIUM, wait));
    bench.send(MEDIUM, [1, 2, 3, 4]);
    assert_eq!(bench.held(), 4, "two are queued, two wait");
    bench.simulation.advance(500 * MS);
    assert_eq!(bench.take(1), [1]);
    bench.simulation.advance(490 * MS);
    assert_eq!(bench.shed(Reason::NoRoom), 0);
    bench.simulation.advance(20 * MS);
    assert_eq!(bench.shed(Reason::NoRoom), 1, "the fourth, after a second");
    assert_eq!(bench.take(2), [2, 3]);
    bench.source.complete();
    bench.sink.request(1);
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn high_passes_while_others_wait_for_room() {
    let bench = bench(room_for(2).when_no_room(HIGH, WhenNoRoom::Evict));
    bench.send(MEDIUM, 1..=6);
    bench.send(HIGH, [7]);
    assert_eq!(bench.take(1), [7], "a medium one made way for it");
    assert_eq!(bench.outcome(Kind::Shed), 1);
    bench.source.complete();
    assert_eq!(bench.take(5), [2, 3, 4, 5, 6]);
    bench.sink.request(1);
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn without_losses_it_slows_its_source_down() {
    let pipeline = source::iter(0..5000_u32)
        .classify(|n| if n % 3 == 0 { HIGH } else { LOW })
        .buffer_by_class(room_for(16).never_evict(LOW).never_evict(MEDIUM))
        .map_async(4, |n| async move {
            time::sleep(MS).await;
            n
        })
        .collect();
    let (mut all, snapshot) = Simulation::new(5).run(pipeline).unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..5000).collect::<Vec<_>>());
    snapshot.check().unwrap();
    let peak = snapshot.stage("buffer_by_class").unwrap().counts.held_peak;
    assert!(peak <= 16 + 64, "{peak} were inside");
}

fn deferring(items: usize) -> ClassBuffer {
    let settings = room_for(items).when_no_room(LOW, WhenNoRoom::Defer);
    let deferral = DeferralSettings::items(100)
        .ttl(Duration::from_secs(10))
        .rate(1000.0, 100);
    ClassBuffer::new(settings).defer(deferral)
}

#[test]
fn what_is_put_aside_comes_back_when_there_is_less_to_do() {
    let buffer = deferring(4);
    let view = buffer.view();
    let bench = bench(buffer);
    bench.send(LOW, 1..=6);
    assert_eq!(view.snapshot().unwrap().deferral.unwrap().items, 2);
    assert_eq!(bench.held(), 6);
    bench.send(HIGH, [10]);
    assert_eq!(
        view.snapshot().unwrap().deferral.unwrap().items,
        3,
        "evicted to there"
    );
    assert_eq!(bench.take(4), [10, 2, 3, 4]);
    assert_eq!(bench.take(3), [5, 6, 1], "oldest put aside first");
    bench.source.complete();
    bench.sink.request(1);
    bench.sink.expect_complete();
    assert_eq!(bench.ends().total().outcome(Kind::Delivered), 7);
}

#[test]
fn what_is_put_aside_too_long_has_expired() {
    let bench = bench(deferring(2));
    bench.send(LOW, 1..=4);
    bench.simulation.advance(Duration::from_secs(11));
    assert_eq!(
        bench.outcome(Kind::Expired),
        2,
        "though nobody asks for anything"
    );
    assert_eq!(bench.take(2), [1, 2]);
    bench.source.complete();
    bench.sink.request(1);
    bench.sink.expect_complete();
    bench.ends();
}

#[test]
fn a_drain_hands_on_what_was_put_aside() {
    let mut bench = bench(deferring(2));
    bench.send(LOW, 1..=6);
    bench.sink.request(100);
    let drained = bench.run.drain(Duration::from_secs(5)).unwrap();
    drop(drained);
    let snapshot = bench.run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 6);
}

#[test]
fn completion_hands_on_what_was_put_aside_first() {
    let bench = bench(deferring(2));
    bench.send(LOW, 1..=6);
    bench.source.complete();
    assert_eq!(
        bench.take(6),
        [1, 2, 3, 4, 5, 6],
        "though there was no room for four"
    );
    bench.sink.request(1);
    bench.sink.expect_complete();
    assert_eq!(bench.ends().total().outcome(Kind::Delivered), 6);
}

#[test]
fn a_barrier_comes_behind_what_was_put_aside_before_it() {
    let simulation = Simulation::new(3);
    let (sink, end) = sink_probe();
    let flow = source::iter(0..6_u32)
        .barrier_every(6)
        .classify(|_| LOW)
        .buffer_by_class(deferring(2));
    let _run = simulation.start(flow.to(end)).unwrap();
    simulation.advance(MS);
    sink.request(5);
    assert_eq!(sink.expect_any_n(5), [0, 1, 2, 3, 4]);
    let marks = std::panic::AssertUnwindSafe(|| sink.expect_mark());
    assert!(
        std::panic::catch_unwind(marks).is_err(),
        "one element is before it"
    );
    sink.request(2);
    assert_eq!(sink.expect_any(), 5);
    let _barrier = sink.expect_mark();
}

#[test]
fn while_there_is_room_for_all_little_time_left_is_a_chance() {
    let admission = AdmissionHandle::new(AdmissionSettings::default()).unwrap();
    // One worker, that takes 10 ms.
    admission.workers(0, 1);
    for window in 0..20_u64 {
        admission.offer(MEDIUM, 1);
        admission.served(10 * MS, true);
        admission.tick(Time::from_nanos(window * 20_000_000));
    }
    let service = admission.forecast().unwrap().service;
    assert!((9 * MS..11 * MS).contains(&service), "{service:?}");
    assert!(admission.admits_all());
    let simulation = Simulation::new(3);
    let (sink, end) = sink_probe();
    let flow = source::iter(0..3_u32)
        .deadline(45 * MS)
        .buffer_by_class(ClassBuffer::new(room_for(10)).feeding(&admission));
    let run = simulation.start(flow.to(end)).unwrap();
    simulation.advance(25 * MS);
    // 20 ms are left: twice the service, and less than most take.
    sink.request(3);
    assert_eq!(sink.expect_any_n(3), [0, 1, 2]);
    run.snapshot().check().unwrap();
}

#[test]
fn whether_it_may_lose_elements_is_said_for_each_way() {
    let waits = || {
        let classes = (0..Class::COUNT as u8).filter_map(Class::new);
        classes.fold(PrioritySettings::items(4), PrioritySettings::never_evict)
    };
    assert!(
        !ClassBuffer::new(waits()).sheds(),
        "all wait, and nobody makes way"
    );
    assert!(ClassBuffer::new(waits()).give_up_stale(MS, 10 * MS).sheds());
    assert!(
        ClassBuffer::new(waits())
            .defer(DeferralSettings::items(4))
            .sheds()
    );
    let refuses = waits().when_no_room(LOW, WhenNoRoom::Refuse);
    assert!(ClassBuffer::new(refuses).sheds());
}

#[test]
fn deadlines_are_kept_on_arrival_and_in_the_queue() {
    let pipeline = source::iter(0..100_u32)
        .deadline(10 * MS)
        .buffer_by_class(room_for(200))
        .map_async(1, |n| async move {
            time::sleep(MS).await;
            n
        })
        .collect();
    let (all, snapshot) = Simulation::new(5).run(pipeline).unwrap();
    assert!(
        (10..=12).contains(&all.len()),
        "{} were served in time",
        all.len()
    );
    assert_eq!(
        snapshot.total().outcome(Kind::Expired),
        100 - all.len() as u64
    );
    snapshot.check().unwrap();
}

#[test]
fn a_queue_that_stands_is_cut() {
    let buffer = ClassBuffer::new(room_for(10_000)).give_up_stale(5 * MS, 100 * MS);
    let pipeline = source::iter(0..3000_u32)
        .buffer_by_class(buffer)
        .map_async(1, |n| async move {
            time::sleep(MS).await;
            n
        })
        .collect();
    let (all, snapshot) = Simulation::new(5).run(pipeline).unwrap();
    assert!(
        all.len() < 300,
        "{} were served, most of them too late",
        all.len()
    );
    let counts = &snapshot.stage("buffer_by_class").unwrap().counts;
    assert_eq!(counts.reason(Reason::QueueDelay) + all.len() as u64, 3000);
    snapshot.check().unwrap();
}

#[test]
fn each_class_is_stale_by_its_own_waits_and_only_while_nothing_below_it_is_held() {
    let stale = |below: Option<u32>| {
        let buffer = ClassBuffer::new(room_for(10_000)).give_up_stale(5 * MS, 20 * MS);
        let bench = bench(buffer);
        bench.send(LOW, below);
        bench.send(MEDIUM, 1..=1000);
        for n in 0..100 {
            bench.sink.request(2);
            bench.send(HIGH, [2000 + n]);
        }
        bench.shed(Reason::QueueDelay)
    };
    assert!(stale(None) > 500, "HIGH never waits, MEDIUM does");
    assert_eq!(
        stale(Some(0)),
        0,
        "a LOW element would outlive a MEDIUM one"
    );
}

#[test]
fn a_cancel_settles_what_is_queued_what_waits_and_what_is_put_aside() {
    let settings = room_for(2)
        .when_no_room(LOW, WhenNoRoom::Defer)
        .when_no_room(MEDIUM, WhenNoRoom::Wait(Duration::MAX));
    let buffer = ClassBuffer::new(settings).defer(DeferralSettings::items(10));
    let bench = bench(buffer);
    bench.send(LOW, 1..=4);
    bench.send(MEDIUM, 5..=8);
    bench.sink.cancel();
    bench.source.expect_cancellation();
    assert_eq!(bench.ends().total().outcome(Kind::Cancelled), 8);
}

#[test]
fn an_error_upstream_cancels_what_is_queued() {
    let bench = bench(deferring(2));
    bench.send(LOW, 1..=4);
    bench.source.error("broken");
    bench.sink.expect_abandoned();
    let mut run = bench.run;
    assert!(run.join().unwrap_err().to_string().contains("broken"));
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 4);
}

#[test]
fn diverted_elements_leave_by_the_side() {
    let settings = room_for(2).when_no_room(LOW, WhenNoRoom::Divert);
    let simulation = Simulation::new(3);
    let (source, flow) = source_probe();
    let (main, main_end) = sink_probe();
    let (side, side_end) = sink_probe();
    let flow = flow.classify(|(class, _): &Item| *class);
    let (served, diverted) = flow.buffer_by_class_diverting(settings, 2);
    let pipeline = served.to(main_end).and(diverted.to(side_end));
    let mut run = simulation.start(pipeline).unwrap();
    source.send((1..=8).map(|n| (LOW, n)));
    simulation.advance(MS);
    let counts = || {
        run.snapshot()
            .stage("buffer_by_class")
            .unwrap()
            .counts
            .clone()
    };
    let waiting = counts().entered - 2 - 2;
    assert!(
        waiting > 0,
        "two are queued, two in the side output: {waiting} wait for it"
    );
    assert_eq!(
        counts().held,
        2 + waiting,
        "those that wait are inside as well"
    );
    side.request(3);
    assert_eq!(side.expect_any_n(3).len(), 3);
    simulation.advance(MS);
    side.request(10);
    let aside = side.expect_any_n(3);
    assert_eq!(aside.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [6, 7, 8]);
    main.request(10);
    main.expect_next_n([(LOW, 1), (LOW, 2)]);
    source.complete();
    main.expect_complete();
    side.expect_complete();
    run.join().unwrap();
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 8);
}

#[test]
fn what_was_put_aside_too_long_leaves_by_the_side_and_an_end_waits_for_it() {
    let settings = room_for(1).when_no_room(LOW, WhenNoRoom::Defer);
    let deferral = DeferralSettings::items(3).ttl(20 * MS).spill();
    let simulation = Simulation::new(3);
    let (source, flow) = source_probe();
    let (main, main_end) = sink_probe();
    let (side, side_end) = sink_probe();
    let flow = flow.classify(|(class, _): &Item| *class);
    let buffer = ClassBuffer::new(settings).defer(deferral);
    let (served, spilled) = flow.buffer_by_class_diverting(buffer, 1);
    let pipeline = served.to(main_end).and(spilled.to(side_end));
    let mut run = simulation.start(pipeline).unwrap();
    source.send((1..=5).map(|n| (LOW, n)));
    simulation.advance(MS);
    let counts = || {
        run.snapshot()
            .stage("buffer_by_class")
            .unwrap()
            .counts
            .clone()
    };
    assert_eq!(counts().held, 4, "the first of the four aside had to leave");
    simulation.advance(30 * MS);
    assert_eq!(counts().held, 4, "three wait for the side output now");
    side.request(2);
    assert_eq!(side.expect_any_n(2), [(LOW, 2), (LOW, 3)]);
    simulation.advance(MS);
    assert_eq!(counts().held, 2);
    source.complete();
    main.request(2);
    main.expect_next((LOW, 1));
    side.request(3);
    assert_eq!(side.expect_any_n(2), [(LOW, 4), (LOW, 5)]);
    main.expect_complete();
    side.expect_complete();
    run.join().unwrap();
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 5);
}

#[test]
fn a_source_that_goes_back_takes_what_waits_for_the_side_with_it() {
    use forebay::operator::Answer;
    use forebay::outcome::Outcome;
    let settings = room_for(1).when_no_room(LOW, WhenNoRoom::Divert);
    let simulation = Simulation::new(3);
    let (main, main_end) = sink_probe();
    let (side, side_end) = sink_probe();
    let flow = forebay::testkit::replay(0..40_u32)
        .window(64)
        .allow_loss()
        .on_unresolved(Answer::Rewind)
        .classify(|_| LOW);
    let (served, diverted) = flow.buffer_by_class_diverting(settings, 2);
    let pipeline = served.to(main_end.by_hand()).and(diverted.to(side_end));
    let run = simulation.start(pipeline).unwrap();
    let counts = || {
        let snapshot = run.snapshot();
        snapshot.check().unwrap();
        snapshot.stage("buffer_by_class").unwrap().counts.clone()
    };
    simulation.advance(MS);
    main.request(1);
    assert_eq!(main.expect_any(), 0);
    let before = counts();
    assert_eq!(
        before.held,
        before.entered - 3,
        "two are in the side output"
    );
    assert!(before.held > 0, "{before:?}");
    main.settle([Outcome::Failed(Reason::Error)]);
    simulation.advance(MS);
    assert_eq!(counts().reason(Reason::Rewound), before.held);
    main.request(1);
    let _rewind = main.expect_mark();
    assert_eq!(main.expect_any(), 0, "it comes again");
    drop(side);
}

fn refusal(buffer: impl Into<ClassBuffer>) -> String {
    let pipeline = source::iter(0..1_u32).buffer_by_class(buffer).collect();
    match pipeline.block_on() {
        Err(RunError::Refused(refused)) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    assert!(refusal(PrioritySettings::items(0)).contains("`items` is 0"));
    let defers = room_for(1).when_no_room(LOW, WhenNoRoom::Defer);
    assert!(refusal(defers).contains("no deferral is declared"));
    let diverts = room_for(1).when_no_room(LOW, WhenNoRoom::Divert);
    assert!(refusal(diverts).contains("no side output"));
    let lossy = room_for(1).when_no_room(LOW, WhenNoRoom::Refuse);
    let pipeline = source::iter(0..1_u32)
        .buffer_by_class(lossy)
        .guarantee(forebay::topology::Guarantee::AtLeastOnce)
        .ignore();
    assert!(
        pipeline
            .block_on()
            .unwrap_err()
            .to_string()
            .contains("by class")
    );
}

fn policy() -> impl Strategy<Value = WhenNoRoom> {
    prop_oneof![
        Just(WhenNoRoom::Evict),
        Just(WhenNoRoom::Refuse),
        Just(WhenNoRoom::Defer),
        (0..5_u32).prop_map(|ms| WhenNoRoom::Wait(ms * MS)),
        Just(WhenNoRoom::Wait(Duration::MAX)),
    ]
}

fn sent(flow: Flow<u32>, classes: u32) -> Flow<u32> {
    flow.classify(move |n| Class::new((n % classes) as u8).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the policies: each element ends in exactly one way, nothing is held past the bound,
    /// and each class is served in order.
    #[test]
    fn every_element_is_accounted_for(
        seed in any::<u64>(),
        items in 1..40_usize,
        policies in proptest::collection::vec(policy(), 3),
        count in 0..500_u32,
        service_us in 0..300_u32,
        burst in 1..50_u32,
        taken in prop_oneof![Just(usize::MAX), 0..100_usize],
    ) {
        let mut settings = room_for(items);
        for (class, policy) in policies.into_iter().enumerate() {
            settings = settings.when_no_room(Class::new(class as u8).unwrap(), policy);
        }
        let deferral = DeferralSettings::items(20).ttl(5 * MS).rate(100_000.0, 10);
        let flow = source::iter(0..count).map_async(1, move |n| async move {
            if n % burst == 0 {
                time::sleep(MS).await;
            }
            n
        });
        let pipeline = sent(flow, 3)
            .buffer_by_class(ClassBuffer::new(settings).defer(deferral))
            .map_async(2, move |n| async move {
                time::sleep(service_us * MS / 1000).await;
                n
            })
            .take(taken)
            .collect();
        let (served, snapshot) = Simulation::new(seed).run(pipeline).unwrap();
        snapshot.check().unwrap();
        let counts = &snapshot.stage("buffer_by_class").unwrap().counts;
        prop_assert!(counts.held_peak <= items as u64 + 20 + 64);
        prop_assert_eq!(counts.held, 0);
        let total = snapshot.total();
        let settled = Kind::ALL.iter().map(|kind| total.outcome(*kind)).sum::<u64>();
        prop_assert_eq!(settled, total.entered);
        let mut unique = served.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), served.len(), "none twice");
    }
}

/// What happens to a buffer that is driven step by step.
#[derive(Clone, Debug)]
enum Step {
    /// Elements: a class, bytes, a key.
    Send(Vec<(u8, u64, u8)>),
    Take(usize),
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let element = (0..3_u8, 0..9_u64, 0..3_u8);
    let step = prop_oneof![
        3 => proptest::collection::vec(element, 1..30).prop_map(Step::Send),
        3 => (1..20_usize).prop_map(Step::Take),
        1 => (1..8_u32).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..25)
}

/// An element: its class, its bytes, its key, its number.
type Weighed = (u8, u64, u8, u32);

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever comes and is taken: the stage's account balances after each step; nothing is given up
    /// while something cheaper is held; neither elements nor bytes exceed what is declared; what is
    /// inside is what came and has not left; each class is served in order, and each key of it, however
    /// often it was put aside.
    #[test]
    fn the_laws_hold_after_every_step(
        steps in steps(),
        items in 1..20_usize,
        bytes in prop_oneof![Just(u64::MAX), 8..80_u64],
        policies in proptest::collection::vec(policy(), 3),
        by_key in any::<bool>(),
    ) {
        let mut settings = room_for(items).bytes(bytes);
        for (class, policy) in policies.iter().enumerate() {
            settings = settings.when_no_room(Class::new(class as u8).unwrap(), *policy);
        }
        let deferral = DeferralSettings::items(10).ttl(20 * MS).rate(100_000.0, 100);
        let mut buffer = ClassBuffer::new(settings).defer(deferral);
        if by_key {
            buffer = buffer.order_per_key(|(_, _, key, _): &Weighed| *key);
        }
        let view = buffer.view();
        let simulation = Simulation::new(7);
        let (source, flow) = source_probe::<Weighed>();
        let (sink, end) = sink_probe();
        let flow = flow
            .classify(|(class, ..): &Weighed| Class::new(*class).unwrap())
            .weigh(|(_, bytes, ..)| *bytes)
            .buffer_by_class(buffer);
        let mut run = simulation.start(flow.to(end)).unwrap();
        let mut all: Vec<Weighed> = Vec::new();
        let mut taken: Vec<Weighed> = Vec::new();
        let (mut lost_before, mut served_before) = ([0; 3], 0);
        for step in steps {
            match step {
                Step::Send(elements) => {
                    let first = all.len() as u32;
                    let numbered = elements.into_iter().zip(first..);
                    let sent: Vec<_> = numbered.map(|((c, b, k), n)| (c, b, k, n)).collect();
                    all.extend(&sent);
                    source.send(sent);
                }
                Step::Take(count) => sink.request(count),
                Step::Pass(ms) => simulation.advance(ms * MS),
            }
            simulation.advance(MS / 10);
            let snapshot = run.snapshot();
            let delivered = snapshot.total().outcome(Kind::Delivered) as usize;
            taken.extend(sink.expect_any_n(delivered - taken.len()));
            snapshot.check().unwrap();
            let counts = &snapshot.stage("buffer_by_class").unwrap().counts;
            let settled: u64 = Kind::ALL.iter().map(|kind| counts.outcome(*kind)).sum();
            prop_assert_eq!(counts.held, counts.entered - settled - taken.len() as u64);
            prop_assert!(counts.held <= items as u64 + 10 + 64);
            if bytes != u64::MAX {
                // One element may exceed each of the three.
                let most = bytes + bytes.div_ceil(8) + 3 * 8;
                let aside = view.snapshot().unwrap().deferral.unwrap().bytes;
                prop_assert!(counts.held_bytes <= most + aside, "{}", counts.held_bytes);
            }
            let lanes = view.snapshot().unwrap().queue.lanes;
            let served = lanes.iter().map(|lane| lane.served).sum();
            let nobody_served = served == std::mem::replace(&mut served_before, served);
            for class in 0..3 {
                let lost = lanes[class].evicted + lanes[class].refused + lanes[class].timed_out;
                let held_below = lanes[class + 1..].iter().any(|lane| lane.items > 0);
                let is_lost = lost > std::mem::replace(&mut lost_before[class], lost);
                // What was served meanwhile may have made room for it later.
                let for_sure = nobody_served && bytes == u64::MAX;
                prop_assert!(!(is_lost && held_below && for_sure), "law 6: {lanes:?}");
            }
        }
        source.complete();
        sink.request(10_000);
        run.join().unwrap();
        let snapshot = run.snapshot();
        snapshot.check().unwrap();
        let delivered = snapshot.total().outcome(Kind::Delivered) as usize;
        taken.extend(sink.expect_any_n(delivered - taken.len()));
        for class in 0..3_u8 {
            let is_deferred = policies[usize::from(class)] == WhenNoRoom::Defer;
            for key in 0..3_u8 {
                let of_it = |(c, _, k, _): &&Weighed| *c == class && (!is_deferred || *k == key);
                let numbers = taken.iter().filter(of_it).map(|(.., n)| *n);
                prop_assert!(
                    (is_deferred && !by_key) || numbers.is_sorted(),
                    "class {class}, key {key}: {taken:?}"
                );
            }
        }
    }
}
