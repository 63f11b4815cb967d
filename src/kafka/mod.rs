//! Kafka.

mod connection;
mod consumer;
mod error;
mod ffi;
mod planner;
mod producer;
mod profiles;
mod properties;
mod record;
mod transactions;

pub use connection::{Connection, Sasl, Tls};
pub use consumer::{
    Assignment, ConsumerHandle, ConsumerSettings, Isolation, PartitionLag, ReadFrom, Start, source,
};
pub use error::Error;
pub use planner::{FEWEST, MOST, PartitionPlan};
pub use producer::{Acks, Compression, KafkaSink, ProducerRecord, ProducerSettings};
pub use properties::Properties;
pub use record::{Record, Timestamp, TopicPartition};
pub use transactions::{TransactionSettings, TransactionalSink};

use rdkafka::config::RDKafkaLogLevel;

/// What the client logs.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}
