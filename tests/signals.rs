//! The first signal drains a run, the second aborts it.
#![cfg(all(unix, feature = "signals"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use forebay::error::RunError;
use forebay::outcome::Kind;
use forebay::source;

/// Sends this process a request to terminate.
fn terminate() {
    let pid = std::process::id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Both in one test: signals reach the whole process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_signal_drains_and_the_second_aborts() {
    let endless = || {
        source::iter(0_u64..)
            .buffer(16)
            .map_async(4, |n| async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                n
            })
    };
    let mut running = endless().fold(0_u64, |seen, _| *seen += 1).run().unwrap();
    let send = tokio::spawn(async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        terminate();
    });
    let drained = running
        .join_or_signal(Duration::from_secs(20))
        .await
        .unwrap();
    send.await.unwrap();
    let account = running.snapshot();
    account.check().unwrap();
    assert_eq!(drained.still_running, Vec::<String>::new());
    assert_eq!(
        drained.output,
        Some(account.total().outcome(Kind::Delivered))
    );
    assert_eq!(
        account.total().outcome(Kind::Cancelled),
        0,
        "what was inside was finished"
    );

    let mut running = endless()
        .map_async(1, |n| async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            n
        })
        .ignore()
        .run()
        .unwrap();
    let send = tokio::spawn(async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            terminate();
        }
    });
    let result = running.join_or_signal(Duration::from_secs(3600)).await;
    send.await.unwrap();
    assert!(matches!(result, Err(RunError::Aborted)), "{result:?}");
    let account = running.snapshot();
    account.check().unwrap();
    assert!(account.total().outcome(Kind::Cancelled) > 0);
}
