//! What a source does about an element that ended unresolved: stop, go back, divert, go on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::{Cause, Refused, RunError, Stop};
use forebay::flow::Flow;
use forebay::operator::{Answer, Context, Demand, Fill, Source};
use forebay::outcome::{Kind, Reason};
use forebay::position::Unresolved;
use forebay::runtime::Snapshot;
use forebay::sink::Asking;
use forebay::source::{self, Lines};

/// Numbers with their own value as position; what is diverted goes to a list, after a wait.
struct Numbers {
    next: u64,
    end: u64,
    diverted: Arc<Mutex<Vec<u64>>>,
    asked: u32,
}

impl Source<u64> for Numbers {
    type Position = u64;

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        positions: &mut Vec<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        for _ in 0..want.items.min(7) {
            if self.next == self.end {
                return Ok(Fill::Done);
            }
            out.push_value(self.next);
            positions.push(self.next);
            self.next += 1;
        }
        Ok(Fill::More)
    }

    fn rewind(&mut self, _: &mut Context<'_, '_>, to: Option<&u64>) -> Result<(), Stop> {
        self.next = to.map_or(0, |position| position + 1);
        Ok(())
    }

    fn diverts(&self) -> bool {
        true
    }

    fn poll_divert(
        &mut self,
        cx: &mut Context<'_, '_>,
        _: &Unresolved,
        position: Option<&u64>,
    ) -> Poll<Result<(), Stop>> {
        self.asked += 1;
        if self.asked.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.diverted.lock().unwrap().extend(position);
        Poll::Ready(Ok(()))
    }
}

fn numbers(answer: Answer) -> (Flow<u64>, Arc<Mutex<Vec<u64>>>) {
    let diverted = Arc::default();
    let source = Numbers {
        next: 0,
        end: 100,
        diverted: Arc::clone(&diverted),
        asked: 0,
    };
    (
        Flow::from_source("numbers", source)
            .on_unresolved(answer)
            .window(32),
        diverted,
    )
}

async fn run(flow: Flow<u64>) -> (Result<Vec<u64>, RunError>, Snapshot) {
    let mut running = flow.collect().run().unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(20), running.join()).await;
    let snapshot = running.snapshot();
    let result = joined.unwrap_or_else(|_| panic!("still running:\n{snapshot}"));
    snapshot
        .check()
        .unwrap_or_else(|wrong| panic!("{wrong:?}\n{snapshot}"));
    (result, snapshot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_names_the_stage_and_the_position() {
    let (flow, _) = numbers(Answer::Stop);
    let refuses = flow
        .try_map(|n| if *n == 42 { Err("no") } else { Ok(*n) })
        .or_fail()
        .named("refuses");
    let (result, snapshot) = run(refuses).await;
    let error = result.unwrap_err();
    let RunError::Stopped { stage, cause } = &error else {
        panic!("{error:?}")
    };
    let Cause::Unresolved { position, what, .. } = cause else {
        panic!("{cause:?}")
    };
    assert_eq!((stage.as_str(), position.as_str()), ("refuses", "42"));
    assert_eq!(what.outcome.kind(), Kind::Failed);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewind_reads_again_from_the_settled_position_until_it_works() {
    let (flow, _) = numbers(Answer::Rewind);
    let tries = Arc::new(AtomicU64::new(0));
    let flow = flow.buffer(8).map_async(4, move |n| {
        let tries = Arc::clone(&tries);
        async move {
            tokio::task::yield_now().await;
            let fails = n == 42 && tries.fetch_add(1, Ordering::Relaxed) < 2;
            assert!(!fails, "not yet");
            n
        }
    });
    let (result, snapshot) = run(flow).await;
    let mut all = result.unwrap();
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Failed), 2);
    assert!(total.replayed > 0, "it went back");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..100).collect::<Vec<_>>(), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_third_time_at_one_position_it_stops() {
    let (flow, _) = numbers(Answer::Rewind);
    let (result, snapshot) = run(flow.map(|n| {
        assert!(n != 42, "never");
        n
    }))
    .await;
    assert!(
        matches!(result, Err(RunError::Stopped { .. })),
        "{result:?}"
    );
    assert_eq!(snapshot.total().outcome(Kind::Failed), 3);
}

/// The reported elements alternate, and the settled position does not move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_at_the_third_time_whichever_elements_failed() {
    let (flow, _) = numbers(Answer::Rewind);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    // A service that is down: each call ends after a while, in another order each time.
    let flow = flow.map_async_unordered(16, move |n| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            for _ in 0..(call * 7 + n * 5) % 11 {
                tokio::task::yield_now().await;
            }
            assert!(n < 10, "down");
            n
        }
    });
    let (result, snapshot) = run(flow).await;
    let RunError::Stopped { cause, .. } = result.unwrap_err() else {
        panic!("{snapshot}");
    };
    assert!(matches!(cause, Cause::Unresolved { .. }), "{cause:?}");
    // Elements 0 to 9 may be delivered in any of the tries: ten steps, three tries each at most.
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls <= 10 * 3 * 32, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_down_is_called_for_three_generations() {
    let (flow, _) = numbers(Answer::Rewind);
    let generations = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&generations);
    let flow = flow.map_async_unordered(4, move |n: u64| {
        // The first failure is that of another element in each generation.
        let generation = match n {
            0 => counted.fetch_add(1, Ordering::Relaxed) + 1,
            _ => counted.load(Ordering::Relaxed),
        };
        async move {
            if n != generation % 4 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("down");
        }
    });
    let (result, snapshot) = run(flow.map(|(): ()| 0)).await;
    assert!(
        matches!(result, Err(RunError::Stopped { .. })),
        "{snapshot}"
    );
    assert_eq!(generations.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn divert_hands_the_position_on_and_passes() {
    let (flow, diverted) = numbers(Answer::Divert);
    let third = |n: &u64| {
        if n.is_multiple_of(3) {
            Err("third")
        } else {
            Ok(*n)
        }
    };
    let (result, snapshot) = run(flow.buffer(4).try_map(third).or_fail()).await;
    assert_eq!(
        result.unwrap(),
        (0..100).filter(|n| n % 3 != 0).collect::<Vec<_>>()
    );
    let mut diverted = diverted.lock().unwrap().clone();
    diverted.sort_unstable();
    assert_eq!(
        diverted,
        (0..100).filter(|n| n % 3 == 0).collect::<Vec<_>>()
    );
    let total = snapshot.total();
    assert_eq!(
        (
            total.outcome(Kind::DeadLettered),
            total.outcome(Kind::Failed)
        ),
        (34, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continue_goes_on_and_counts() {
    let (flow, _) = numbers(Answer::Continue);
    let (result, snapshot) = run(flow.map(|n| {
        assert!(n % 10 != 3, "no");
        n
    }))
    .await;
    assert_eq!(result.unwrap().len(), 90);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 10);
}

fn refusal<T: Send + 'static>(flow: Flow<T>) -> (String, String) {
    match flow.collect().run().map(drop).unwrap_err() {
        Refused::Setting { stage, what } => (stage, what),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_answer_that_the_source_cannot_give_is_refused() {
    let text = || Lines::read("text", &b"one"[..]);
    let nowhere = "has nowhere to divert elements to (`Divert`)";
    let (stage, what) = refusal(source::lines("no such file").on_unresolved(Answer::Divert));
    assert_eq!(stage, "lines");
    assert_eq!(
        what,
        format!("it {nowhere}: declare `.on_unresolved(..)` with `Stop`, `Rewind` or `Continue`")
    );
    let (_, what) = refusal(source::lines(text()).on_unresolved(Answer::Divert));
    assert_eq!(
        what,
        format!("it {nowhere}: declare `.on_unresolved(..)` with `Stop` or `Continue`")
    );
    let (stage, what) = refusal(source::lines(text()).on_unresolved(Answer::Rewind));
    assert_eq!(stage, "lines");
    assert!(what.contains("cannot go back (`Rewind`)"), "{what}");
    let (stage, what) = refusal(
        source::iter(0..9)
            .on_unresolved(Answer::Rewind)
            .named("numbers"),
    );
    assert_eq!(stage, "numbers");
    assert!(what.contains("cannot go back (`Rewind`)"), "{what}");
}

/// Numbers of which the first seven come at once, and the eighth fails a while later, once: by then
/// a sink has the seven.
fn fails_late() -> Flow<u64> {
    let failed = Arc::new(AtomicU64::new(0));
    let (flow, _) = numbers(Answer::Rewind);
    flow.map_async_unordered(8, move |n| {
        let fails = n == 7 && failed.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if fails {
                tokio::time::sleep(Duration::from_millis(30)).await;
                panic!("once");
            }
            n
        }
    })
}

fn everything(mut numbers: Vec<u64>) {
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_rewind_drops_what_waits_for_a_channel() {
    let (sender, receiver) = async_channel::bounded(1);
    let mut running = fails_late().to_async_channel(sender).run().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut got = Vec::new();
    while let Ok(n) = receiver.recv().await {
        got.push(n);
    }
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    // One was in the channel, and one about to be; those behind them waited here.
    assert!(got.len() <= 102, "{got:?}\n{snapshot}");
    let counts = &snapshot.stage("async_channel").unwrap().counts;
    assert!(counts.reason(Reason::Rewound) > 0, "{snapshot}");
    everything(got);
}

#[tokio::test]
async fn a_rewind_drops_what_nobody_took_from_a_subscription() {
    let (mut taken, pipeline) = fails_late().into_subscription(Asking::by_hand(10));
    let mut running = pipeline.run().unwrap();
    taken.request(7);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut got = Vec::new();
    for _ in 0..100 {
        let next = tokio::time::timeout(Duration::from_secs(5), taken.next()).await;
        got.push(next.unwrap().unwrap().unwrap());
        taken.request(1);
    }
    assert!(taken.next().await.is_none(), "none comes twice");
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
    everything(got);
}

#[tokio::test]
async fn a_rewind_drops_what_has_gathered_for_a_file() {
    let folder = tempfile::tempdir().unwrap();
    // What the thread of the file has got is written: now and then that is all of it.
    for attempt in 0..1000 {
        let path = folder.path().join(format!("{attempt}"));
        let failed = AtomicU64::new(0);
        let fails = move |n: &u64| *n == 42 && failed.fetch_add(1, Ordering::Relaxed) == 0;
        let mut running = numbers(Answer::Rewind)
            .0
            .try_map(move |n| {
                if fails(n) {
                    Err("once")
                } else {
                    Ok(n.to_string())
                }
            })
            .or_fail()
            .to_file(&path)
            .run()
            .unwrap();
        let written = running.join().await.unwrap();
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let got: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(got.len() as u64, written.records);
        let repeated = written.records - 100;
        everything(got);
        let counts = &snapshot.stage("to_file").unwrap().counts;
        let dropped = counts.reason(Reason::Rewound);
        assert_eq!(counts.outcome(Kind::Delivered), 100 + repeated);
        if dropped > 0 {
            return;
        }
    }
    panic!("nothing was ever dropped");
}

/// Numbers of which one fails once, after all were read, joined with a queue that stays open.
fn beside_an_open_queue(numbers: Flow<u64>) -> (source::Queue<u64>, Flow<u64>) {
    let (queue, open) = source::queue::<u64>(4);
    (queue, beside(numbers, open))
}

fn beside(numbers: Flow<u64>, open: Flow<u64>) -> Flow<u64> {
    let mut fails = true;
    numbers.merge([open]).map_async(128, move |n| {
        let fails = n == 42 && std::mem::take(&mut fails);
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!fails, "not yet");
            n
        }
    })
}

#[tokio::test]
async fn a_source_goes_back_after_its_end_though_another_goes_on() {
    goes_back_beside_an_open_queue(numbers(Answer::Rewind).0.window(1000)).await;
}

#[tokio::test]
async fn a_source_behind_a_boundary_goes_back_after_its_end_though_another_goes_on() {
    goes_back_beside_an_open_queue(numbers(Answer::Rewind).0.window(1000).buffer(16)).await;
}

async fn goes_back_beside_an_open_queue(numbers: Flow<u64>) {
    let (queue, flow) = beside_an_open_queue(numbers);
    let (mut taken, pipeline) = flow.into_subscription(Asking::by_hand(1000));
    let mut running = pipeline.run().unwrap();
    taken.request(1000);
    let all = async {
        let mut all = BTreeSet::new();
        while all.len() < 100 {
            all.insert(taken.next().await.unwrap().unwrap());
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(5), all).await;
    assert!(came.is_ok(), "it stands still:\n{}", running.snapshot());
    queue.complete();
    while taken.next().await.is_some() {}
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn a_source_stops_the_run_though_its_barrier_waits_for_another() {
    let numbers = numbers(Answer::Stop).0.window(1000).barrier_every(100);
    // The queue may give barriers, but nothing comes by it.
    let (_queue, open) = source::queue::<u64>(4);
    let (result, _) = run(beside(numbers, open.barrier_every(100))).await;
    assert!(result.unwrap_err().to_string().contains("element 42"));
}
