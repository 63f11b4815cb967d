//! Kafka as source and sink, against a real broker that is started for these tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    missing_docs
)]

#[path = "../infra/kafka/broker.rs"]
mod broker;
mod consumer;
mod dead_letters;
mod letters;
mod partitioned;
mod poison;
mod rebalances;
mod retry;
mod row_b3;
mod sink;
mod support;
mod trace;
mod transactions;
