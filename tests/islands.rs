//! What islands do with their time: where it goes, and how they cut their work to it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::Stop;
use forebay::operator::{Context, Demand, Sink};
use forebay::outcome::Outcome;
use forebay::runtime::{IslandReport, Snapshot};
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time;

const MS: Duration = Duration::from_millis(1);

/// The shares of its time that the island of that name was busy, waited for input and for demand.
fn shares(snapshot: &Snapshot, island: &str) -> [f64; 3] {
    snapshot.check().unwrap();
    let of = |report: &&IslandReport| report.name == island;
    let split = snapshot.islands.iter().find(of).unwrap().time;
    let parts = [
        split.busy_ns,
        split.waiting_for_input_ns,
        split.waiting_for_demand_ns,
    ];
    let all: u64 = parts.iter().sum();
    parts.map(|part| part as f64 / all as f64)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn before_a_slow_sink_the_time_goes_into_waiting_for_demand() {
    let snapshot = runtime().block_on(async {
        let mut running = source::iter(0..100_u32)
            .buffer(8)
            .for_each(|_| std::thread::sleep(3 * MS))
            .run()
            .unwrap();
        running.join().await.unwrap();
        running.snapshot()
    });
    let [busy, input, demand] = shares(&snapshot, "buffer");
    assert!(demand > 0.7, "busy {busy}, input {input}, demand {demand}");
    let [busy, input, demand] = shares(&snapshot, "for_each");
    assert!(busy > 0.7, "busy {busy}, input {input}, demand {demand}");
}

#[test]
fn behind_a_slow_source_the_time_goes_into_waiting_for_input() {
    let next = |n: u32| async move {
        time::sleep(MS).await;
        (n < 1000).then_some((n + 1, n))
    };
    let pipeline = source::unfold_async(0, next)
        .buffer(8)
        .for_each(|_| time::work(MS / 100));
    let ((), snapshot) = Simulation::new(1).run(pipeline).unwrap();
    for island in ["buffer", "for_each"] {
        let [busy, input, demand] = shares(&snapshot, island);
        assert!(
            input > 0.9,
            "{island}: busy {busy}, input {input}, demand {demand}"
        );
    }
}

/// Keeps the sizes of its chunks.
struct Sizes(Arc<Mutex<Vec<usize>>>);

impl Sink<u32> for Sizes {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(1000))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u32>) {
        self.0.lock().unwrap().push(chunk.len());
        cx.settle_chunk(chunk, Outcome::Delivered);
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

/// From here on an element takes long.
const DEAR: u32 = 200_000;

/// The sizes of the chunks that begin with a cheap element, and of those that begin with a dear one.
fn cheap_and_dear() -> (Vec<usize>, Vec<usize>) {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let work = |n: &mut u32| {
        if *n >= DEAR {
            std::thread::sleep(MS);
        }
    };
    source::iter(0..DEAR + 800)
        .map_in_place(work)
        .to(Sizes(Arc::clone(&sizes)))
        .block_on()
        .unwrap();
    let sizes = sizes.lock().unwrap();
    let mut elements = 0;
    sizes.iter().partition(|size| {
        let cheap = elements < DEAR as usize;
        elements += **size;
        cheap
    })
}

#[test]
fn chunks_are_as_large_as_a_turn_allows() {
    let (cheap, dear) = cheap_and_dear();
    assert_eq!(cheap[0], 1, "it is not known yet how long an element takes");
    // 256 elements that cost nothing take a fraction of a turn of 200 us.
    assert_eq!(cheap.iter().max(), Some(&256));
    // One element of 1 ms takes longer than a turn.
    let soon = dear.get(1..10).unwrap();
    assert!(soon.iter().all(|size| *size == 1), "{dear:?}");
}

#[test]
#[ignore = "an island does not count its chunks anew in each turn: they grow again after a while"]
fn chunks_of_dear_elements_stay_small() {
    let (_, dear) = cheap_and_dear();
    let later = dear.get(1..).unwrap();
    assert!(later.iter().all(|size| *size == 1), "{dear:?}");
}

#[test]
fn a_cancellation_waits_for_one_call_of_a_dear_closure_not_for_a_chunk() {
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let after = runtime().block_on(async {
        let mut running = source::iter(0_u64..)
            .map(move |n| {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(2 * MS);
                n
            })
            .ignore()
            .run()
            .unwrap();
        while calls.load(Ordering::SeqCst) < 50 {
            tokio::time::sleep(MS).await;
        }
        running.stopper().abort();
        let before = calls.load(Ordering::SeqCst);
        running.abort().await;
        running.snapshot().check().unwrap();
        calls.load(Ordering::SeqCst) - before
    });
    // The call that runs, and one that began while the message was on its way.
    assert!(after <= 2, "{after} calls began after the cancellation");
}
