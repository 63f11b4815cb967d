//! The core in one piece: what comes out, in which order, and whether the accounts balance.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::outcome::Kind;
use forebay::source;

#[test]
fn a_pipeline_with_boundaries_and_futures_keeps_order_and_balances() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pipeline = source::iter(0..10_000_u64)
            .map(|n| n + 1)
            .buffer(64)
            .map_async(8, |n| async move {
                if n % 7 == 0 {
                    tokio::task::yield_now().await;
                }
                n * 2
            })
            .async_boundary()
            .map(|n| n / 2)
            .collect();
        let mut running = pipeline.run().unwrap();
        let all = running.join().await.unwrap();
        assert_eq!(all, (1..=10_000).collect::<Vec<_>>());
        let snapshot = running.snapshot();
        eprintln!("{snapshot}");
        snapshot.check().unwrap();
        assert_eq!(snapshot.total().outcome(Kind::Delivered), 10_000);
    });
}

#[test]
fn a_panic_fails_its_element_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = source::iter(0..1000_u64)
            .map(|n| {
                assert!(n % 100 != 3, "no");
                n
            })
            .buffer(16)
            .map_async(4, |n| async move {
                assert!(n % 100 != 5, "no");
                n
            })
            .collect()
            .run()
            .unwrap();
        let all = running.join().await.unwrap();
        assert_eq!(all.len(), 980);
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        assert_eq!(snapshot.total().outcome(Kind::Failed), 20);
    });
}

#[test]
fn drop_head_sheds_and_every_drop_is_counted() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = source::iter(0..100_000_u64)
            .buffer(Buffer::items(100).when_full(WhenFull::DropHead))
            .for_each(|_| forebay::time::work(Duration::from_micros(1)))
            .run()
            .unwrap();
        running.join().await.unwrap();
        let snapshot = running.snapshot();
        eprintln!("{snapshot}");
        snapshot.check().unwrap();
        let total = snapshot.total();
        assert_eq!(
            total.outcome(Kind::Delivered) + total.outcome(Kind::Shed),
            100_000
        );
    });
}

#[test]
fn an_abort_cancels_what_is_inside() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = source::iter(0_u64..)
            .buffer(100)
            .map_async(8, |n| async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                n
            })
            .ignore()
            .run()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        running.abort().await;
        let snapshot = running.snapshot();
        eprintln!("{snapshot}");
        snapshot.check().unwrap();
        assert!(snapshot.total().outcome(Kind::Cancelled) > 0);
    });
}
