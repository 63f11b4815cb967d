//! What is promised of Kafka, while workers are killed, stopped and come and go, and brokers with them.
//!
//! Workers are processes of their own: this binary, started again with [`job::VARIABLE`] set. The cluster
//! has three brokers, and one test has it at a time.
//!
//! `FOREBAY_KAFKA_KILLS` is how many workers are killed and `FOREBAY_KAFKA_RECORDS` how many records are
//! read meanwhile; by default 5 and 100,000 at least once, 2 and 50,000 exactly once. `FOREBAY_SEED`
//! repeats the choices of a run, which no seed can repeat as a whole. `FOREBAY_KAFKA_PAUSE` is for how many
//! seconds a broker stands still (5), `FOREBAY_KAFKA_DEBUG` what the producers of workers tell of themselves:
//! librdkafka's contexts, such as `eos`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    missing_docs
)]

mod at_least_once;
#[path = "../infra/kafka/cluster.rs"]
mod cluster;
mod evidence;
mod exactly_once;
mod faults;
mod feed;
mod job;
mod log;
mod replicas;
mod stage;
mod worker;
mod workers;
mod zombies;
