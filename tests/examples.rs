//! The examples do what they say: each is run, and asserts for itself.
#![allow(missing_docs)]

#[path = "../examples/first_pipeline.rs"]
mod first_pipeline;
#[path = "../examples/own_stage.rs"]
mod own_stage;
#[path = "../examples/resume_after_crash.rs"]
mod resume_after_crash;
#[path = "../examples/slow_branch.rs"]
mod slow_branch;

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
