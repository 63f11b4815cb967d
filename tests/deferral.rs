//! What is put aside never holds up the rest: not a source with a bounded window, not a drain, not a
//! source that goes back.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::{
    DeferralSettings, PressureHandle, PressureSettings, PrioritySettings, Reading, WhenNoRoom,
};
use forebay::error::{Refused, RunError};
use forebay::flow::Flow;
use forebay::mark::Mark;
use forebay::operator::Answer;
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::source;
use forebay::testkit::{Simulation, replay, sink_probe};
use forebay::time;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn class(n: u64) -> Class {
    if n.is_multiple_of(4) {
        Class::HIGH
    } else {
        Class::LOW
    }
}

/// Four places; LOW is put aside when they are taken.
fn buffer(aside: usize) -> ClassBuffer {
    let settings = PrioritySettings::items(4).when_no_room(Class::LOW, WhenNoRoom::Defer);
    let deferral = DeferralSettings::items(aside)
        .ttl(60 * SECOND)
        .rate(1e6, 1000);
    ClassBuffer::new(settings).defer(deferral)
}

fn numbers(count: u64, window: usize) -> Flow<u64> {
    source::iter(0..count)
        .window(window)
        .allow_loss()
        .classify(|n| class(*n))
}

#[test]
fn high_behind_pinned_low_is_served_at_once_with_a_bounded_window() {
    let simulation = Simulation::new(1);
    let served = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&served);
    let pipeline = numbers(400, 64)
        .buffer_by_class(buffer(16))
        .map_async(1, |n| async move {
            time::sleep(10 * MS).await;
            n
        })
        .for_each(move |n| seen.lock().unwrap().push(n));
    let ((), snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    let counts = snapshot.total();
    assert_eq!(counts.unsettled(), 0, "nothing is pinned for good");
    let served = served.lock().unwrap();
    let high: Vec<u64> = served.iter().copied().filter(|n| n % 4 == 0).collect();
    assert_eq!(
        high,
        (0..100).map(|n| n * 4).collect::<Vec<_>>(),
        "all of HIGH, in order"
    );
    assert_eq!(
        counts.outcome(Kind::Delivered) + counts.outcome(Kind::Shed),
        400,
        "every LOW was served or given up"
    );
}

#[test]
fn more_aside_than_its_share_of_the_window_is_refused_by_name() {
    let refused = numbers(10, 64)
        .buffer_by_class(buffer(17))
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Setting { stage, what })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(stage, "buffer_by_class");
    assert!(
        what.contains("`iter`") && what.contains("share_of_window"),
        "{what}"
    );
    let half = buffer(17).defer(DeferralSettings::items(17).share_of_window(0.5));
    numbers(10, 64)
        .buffer_by_class(half)
        .ignore()
        .block_on()
        .unwrap();
}

#[test]
fn a_drain_under_full_pressure_hands_on_what_was_put_aside() {
    let simulation = Simulation::new(2);
    let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
    let (sink, end) = sink_probe();
    let flow = numbers(1000, 64).buffer_by_class(buffer(16).under(&pressure));
    let mut run = simulation.start(flow.to(end)).unwrap();
    let full = pressure.clone();
    simulation
        .block_on(async move {
            let mut member = full.join();
            member.read(time::now(), Reading::Memory(1.0));
            std::mem::forget(member);
        })
        .unwrap();
    simulation.advance(10 * MS);
    let aside = run.snapshot().stage("buffer_by_class").unwrap().counts.held;
    assert!(aside > 4, "{aside} inside");
    sink.request(1000);
    let drained = run.drain(10 * SECOND).unwrap();
    drop(drained);
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().unsettled(), 0);
    assert_eq!(
        snapshot.total().outcome(Kind::Expired),
        0,
        "whatever the pressure"
    );
}

#[test]
fn a_source_that_goes_back_takes_what_was_put_aside_with_it() {
    let simulation = Simulation::new(3);
    let (sink, end) = sink_probe();
    let buffer = buffer(16);
    let view = buffer.view();
    let flow = replay(0..200_u64)
        .window(64)
        .allow_loss()
        .on_unresolved(Answer::Rewind)
        .classify(|n| class(*n))
        .buffer_by_class(buffer);
    let run = simulation.start(flow.to(end.by_hand())).unwrap();
    simulation.advance(10 * MS);
    // The first is served and fails: its source goes back to it.
    sink.request(1);
    assert_eq!(sink.expect_any(), 0);
    simulation.advance(10 * MS);
    let counts = || {
        run.snapshot()
            .stage("buffer_by_class")
            .unwrap()
            .counts
            .clone()
    };
    let before = view.snapshot().unwrap();
    let aside = before.deferral.unwrap().items;
    assert!(
        before.queue.items == 4 && aside > 0 && before.waiting > 0,
        "{before:?}"
    );
    let held = counts().held;
    assert_eq!(held, (4 + aside + before.waiting) as u64);
    sink.settle([Outcome::Failed(Reason::Error)]);
    simulation.advance(10 * MS);
    assert_eq!(
        counts().reason(Reason::Rewound),
        held,
        "queued, put aside, waiting"
    );
    sink.request(1);
    let mark = sink.expect_mark();
    assert!(matches!(mark, Mark::Rewind(..)), "{mark:?}");
    assert_eq!(sink.expect_any(), 0, "it comes again");
    run.snapshot().check().unwrap();
}
