//! `pressure`: load tests of pipelines, in simulated time and on the wall clock, beside baselines.
//! `pressure --help` says all.
#![allow(
    clippy::cast_sign_loss,
    reason = "spans and counts are checked to be positive where scenarios are read"
)]

mod calibrate;
mod cli;
mod compare;
mod cores;
mod cost;
mod gates;
mod measure;
mod producer;
mod prove;
mod random;
mod refusal;
mod report;
mod run;
mod scenario;
mod schedule;
mod session;
mod shop;
mod simulated;
mod spin;
#[path = "../status.rs"]
mod status;
mod system;
mod trace;
mod view;
mod wall;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
