//! The Kafka spike holds, against a broker of its own: see `examples/spike_kafka.rs`.
#![allow(missing_docs)]

#[path = "../../examples/spike_kafka.rs"]
mod spike;

/// Run a second time, as the second process of the group, by the spike itself.
#[test]
fn partitions_move_and_transactions_commit_each_record_once() {
    spike::main();
}
