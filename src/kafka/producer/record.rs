//! A record to be written.

use std::sync::Arc;

use bytes::Bytes;

use crate::kafka::dead_letters::{Header, Provenance};
use crate::kafka::ffi::Outgoing;
use crate::kafka::record::Record;

/// A record to be written.
///
/// # Example
/// ```
/// use forebay::kafka::ProducerRecord;
///
/// let record = ProducerRecord::to("orders").key("o-1").value("paid").header("event-type", "ORDER_PAID");
/// assert_eq!(record.len(), 3 + 4 + 10 + 10);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerRecord {
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<i32>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(super) timestamp: Option<i64>,
}

impl ProducerRecord {
    /// A record for that topic without key, value or headers: with a key, a tombstone.
    pub fn to(topic: impl Into<Arc<str>>) -> ProducerRecord {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The same bytes as a record that was read: key, value, headers and time, and none of its place. Out
    /// of a [retry topic](crate::kafka::RetryTopics) it is the record as it was before it was put aside.
    pub fn copy_of(record: &Record, topic: impl Into<Arc<str>>) -> ProducerRecord {
        let copy = Bytes::copy_from_slice;
        let headers: Vec<Header> = record
            .headers()
            .map(|(name, value)| (copy(name), value.map(copy)))
            .collect();
        let (own, timestamp) = match Provenance::split(&headers) {
            (own, Some(told)) if told.is_retry_in(record.topic()) => (own.len(), told.timestamp_ms),
            _ => (headers.len(), record.timestamp().millis()),
        };
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            key: record.key_bytes(),
            value: record.value_bytes(),
            headers: headers.into_iter().take(own).collect(),
            timestamp,
        }
    }

    pub(in crate::kafka) fn exactly(
        topic: Arc<str>,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Vec<(Bytes, Option<Bytes>)>,
    ) -> ProducerRecord {
        ProducerRecord {
            key,
            value,
            headers,
            ..ProducerRecord::to(topic)
        }
    }

    /// Records of one key go to one partition, in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> ProducerRecord {
        self.key = Some(key.into());
        self
    }

    /// What it says.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> ProducerRecord {
        self.value = Some(value.into());
        self
    }

    /// Adds a header. A name may come more than once; the last counts.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> ProducerRecord {
        let name = Bytes::from(name.into());
        self.headers.push((name, Some(value.into())));
        self
    }

    /// Adds a header as it is: its name any bytes but a zero byte, where readers end it; its value any bytes
    /// or none.
    #[must_use]
    pub fn header_bytes(
        mut self,
        name: impl Into<Bytes>,
        value: Option<impl Into<Bytes>>,
    ) -> ProducerRecord {
        self.headers.push((name.into(), value.map(Into::into)));
        self
    }

    /// Leaves out all headers of that name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> ProducerRecord {
        self.headers.retain(|(own, _)| own != name.as_bytes());
        self
    }

    /// To that partition, whatever its key.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> ProducerRecord {
        self.partition = Some(partition);
        self
    }

    /// When it was made: milliseconds since 1970. Default: when it is sent.
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> ProducerRecord {
        self.timestamp = Some(millis);
        self
    }

    /// As the client takes it.
    pub(in crate::kafka) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
            timestamp: self.timestamp,
        }
    }

    /// The topic it goes to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn len(&self) -> usize {
        let some = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + some(value)).sum();
        some(&self.key) + some(&self.value) + headers
    }

    /// Whether it has neither key, nor value, nor headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
