//! How long groups of an embedded cluster wait for members.

use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::producer::{BaseProducer, Producer};

/// How long the first member of a group waits for others before it is dealt partitions, in the cluster that
/// is a part of this client; nothing happens if none is.
pub(in crate::kafka) fn set_join_delay(host: &BaseProducer, delay: Duration) {
    let delay_ms = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the cluster that a client has lives as long as the client, which is borrowed for the call.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(host.client().native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
    }
}
