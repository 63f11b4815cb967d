//! A fast ticker, a bounded buffer, and slow work two at a time: the work sets the pace.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::outcome::Kind;
use forebay::source;

#[tokio::test(flavor = "multi_thread")]
async fn row_a1_slow_work_bounds_the_rate_and_what_is_inside() {
    let mut running = source::tick(Duration::from_millis(10))
        .buffer(10)
        .map_async(2, |tick| async move {
            forebay::time::sleep(Duration::from_millis(100)).await;
            tick.number
        })
        .collect()
        .run()
        .unwrap();
    let mut inside = 0;
    let started = forebay::time::now();
    while forebay::time::now().since(started) < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        inside = inside.max(running.snapshot().total().unsettled());
    }
    let span = forebay::time::now().since(started);
    let done = running.snapshot().total().outcome(Kind::Delivered);
    // Two at a time, 100 ms each: 20 a second. A busy machine may be slower, never faster.
    let rate = done as f64 / span.as_secs_f64();
    assert!((8.0..=21.0).contains(&rate), "{rate} a second");
    let drained = running.drain(Duration::from_secs(10)).await.unwrap();
    assert!(drained.still_running.is_empty());
    let numbers = drained.output.unwrap();
    assert!(numbers.is_sorted(), "in order");
    // Ten in the buffer, two in flight.
    assert!((10..=12).contains(&inside), "{inside} inside");
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Delivered), total.entered);
    assert_eq!(total.entered, numbers.len() as u64);
    // Ticks for which there was no demand were not kept: the numbers of later ones tell.
    assert!(*numbers.last().unwrap() > total.entered);
}
