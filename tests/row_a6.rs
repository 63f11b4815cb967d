//! Mission row A6: a producer that knows about pressure. A circuit check, a bounded send buffer with a
//! policy by class, failed sends retried and then dead-lettered, and a breaker that learns of both.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::class::Class;
use forebay::control::{
    BreakerHandle, BreakerSettings, BreakerState, BreakerWindow, PrioritySettings, Retry, WhenOpen,
};
use forebay::dead_letter::DeadLetterFile;
use forebay::flow::{DeadLetters, Flow};
use forebay::operator::Calls;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::source::{self, Offered, Queue};
use forebay::testkit::{SimulatedRun, Simulation, SinkProbe, sink_probe};
use forebay::time::{self, Time};

#[path = "../examples/a6_producer.rs"]
mod a6_producer;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HIGH: Class = Class::HIGH;
const MEDIUM: Class = Class::MEDIUM;
const LOW: Class = Class::LOW;

/// A queue of the row's settings before a consumer that takes nothing yet.
fn full(settings: PrioritySettings) -> (Simulation, Queue<u32>, SinkProbe<u32>, SimulatedRun<()>) {
    let simulation = Simulation::new(6);
    let (queue, flow) = source::queue_by_class(settings).unwrap();
    let (sink, end) = sink_probe();
    let run = simulation.start(flow.to(end)).unwrap();
    simulation.advance(MS);
    let filling = queue.clone();
    simulation
        .block_on(async move {
            for n in 0..1000 {
                let class = if n == 0 { HIGH } else { LOW };
                assert!(filling.try_offer_as(class, n).is_enqueued(), "{n}");
            }
        })
        .unwrap();
    (simulation, queue, sink, run)
}

fn reasons(snapshot: &Snapshot, reason: Reason) -> u64 {
    snapshot.check().unwrap();
    snapshot.stage("queue").unwrap().counts.reason(reason)
}

#[test]
fn row_a6_high_takes_the_place_of_the_cheapest_and_oldest() {
    let (simulation, queue, sink, run) = full(PrioritySettings::a6());
    let offers = queue.clone();
    let answer = simulation.block_on(async move { offers.offer_as(HIGH, 5000).await });
    assert!(answer.unwrap().is_enqueued());
    simulation.advance(MS);
    assert_eq!(reasons(&run.snapshot(), Reason::Evicted), 1);
    sink.request(3);
    assert_eq!(
        sink.expect_any_n(3),
        [0, 5000, 2],
        "HIGH first; 1, the oldest LOW, made way"
    );
}

#[test]
fn row_a6_literally_the_oldest_makes_way_whatever_its_class() {
    let (simulation, queue, sink, _run) = full(PrioritySettings::a6_literal());
    let offers = queue.clone();
    let answer = simulation.block_on(async move { offers.offer_as(HIGH, 5000).await });
    assert!(answer.unwrap().is_enqueued());
    sink.request(2);
    assert_eq!(
        sink.expect_any_n(2),
        [5000, 1],
        "0 was the oldest, though HIGH"
    );
}

#[test]
fn row_a6_medium_waits_up_to_a_second_and_gets_its_value_back() {
    let (simulation, queue, sink, run) = full(PrioritySettings::a6());
    let offers = queue.clone();
    let late = simulation.block_on(async move {
        let before = time::now();
        let answer = offers.offer_as(MEDIUM, 7).await;
        (answer, time::now().since(before))
    });
    // A MEDIUM takes the place of a LOW: no need to wait.
    assert!(late.unwrap().0.is_enqueued());
    let fill = queue.clone();
    simulation
        .block_on(async move {
            for n in 0..998 {
                assert!(fill.try_offer_as(MEDIUM, 2000 + n).is_enqueued());
            }
        })
        .unwrap();
    let offers = queue.clone();
    let (answer, waited) = simulation
        .block_on(async move {
            let before = time::now();
            let answer = offers.offer_as(MEDIUM, 8).await;
            (answer, time::now().since(before))
        })
        .unwrap();
    assert_eq!(answer, Offered::Dropped(Reason::TimedOut, 8));
    assert_eq!(waited, SECOND);
    simulation.advance(MS);
    assert_eq!(reasons(&run.snapshot(), Reason::TimedOut), 1);
    // With a place in time it is let in.
    let offers = queue.clone();
    let waiting = Arc::new(Mutex::new(None));
    let told = Arc::clone(&waiting);
    let takes = async move {
        let answer = offers.offer_as(MEDIUM, 9).await;
        *told.lock().unwrap() = Some(answer.is_enqueued());
    };
    let after = async move {
        time::sleep(500 * MS).await;
        sink.request(1);
        sink
    };
    simulation
        .block_on(async move { futures_util::future::join(takes, after).await })
        .unwrap();
    assert_eq!(*waiting.lock().unwrap(), Some(true));
}

#[test]
fn row_a6_low_is_refused_at_once_with_its_value_and_counted() {
    let (simulation, queue, _sink, run) = full(PrioritySettings::a6());
    let offers = queue.clone();
    let (answer, waited) = simulation
        .block_on(async move {
            let before = time::now();
            let answer = offers.offer_as(LOW, 9).await;
            (answer, time::now().since(before))
        })
        .unwrap();
    assert_eq!(answer, Offered::Dropped(Reason::NoRoom, 9));
    assert_eq!(waited, Duration::ZERO);
    simulation.advance(MS);
    assert_eq!(reasons(&run.snapshot(), Reason::NoRoom), 1);
}

/// A queue, sends that may fail, tries again, dead letters; the breaker of the destination hears of
/// each send.
fn sending(
    flow: Flow<u32>,
    breaker: &BreakerHandle,
    letters: &DeadLetters,
    send: impl Fn(u32) -> Result<u32, String> + Send + Sync + 'static,
) -> Flow<u32> {
    let send = Arc::new(send);
    flow.try_map_async(Calls::limit(8).breaker(breaker), move |n| {
        let send = Arc::clone(&send);
        async move {
            time::sleep(MS).await;
            send(n)
        }
    })
    .retry(Retry::tries(3).backoff(10 * MS, 100 * MS))
    .encode(|n| Bytes::from(n.to_string()))
    .or_dead_letter(letters)
}

#[test]
fn row_a6_failed_sends_are_tried_again_and_then_dead_lettered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    let letters = DeadLetters::new(16, DeadLetterFile::open(&path).unwrap());
    let breaker = BreakerHandle::new(BreakerSettings::default(), Time::ZERO).unwrap();
    let (queue, flow) = source::queue_by_class(PrioritySettings::a6()).unwrap();
    let queue = queue.behind(&breaker);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    // 3 fails always, 5 at its first two tries.
    let failures = Mutex::new(0);
    let send = move |n| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut failures = failures.lock().unwrap();
        match n {
            3 => Err("broken for good".to_owned()),
            5 if *failures < 2 => {
                *failures += 1;
                Err("busy".to_owned())
            }
            _ => Ok(n),
        }
    };
    for n in 0..10 {
        assert!(queue.try_offer_as(MEDIUM, n).is_enqueued());
    }
    queue.complete();
    let pipeline = sending(flow, &breaker, &letters, send).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (sent, snapshot) = runtime.block_on(async {
        let mut running = pipeline.run().unwrap();
        let sent = running.join().await.unwrap();
        (sent, running.snapshot())
    });
    snapshot.check().unwrap();
    assert_eq!(sent, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        calls.load(Ordering::Relaxed),
        10 + 2 + 2,
        "each try is a send"
    );
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);
    let dead = std::fs::read_to_string(&path).unwrap();
    assert_eq!(dead.lines().count(), 1);
    assert!(dead.contains("broken for good"), "{dead}");
    let seen = breaker.snapshot(time::now());
    assert_eq!(
        (seen.counts.success, seen.counts.error),
        (9, 5),
        "it heard of every try"
    );
}

#[test]
fn row_a6_an_open_circuit_is_an_error_at_once_and_closes_again() {
    let simulation = Simulation::new(6);
    let settings = BreakerSettings::default()
        .window(BreakerWindow::Calls(10), 10)
        .open(SECOND, 1.0, SECOND)
        .when_open(WhenOpen::PauseDemand);
    let breaker = BreakerHandle::new(settings, Time::ZERO).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetterFile::open(folder.path().join("dead.ndjson")).unwrap();
    let letters = DeadLetters::new(16, letters);
    let (queue, flow) = source::queue_by_class(PrioritySettings::a6()).unwrap();
    let queue = queue.behind(&breaker);
    let down_until = Time::ZERO + SECOND / 2;
    let send = move |n| {
        if time::now() < down_until {
            Err("down".to_owned())
        } else {
            Ok(n)
        }
    };
    let run = simulation
        .start(sending(flow, &breaker, &letters, send).ignore())
        .unwrap();
    let offer = |class, n| {
        let queue = queue.clone();
        simulation
            .block_on(async move { queue.offer_as(class, n).await })
            .unwrap()
    };
    for n in 0..20 {
        let _ = offer(HIGH, n);
    }
    simulation.advance(100 * MS);
    assert_eq!(breaker.state(), BreakerState::Open);
    let answer = offer(HIGH, 99);
    assert_eq!(
        answer,
        Offered::Dropped(Reason::BreakerOpen, 99),
        "even HIGH, and at once"
    );
    simulation.advance(2 * SECOND);
    for n in 100..140 {
        let _ = offer(HIGH, n);
        simulation.advance(20 * MS);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(offer(LOW, 200).is_enqueued());
    simulation.advance(SECOND);
    let snapshot = run.snapshot();
    assert!(reasons(&snapshot, Reason::BreakerOpen) >= 1);
}

#[test]
fn row_a6_offers_of_many_threads_and_tasks_are_all_accounted_for() {
    let (queue, flow) = source::queue_by_class::<u64>(PrioritySettings::a6()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let pipeline = flow.map_async(16, |n| async move { n }).collect();
    let mut running = {
        let _entered = runtime.enter();
        pipeline.run().unwrap()
    };
    let counts: Arc<Mutex<(u64, u64)>> = Arc::default();
    let count = |counts: &Mutex<(u64, u64)>, offered: &Offered<u64>| {
        let mut counts = counts.lock().unwrap();
        if offered.is_enqueued() {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    };
    let threads: Vec<_> = (0..3_u64)
        .map(|thread| {
            let (queue, counts) = (queue.clone().classify(|n| class(*n)), Arc::clone(&counts));
            std::thread::spawn(move || {
                for n in 0..5000 {
                    count(&counts, &queue.offer_blocking(thread * 5000 + n));
                }
            })
        })
        .collect();
    let tasks: Vec<_> = (3..6_u64)
        .map(|task| {
            let (queue, counts) = (queue.clone(), Arc::clone(&counts));
            runtime.spawn(async move {
                for n in 0..5000 {
                    let n = task * 5000 + n;
                    count(&counts, &queue.offer_as(class(n), n).await);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let begun = Instant::now();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        queue.complete();
        let mut all = running.join().await.unwrap();
        let (enqueued, refused) = *counts.lock().unwrap();
        assert_eq!(enqueued + refused, 30_000);
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        let evicted = reasons(&snapshot, Reason::Evicted);
        assert_eq!(all.len() as u64, enqueued - evicted);
        assert_eq!(snapshot.total().entered, 30_000, "refused ones count as in");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, enqueued - evicted, "each once");
    });
    assert!(begun.elapsed() < 30 * SECOND);
}

fn class(n: u64) -> Class {
    [HIGH, MEDIUM, LOW][(n % 3) as usize]
}

#[test]
fn row_a6_the_example() {
    a6_producer::main().unwrap();
}
