//! A cluster in this process, for demonstrations and quick tests.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use super::admin::Topic;
use super::connection::Connection;
use super::error::Error;
use super::ffi;

/// How long the first member of a group waits for others.
const JOIN: Duration = Duration::from_millis(50);

/// A cluster in this process: one broker on a free port of the loopback interface, gone with its records
/// when this is dropped.
///
/// It takes and gives records, keeps positions and deals partitions to the members of groups: enough for a
/// demonstration on a machine that has no broker. It is **no evidence** for more: it keeps nothing on disk,
/// shows records of transactions that were aborted, and forgets the oldest records of a partition beyond
/// [`RETAINED_BYTES`](EmbeddedCluster::RETAINED_BYTES) or
/// [`RETAINED_BATCHES`](EmbeddedCluster::RETAINED_BATCHES) without a word, read or not. It has no
/// [`Admin`](super::Admin) that makes topics: [`create_topic`](EmbeddedCluster::create_topic) does.
///
/// # Example
/// ```
/// use forebay::kafka::{self, ConsumerSettings, EmbeddedCluster, ProducerRecord, ProducerSettings};
/// use forebay::source;
///
/// let cluster = EmbeddedCluster::start()?;
/// cluster.create_topic("greetings", 1)?;
/// source::iter(["hello", "world"])
///     .map(|text| ProducerRecord::to("greetings").value(text))
///     .to_kafka(ProducerSettings::new(cluster.connection()))
///     .block_on()?;
/// let reads = ConsumerSettings::new(cluster.connection(), "readers").topics(["greetings"]);
/// let (_handle, records) = kafka::source(reads);
/// let greetings = records.take(2).map(|record| record.value().unwrap_or_default().to_vec());
/// assert_eq!(greetings.collect().block_on()?, [b"hello", b"world"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EmbeddedCluster {
    /// The cluster is a part of this client.
    host: BaseProducer<DefaultProducerContext>,
    bootstrap: String,
}

impl EmbeddedCluster {
    /// How many bytes of a partition it keeps.
    pub const RETAINED_BYTES: u64 = 5 << 20;
    /// How many batches of a partition it keeps.
    pub const RETAINED_BATCHES: u64 = 100_000;

    /// Starts one.
    ///
    /// # Errors
    /// [`Error::Client`] if there is no port or no memory to be had.
    pub fn start() -> Result<EmbeddedCluster, Error> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        // It says that it is no real one.
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Error);
        let host: BaseProducer<DefaultProducerContext> =
            config.create_with_context(DefaultProducerContext)?;
        let cluster = host.client().mock_cluster().ok_or_else(missing)?;
        let bootstrap = cluster.bootstrap_servers();
        drop(cluster);
        ffi::set_join_delay(&host, JOIN);
        Ok(EmbeddedCluster { host, bootstrap })
    }

    /// Makes a topic, before anything is written to it or read from it: it comes about by itself then,
    /// with four partitions.
    ///
    /// # Errors
    /// [`Error::Client`] if there is one of that name, [`Error::Invalid`] for a name that cannot be.
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<(), Error> {
        Topic::named(name).partitions(partitions).check()?;
        let cluster = self.host.client().mock_cluster().ok_or_else(missing)?;
        Ok(cluster.create_topic(name, i32::from(partitions), 1)?)
    }

    /// Where it is.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection::to(&self.bootstrap)
    }

    /// Its broker, as `host:port`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

fn missing() -> Error {
    Error::Client(KafkaError::MockCluster(
        rdkafka::types::RDKafkaErrorCode::NotImplemented,
    ))
}

impl fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedCluster")
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kafka::{Admin, Created};

    #[tokio::test]
    async fn its_topics_are_found_and_compared_from_outside_and_none_comes_about_by_asking() {
        let cluster = EmbeddedCluster::start().unwrap();
        cluster.create_topic("orders", 3).unwrap();
        let invalid = cluster.create_topic("a b", 1).unwrap_err();
        assert!(matches!(invalid, Error::Invalid { .. }), "{invalid}");
        let admin = Admin::of(&cluster.connection()).unwrap();
        let orders = |partitions| Topic::named("orders").partitions(partitions);
        assert_eq!(admin.create(&orders(3)).await.unwrap(), Created::Existed);
        let differs = admin.create(&orders(4)).await.unwrap_err();
        assert!(matches!(differs, Error::Differs { .. }), "{differs}");
        let lag = admin.lag("nobody", "orders").await.unwrap();
        assert!(lag.len() == 3 && lag.iter().all(|one| one.records() == 0));
        for _ in 0..2 {
            let none = admin.lag("nobody", "other").await.unwrap_err();
            assert!(matches!(none, Error::UnknownTopic { .. }), "{none}");
        }
        let unmade = admin.create(&Topic::named("other")).await.unwrap_err();
        assert!(matches!(unmade, Error::Client(_)), "{unmade}");
    }
}
