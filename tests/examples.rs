//! The examples do what they say: each is run, and asserts for itself.
#![allow(missing_docs)]

#[path = "../examples/a1_backpressured.rs"]
mod a1_backpressured;
#[path = "../examples/a3_subscription.rs"]
mod a3_subscription;
#[path = "../examples/first_pipeline.rs"]
mod first_pipeline;
#[path = "../examples/own_stage.rs"]
mod own_stage;
#[path = "../examples/resume_after_crash.rs"]
mod resume_after_crash;
#[path = "../examples/slow_branch.rs"]
mod slow_branch;
#[path = "../examples/spill_to_disk.rs"]
mod spill_to_disk;

#[test]
fn the_first_pipeline() {
    first_pipeline::main().expect("first_pipeline");
}

#[test]
fn a_stage_of_ones_own() {
    own_stage::main().expect("own_stage");
}

#[test]
fn resuming_after_a_crash() {
    resume_after_crash::main().expect("resume_after_crash");
}

#[test]
fn a_fan_out_with_a_slow_branch() {
    slow_branch::main().expect("slow_branch");
}

#[test]
fn cheap_orders_that_wait_on_disk() {
    spill_to_disk::main().expect("spill_to_disk");
}

#[test]
fn row_a1_work_that_sets_the_pace() {
    a1_backpressured::main().expect("a1_backpressured");
}

#[test]
fn row_a3_a_consumer_that_asks() {
    a3_subscription::main().expect("a3_subscription");
}

/// An example that nothing runs may be wrong for years.
#[test]
fn every_example_is_run_by_a_test() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: String = ["tests", "tests/kafka", "pipelines/tests"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(here.join(folder)).expect("the tests"))
        .filter_map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).ok())
        .collect();
    for entry in std::fs::read_dir(here.join("examples")).expect("the examples") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".rs") {
            // A module whose `main` is not called is dead code, which does not pass.
            let run = tests.contains(&format!("/examples/{name}\"]"));
            assert!(run, "no test runs {name}");
        }
    }
}
