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
mod membership;
mod partitioned;
mod peer_complaints;
mod poison;
mod rebalances;
mod retry;
mod row_a6;
mod row_a7;
mod row_b1;
mod row_b3;
mod row_b4;
mod row_b6;
mod row_b7;
#[cfg(feature = "kafka-tls")]
mod secured;
#[cfg(feature = "signals")]
mod signals;
mod sink;
mod support;
mod throttle;
mod topics;
mod trace;
mod transactions;
