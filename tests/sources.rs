//! Sources of values: how much they give, when they rest, how they end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::error::{Cause, RunError};
use forebay::sink::Asking;
use forebay::source;

#[tokio::test]
async fn a_stream_is_not_polled_beyond_the_demand() {
    let polled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&polled);
    let stream = futures_util::stream::repeat_with(move || count.fetch_add(1, Ordering::Relaxed));
    let (mut taken, pipeline) = source::stream(stream).into_subscription(Asking::by_hand(10));
    let mut running = pipeline.run().unwrap();
    for asked in [3, 4] {
        taken.request(asked);
        for _ in 0..asked {
            taken.next().await.unwrap().unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(polled.load(Ordering::Relaxed), 7);
    taken.cancel();
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn unfold_async_starts_one_future_at_a_time_and_ends_by_none() {
    let running_now = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&running_now);
    let mut running = source::unfold_async(0_u64, move |n| {
        let now = Arc::clone(&now);
        async move {
            assert_eq!(now.fetch_add(1, Ordering::Relaxed), 0);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::Relaxed);
            (n < 100).then_some((n + 1, n))
        }
    })
    .collect()
    .run()
    .unwrap();
    assert_eq!(running.join().await.unwrap(), (0..100).collect::<Vec<_>>());
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn a_panic_of_a_source_stops_the_run_behind_what_came_before() {
    let flow = source::unfold_async(0_u64, |n| async move {
        assert!(n < 3, "no more");
        Some((n + 1, n))
    });
    let mut running = flow.collect().run().unwrap();
    let Err(RunError::Stopped {
        stage,
        cause: Cause::Panicked(message),
    }) = running.join().await
    else {
        panic!("it must stop");
    };
    assert_eq!((&*stage, &*message), ("unfold_async", "no more"));
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().entered, 3);
}

#[tokio::test]
async fn ticks_without_demand_are_missed_and_told() {
    let ticks = source::tick(Duration::from_millis(10));
    let (mut taken, pipeline) = ticks.into_subscription(Asking::by_hand(1));
    let mut running = pipeline.run().unwrap();
    let mut last = None;
    for rest in [0, 100, 50] {
        tokio::time::sleep(Duration::from_millis(rest)).await;
        taken.request(1);
        let tick = taken.next().await.unwrap().unwrap();
        let expected = last.map_or(0, |last| last + 1) + tick.missed;
        assert_eq!(tick.number, expected, "the numbers tell what is missing");
        if last.is_some() {
            assert!(tick.missed >= rest / 10 - 2, "{tick:?} after {rest} ms");
        }
        last = Some(tick.number);
    }
    taken.cancel();
    running.join().await.unwrap();
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().entered, 3);
}

#[tokio::test]
async fn channels_are_emptied_before_they_complete_and_left_alone_without_demand() {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    let (other, others) = async_channel::bounded(2);
    let (mut taken, pipeline) = source::tokio_mpsc(receiver).into_subscription(Asking::by_hand(10));
    let mut running = pipeline.run().unwrap();
    sender.send(1).await.unwrap();
    sender.send(2).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(sender.try_send(3).is_err(), "nothing was asked for");
    drop(sender);
    taken.request(10);
    assert_eq!(taken.next().await.unwrap().unwrap(), 1);
    assert_eq!(taken.next().await.unwrap().unwrap(), 2);
    assert!(taken.next().await.is_none());
    running.join().await.unwrap();
    other.send("a").await.unwrap();
    other.close();
    assert_eq!(
        source::async_channel(others).collect().await.unwrap(),
        ["a"]
    );
}

/// The error a run ends with, within 5 s.
async fn stopped<O>(mut running: forebay::runtime::Running<O>) -> String {
    let joined = tokio::time::timeout(Duration::from_secs(5), running.join()).await;
    let snapshot = running.snapshot();
    let Ok(Err(RunError::Stopped { stage, cause })) = joined else {
        panic!("it did not stop:\n{snapshot}");
    };
    snapshot.check().unwrap();
    format!("{stage}: {cause}")
}

#[tokio::test]
async fn a_source_fails_without_demand() {
    let (queue, flow) = source::queue(4);
    let (_taken, pipeline) = flow.into_subscription(Asking::by_hand(10));
    let running = pipeline.run().unwrap();
    let _ = queue.offer(1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    queue.fail("gone");
    assert_eq!(stopped(running).await, "queue: gone");

    let (_taken, pipeline) =
        source::failed::<u64>("at once").into_subscription(Asking::by_hand(10));
    assert_eq!(stopped(pipeline.run().unwrap()).await, "failed: at once");
}

#[tokio::test]
async fn a_source_fails_while_it_is_paused() {
    let (queue, flow) = source::queue::<u64>(4);
    let running = flow.collect().run().unwrap();
    running.stopper().pause(true);
    tokio::time::sleep(Duration::from_millis(20)).await;
    queue.fail("gone");
    assert_eq!(stopped(running).await, "queue: gone");
}

#[tokio::test]
async fn a_source_fails_while_its_window_is_full() {
    let (queue, flow) = source::queue(4);
    let running = flow
        .window(1)
        .for_each_async(4, |_: u64| std::future::pending())
        .run()
        .unwrap();
    let _ = queue.offer(1).await;
    let _ = queue.offer(2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    queue.fail("gone");
    assert_eq!(stopped(running).await, "queue: gone");
}

#[tokio::test]
async fn lines_whose_state_cannot_be_saved_stop_without_demand() {
    let directory = tempfile::tempdir().unwrap();
    let (text, state) = (
        directory.path().join("text"),
        directory.path().join("state"),
    );
    std::fs::write(&text, "one\ntwo\nthree\n").unwrap();
    let lines = source::lines(source::Lines::file(&text).state(&state));
    let (mut taken, pipeline) = lines.into_subscription(Asking::by_hand(10));
    let running = pipeline.run().unwrap();
    taken.request(1);
    taken.next().await.unwrap().unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    let error = stopped(running).await;
    assert!(error.starts_with("lines: "), "{error}");
}
