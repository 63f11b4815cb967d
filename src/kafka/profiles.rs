//! Settings with the values of documents that many follow, each to be seen and changed.

use std::time::Duration;

use super::connection::Connection;
use super::consumer::{ConsumerSettings, Isolation};
use super::producer::{Acks, Compression, ProducerSettings};

impl ProducerSettings {
    /// A producer that loses nothing (row B1): acknowledged by all replicas in sync, no doubles, at most
    /// 5 requests in flight, snappy, batches of 32 KB that wait at most 20 ms, 30 s for a request, 120 s
    /// for a record; what fails goes to `<topic>.dlq`.
    pub fn reliable(connection: Connection) -> ProducerSettings {
        ProducerSettings::new(connection)
            .acknowledged_by(Acks::All)
            .compression(Compression::Snappy)
            .linger(Duration::from_millis(20))
            .batch(32 * 1024)
            .delivery_timeout(Duration::from_secs(120))
            .dead_letters(".dlq")
            .set("max.in.flight.requests.per.connection", 5)
            .set("request.timeout.ms", 30_000)
    }

    /// A producer for much (row B4): batches of 64 KB that wait at most 100 ms, snappy, no doubles, and
    /// at most 128 MB on their way.
    pub fn high_throughput(connection: Connection) -> ProducerSettings {
        ProducerSettings::new(connection)
            .acknowledged_by(Acks::All)
            .compression(Compression::Snappy)
            .linger(Duration::from_millis(100))
            .batch(64 * 1024)
            .in_flight(1_000_000, 128 << 20)
    }
}

impl ConsumerSettings {
    /// A consumer whose records are counted once (row B2): it reads what was committed alone, commits
    /// nothing by itself, is given up after 30 s of silence or 300 s without a poll, and hands over at
    /// most 100 records at a time.
    pub fn exactly_once(connection: Connection, group: impl Into<String>) -> ConsumerSettings {
        ConsumerSettings::new(connection, group)
            .isolation(Isolation::ReadCommitted)
            .hand_over(100)
            .set("max.poll.interval.ms", 300_000)
            .set("session.timeout.ms", 30_000)
    }

    /// A consumer for much (row B4): fetches of 50 KB and more, which the broker waits for at most
    /// 500 ms, 1 MB of a partition at a time, a heartbeat each 10 s, 1000 records at a time.
    pub fn high_throughput(connection: Connection, group: impl Into<String>) -> ConsumerSettings {
        ConsumerSettings::new(connection, group)
            .hand_over(1000)
            .set("fetch.min.bytes", 50 * 1024)
            .set("fetch.wait.max.ms", 500)
            .set("max.partition.fetch.bytes", 1 << 20)
            .set("heartbeat.interval.ms", 10_000)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at() -> Connection {
        Connection::to("localhost:9092")
    }

    #[test]
    fn row_b2_the_exactly_once_consumer_by_value() {
        let settings = ConsumerSettings::exactly_once(at(), "billing").topics(["orders"]);
        let effective = settings.effective().unwrap();
        for (name, value) in [
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("max.poll.interval.ms", "300000"),
            ("session.timeout.ms", "30000"),
        ] {
            assert_eq!(effective.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn what_a_profile_sets_can_be_set_otherwise() {
        let settings = ProducerSettings::reliable(at())
            .set("request.timeout.ms", 10_000)
            .linger(Duration::ZERO);
        let properties = settings.properties().unwrap();
        assert_eq!(properties.get("request.timeout.ms"), Some("10000"));
        assert_eq!(properties.get("linger.ms"), Some("0"));
    }
}
