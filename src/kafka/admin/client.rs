//! The clients behind an [`Admin`](super::Admin).

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::PATIENCE;
use crate::kafka::error::Error;
use crate::sync::{Mutex, lock};

/// How long one question may take, before it looks whether the client is let in at all.
const QUESTION: Duration = Duration::from_secs(1);

/// Keeps what a client says of itself: that it is not let in, above all.
#[derive(Default)]
pub(super) struct Listener {
    failed: Mutex<Option<Error>>,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(error) = Error::asynchronous(&error, reason) {
            lock(&self.failed).get_or_insert(error);
        }
    }
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

pub(super) struct Client {
    pub(super) admin: AdminClient<Listener>,
    /// Asks for metadata. The other one does not pass on why the brokers do not let it in.
    asks: BaseProducer<Listener>,
}

impl Client {
    pub(super) fn create(config: &ClientConfig) -> Result<Client, Error> {
        Ok(Client {
            admin: config.create_with_context(Listener::default())?,
            asks: config.create_with_context(Listener::default())?,
        })
    }

    /// What the brokers know of all topics. Blocks.
    pub(super) fn metadata(&self) -> Result<Metadata, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            let asked = self.asks.client().fetch_metadata(None, QUESTION);
            let error = match asked {
                Ok(all) => return Ok(all),
                Err(error) => error,
            };
            self.asks.poll(Duration::ZERO);
            if let Some(known) = lock(&self.asks.context().failed).take() {
                return Err(known);
            }
            if Instant::now() >= until {
                return Err(error.into());
            }
        }
    }
}
