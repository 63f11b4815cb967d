//! Kafka as a part of a pipeline: topics are read, written, and given up into, with the guarantee that was
//! asked for by name.
//!
//! ```text
//!  broker ──► client's queue of a partition ──► batches ──► stage ──► .. ──► sink
//!                     (prefetch, bytes)       (hand_over)     │                │
//!  broker ◄── commit, on a thread of its own ◄── settled position ◄── receipts ┘
//! ```
//!
//! - [`source`] reads topics as a member of a group. A thread of its own polls the client and takes records
//!   over by the hundred; where there is no room they stay in the client, partition by partition, and the
//!   membership is kept.
//! - [`to_kafka`](crate::flow::Flow::to_kafka) writes records and settles each when its report comes.
//! - [`Publisher`] writes them one by one, for calls with a limit, a breaker and retries.
//! - [`to_kafka_in_transactions`](crate::flow::Flow::to_kafka_in_transactions) writes what was made of
//!   records in one transaction with the positions they came from.
//! - [`DeadLetterTopic`] keeps what could not be processed, byte for byte; [`DeadLetterAdmin`] looks through
//!   it, replays and discards.
//! - [`RetryInPlace`] tries again on the spot, [`RetryTopics`] later: what waits is in topics meanwhile.
//! - [`Record::trace`] and [`ProducerRecord::trace`] read and write the trace a record belongs to.
//! - [`Admin`] makes and describes topics, and tells how far a group is behind.
//!
//! # Guarantees
//! | | positions are committed | on a crash |
//! | --- | --- | --- |
//! | at most once ([`ConsumerSettings::at_most_once`]) | before their records are handed over | what was inside is lost, nothing comes twice |
//! | at least once (the default) | once their records are settled | what was not settled, or settled since the last commit, comes again |
//! | exactly once ([`ConsumerSettings::in_transactions`]) | with what was made of them | what was not committed is undone and comes again |
//!
//! A pipeline that names a [`Guarantee`](crate::topology::Guarantee) which a part of it does not keep is
//! refused before it connects.
//!
//! # Invariants
//! - A committed position never passes a record that is not settled, and never an offset that was not seen:
//!   of the gaps that compaction and transactions leave nothing is known.
//! - A partition that is taken away is drained for a bounded time, committed, and let go, in this order;
//!   afterwards receipts of its records change nothing. The other partitions go on meanwhile.
//! - What waits is bounded: in the client by bytes of each partition, between client and flow by records,
//!   in the flow by its window, in the sink by records and bytes.
//! - Settings are checked before anything connects. Who is not let in learns it as an [`Error`] that says so.
//!
//! # What it does not do
//! It makes no topic that it is not told to make, and keeps no schemas. It does not hide the client: each property of librdkafka can be
//! set and read, but for those that a promise stands on.
//!
//! # Example
//! Orders are read, checked, and passed on; what is no order goes to `orders.DLQ`.
//! ```no_run
//! use forebay::flow::DeadLetters;
//! use forebay::kafka::{
//!     self, Connection, ConsumerSettings, DeadLetterTopic, ProducerRecord, ProducerSettings,
//! };
//! use forebay::topology::Guarantee;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = || Connection::to("localhost:9092");
//! let reads = ConsumerSettings::new(cluster(), "checks").topics(["orders"]);
//! let writes = ProducerSettings::reliable(cluster());
//! let letters = DeadLetters::new(64, DeadLetterTopic::beside(&writes, ".DLQ")?);
//!
//! let (orders, flow) = kafka::source(reads);
//! flow.try_map(|record| {
//!     let text = std::str::from_utf8(record.value().unwrap_or_default())?;
//!     Ok::<_, std::str::Utf8Error>(ProducerRecord::to("checked").value(text.to_owned()))
//! })
//! .or_dead_letter(&letters)
//! .to_kafka(writes)
//! .guarantee(Guarantee::AtLeastOnce)
//! .block_on()?;
//! println!("{:?}", orders.lag());
//! # Ok(()) }
//! ```

mod admin;
mod connection;
mod consumer;
mod dead_letters;
mod embedded;
mod error;
mod ffi;
mod headers;
mod planner;
mod producer;
mod profiles;
mod properties;
mod record;
mod retry;
mod throttle;
mod transactions;

pub use admin::{Admin, Created, GroupLag, PartitionDescription, Topic, TopicDescription};
pub use connection::{Connection, Sasl, Tls};
pub use consumer::{
    Assignment, ConsumerCounts, ConsumerHandle, ConsumerSettings, Isolation, PartitionLag,
    ReadFrom, Start, partitioned, source,
};
pub use dead_letters::{
    DeadLetterAdmin, DeadLetterTopic, Letter, LetterFilter, LetterState, Provenance, Replay,
    Resolved, States,
};
pub use embedded::EmbeddedCluster;
pub use error::Error;
pub use headers::{MalformedTrace, Trace, TraceIds};
pub use planner::{FEWEST, MOST, PartitionPlan};
pub use producer::{Acks, Compression, KafkaSink, ProducerRecord, ProducerSettings, Publisher};
pub use properties::Properties;
pub use record::{Record, Timestamp, TopicPartition};
pub use retry::{GivenUp, RetryCounts, RetryInPlace, RetryTopics};
pub use transactions::{TransactionSettings, TransactionalSink};

use rdkafka::config::RDKafkaLogLevel;

/// What a client need not even say: it goes by what is listened to when the client is made. rdkafka goes by
/// the crate `log`, to which nobody listens here.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::INFO) {
        RDKafkaLogLevel::Info
    } else if tracing::enabled!(target: "librdkafka", tracing::Level::WARN) {
        RDKafkaLogLevel::Warning
    } else {
        RDKafkaLogLevel::Error
    }
}

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

#[cfg(test)]
mod tests {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Listens to what is not below a level.
    struct From(Level);

    impl Subscriber for From {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= self.0
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_client_says_what_is_listened_to() {
        for (listens, says) in [
            (Level::DEBUG, RDKafkaLogLevel::Debug),
            (Level::INFO, RDKafkaLogLevel::Info),
            (Level::WARN, RDKafkaLogLevel::Warning),
            (Level::ERROR, RDKafkaLogLevel::Error),
        ] {
            let level = tracing::subscriber::with_default(From(listens), log_level);
            assert_eq!(level as i32, says as i32, "{listens}");
        }
    }
}
