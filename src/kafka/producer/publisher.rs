//! Records written one by one, by whoever waits for each.

use std::fmt;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::record::ProducerRecord;
use super::reports::Writer;
use super::settings::ProducerSettings;
use crate::kafka::error::Error;

/// Writes records one by one, and tells of each whether it was written: for calls that have a limit, a
/// breaker and retries of their own, such as [`try_map_async`](crate::flow::Flow::try_map_async). Where none
/// of that is needed [`to_kafka`](crate::flow::Flow::to_kafka) costs less.
///
/// Clones share one client, which is closed with the last of them. Calls that are under way at once share
/// batches: with a [`linger`](ProducerSettings::linger) of 20 ms a call takes at least as long, and as many
/// as are allowed at once go together. The settings' [`dead_letters`](ProducerSettings::dead_letters) are
/// not used: who calls learns of the error.
///
/// # Example
/// ```
/// use forebay::control::Retry;
/// use forebay::kafka::{EmbeddedCluster, ProducerRecord, ProducerSettings, Publisher};
/// use forebay::source;
///
/// let cluster = EmbeddedCluster::start()?;
/// let publisher = Publisher::open(&ProducerSettings::new(cluster.connection()))?;
/// let written = source::iter(0..100)
///     .map(|n| ProducerRecord::to("numbers").value(n.to_string()))
///     .try_map_async(16, move |record| {
///         let publisher = publisher.clone();
///         async move { publisher.publish(&record).await }
///     })
///     .retry(Retry::tries(3))
///     .or_stop()
///     .collect()
///     .block_on()?;
/// assert_eq!(written.len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Publisher {
    writer: Arc<Writer>,
}

impl Publisher {
    /// A client of its own, with a thread that takes its reports.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be.
    pub fn open(settings: &ProducerSettings) -> Result<Publisher, Error> {
        let writer = Writer::start(settings)?;
        Ok(Publisher {
            writer: Arc::new(writer),
        })
    }

    /// Writes a record; ready when those who must have it have acknowledged it. Dropped before, it may have
    /// been written or not.
    ///
    /// # Errors
    /// Why it was not, or not for sure: the time it may take ran out, there is no such topic, or, at once, the
    /// client is not let in. A record that is published again after an error may be written twice.
    pub async fn publish(&self, record: &ProducerRecord) -> Result<(), Error> {
        let written = self.writer.write(std::slice::from_ref(record)).await;
        written.map_err(|error| match &error {
            Error::Client(cause) => match cause.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition,
                ) => Error::UnknownTopic {
                    topic: record.topic().to_owned(),
                },
                _ => error,
            },
            _ => error.concerning(|| record.topic().to_owned()),
        })
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}
