//! What a transactional sink is to do.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::kafka::error::Error;
use crate::kafka::producer::ProducerSettings;
use crate::kafka::properties::Properties;
use crate::kafka::throttle::Throttle;

/// The most records that a sink may hold.
const MOST_HELD: usize = 5_000_000;
/// After how long a connection that is not used is closed. When the coordinator of a group is gone from the
/// cluster, librdkafka 2.12 waits for it without end and looks for another only when the state of any
/// connection changes (its issues 5456 and 5511): so one has to, now and then.
const IDLE: &str = "connections.max.idle.ms";
const IDLE_MS: u32 = 10_000;

/// What a transactional sink is to do.
///
/// The transactional id names this instance of the pipeline: whoever starts with it fences whoever had
/// it before, so it must stay the same when the instance is started again, and no two that run may share
/// it: the name of the pipeline and the number of the instance, such as `prices-0` to `prices-2` for three
/// processes. It needs no partition in it, for positions are guarded by the generation of the group. The two
/// producers that take turns have it with `-a` and `-b` behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionSettings {
    producer: ProducerSettings,
    id: String,
    timeout: Duration,
    pub(super) held: usize,
}

impl TransactionSettings {
    /// Transactions of that id, written as those settings say.
    pub fn new(producer: ProducerSettings, transactional_id: impl Into<String>) -> Self {
        TransactionSettings {
            producer,
            id: transactional_id.into(),
            timeout: Duration::from_secs(60),
            held: 100_000,
        }
    }

    /// After how long the broker aborts a transaction that nobody ends, and fences its producer: 1 ms to 15 min (the brokers' own
    /// bound, `transaction.max.timeout.ms`), by default 60 s. Until then readers of what is committed wait
    /// behind it, and whoever else gets its partitions waits for its positions to be decided. A process
    /// that stands still for longer finds itself [fenced](Error::Fenced) when it goes on.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = after;
        self
    }

    /// How many records a window and the one before it may hold, 1 to 5,000,000, by default 100,000.
    #[must_use]
    pub fn held(mut self, records: usize) -> Self {
        self.held = records.max(1);
        self
    }

    /// What the clients will be told; the id without what tells them apart.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of the setting that cannot be.
    pub fn properties(&self) -> Result<Properties, Error> {
        let mut all = self.producer.properties()?;
        all.put("transactional.id", &self.id);
        all.put("transaction.timeout.ms", self.timeout.as_millis());
        // What a window and the one before it hold is below what a client holds.
        let items = self.producer.items.max(self.held);
        all.put("queue.buffering.max.messages", items.saturating_mul(2));
        // A record that is given up aborts its transaction: no later than that ends.
        let tried = self.producer.delivery_timeout.min(self.timeout);
        all.put("delivery.timeout.ms", tried.as_millis());
        if all.get(IDLE).is_none() {
            all.put(IDLE, IDLE_MS);
        }
        Ok(all)
    }

    pub(super) fn throttle(&self) -> Throttle {
        Throttle::new(self.producer.pressure.as_ref())
    }

    pub(super) fn checked(&self, lane: &str) -> Result<ClientConfig, Error> {
        if self.id.is_empty() {
            return Err(Error::Invalid {
                field: "transactional.id".to_owned(),
                value: "empty".to_owned(),
                why: "name this instance of the pipeline".to_owned(),
            });
        }
        if self.held > MOST_HELD {
            return Err(Error::Invalid {
                field: "held".to_owned(),
                value: self.held.to_string(),
                why: "at most 5,000,000 records".to_owned(),
            });
        }
        self.producer.checked()?;
        let mut all = self.properties()?;
        all.put("transactional.id", format!("{}-{lane}", self.id));
        all.checked()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kafka::Connection;

    #[test]
    fn connections_that_are_not_used_are_closed_unless_declared_otherwise() {
        let producer = ProducerSettings::new(Connection::to("localhost:9092"));
        let told = |producer| {
            let settings = TransactionSettings::new(producer, "one");
            settings.properties().unwrap().get(IDLE).unwrap().to_owned()
        };
        assert_eq!(told(producer.clone()), "10000");
        // The clients hold more than the sink does.
        let settings = TransactionSettings::new(producer.clone(), "one").held(150_000);
        let properties = settings.properties().unwrap();
        assert_eq!(
            properties.get("queue.buffering.max.messages"),
            Some("300000")
        );
        let error = settings.held(5_000_001).checked("a").unwrap_err();
        assert!(error.to_string().contains("held"), "{error}");
        assert_eq!(told(producer.set(IDLE, 0)), "0");
    }
}
