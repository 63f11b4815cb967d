//! What suites share that run whole pipelines on the wall clock.
#![allow(dead_code)]

use std::time::Duration;

use forebay::error::RunError;
use forebay::flow::Pipeline;
use forebay::runtime::Snapshot;

/// Longer than any of these pipelines takes.
const LONG: Duration = Duration::from_secs(20);

/// Two threads, as the smallest machine has.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn balanced(snapshot: Snapshot) -> Snapshot {
    if let Err(wrong) = snapshot.check() {
        panic!("{wrong:?}\n{snapshot}");
    }
    snapshot
}

/// Runs to the end, and checks the account.
pub(crate) fn run<O: Send + 'static>(pipeline: Pipeline<O>) -> (Result<O, RunError>, Snapshot) {
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        let joined = tokio::time::timeout(LONG, running.join()).await;
        let Ok(result) = joined else {
            let still = running.still_running();
            panic!("still running: {still:?}\n{}", running.snapshot());
        };
        (result, balanced(running.snapshot()))
    })
}

/// The same, of a pipeline that ends well.
pub(crate) fn run_well<O: Send + 'static>(pipeline: Pipeline<O>) -> (O, Snapshot) {
    let (result, snapshot) = run(pipeline);
    (result.unwrap(), snapshot)
}

/// Runs for a while, aborts, and checks the account.
pub(crate) fn abort<O: Send + 'static>(pipeline: Pipeline<O>) -> Snapshot {
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        running.abort().await;
        let snapshot = balanced(running.snapshot());
        assert_eq!(running.still_running(), Vec::<String>::new());
        snapshot
    })
}
