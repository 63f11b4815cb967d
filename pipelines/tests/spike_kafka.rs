//! The Kafka spike holds, against a broker of its own: see `examples/spike_kafka.rs`.
#![allow(missing_docs)]
