//! No thread is left after a run on a runtime of its own. Alone in its file: threads are counted by
//! process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::runtime::RuntimeKind;
use forebay::source;

#[test]
fn no_thread_is_left_after_a_run_on_a_runtime_of_its_own() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let run = |kind| {
        let pipeline = source::iter(0..1000)
            .buffer(8)
            .map_blocking(2, |n: u64| n)
            .ignore();
        pipeline.block_on_runtime(kind).unwrap();
    };
    let before = threads();
    run(RuntimeKind::MultiThread);
    run(RuntimeKind::CurrentThread);
    for _ in 0..200 {
        if threads() <= before {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} threads before, {} after", before, threads());
}
