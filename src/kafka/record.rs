//! A record as it was read: one slice of a batch's bytes, and where its parts lie in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::chunk::{self, Origin};

/// Which partition: its topic and number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The number of the partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// That partition of that topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record's time means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamp {
    /// The broker gave none.
    Unknown,
    /// When the producer made it: milliseconds since 1970.
    Created(i64),
    /// When the broker took it: milliseconds since 1970.
    Appended(i64),
}

impl Timestamp {
    /// Milliseconds since 1970, whichever they mean.
    #[must_use]
    pub fn millis(self) -> Option<i64> {
        match self {
            Timestamp::Unknown => None,
            Timestamp::Created(at) | Timestamp::Appended(at) => Some(at),
        }
    }
}

/// A record of a topic.
///
/// Its bytes are a slice of a buffer shared by the records read together: a clone copies nothing, and
/// a record that is kept for long keeps the buffer of its batch. [`detached`](Record::detached) copies
/// it out.
#[derive(Clone)]
pub struct Record {
    /// Key, value, then the headers, as `Writer` puts them.
    bytes: Bytes,
    at: Arc<TopicPartition>,
    offset: i64,
    timestamp: Timestamp,
    /// Where the key ends; `NONE`: there is no key.
    key_len: u32,
    /// How long the value is; `NONE`: there is none, a tombstone.
    value_len: u32,
    headers: u32,
}

/// A length that is none.
const NONE: u32 = u32::MAX;

fn length(len: u32) -> usize {
    if len == NONE { 0 } else { len as usize }
}

impl Record {
    /// The key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        (self.key_len != NONE).then(|| &self.bytes[self.key_range()])
    }

    /// The key as a shared slice.
    #[must_use]
    pub fn key_bytes(&self) -> Option<Bytes> {
        (self.key_len != NONE).then(|| self.bytes.slice(self.key_range()))
    }

    /// The value; `None` is a tombstone: under compaction the key is to be forgotten.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        (self.value_len != NONE).then(|| &self.bytes[self.value_range()])
    }

    /// The value as a shared slice.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        (self.value_len != NONE).then(|| self.bytes.slice(self.value_range()))
    }

    /// The headers, in order: name and value. A name may come more than once. Names are UTF-8 by the
    /// protocol; what a producer wrote is given as it is.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = &self.bytes[self.value_range().end..];
        (0..self.headers).map_while(move |_| take_header(&mut rest))
    }

    /// The last header of that name, which is the one that counts by Kafka's own rule.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        for (own, value) in self.headers() {
            if own == name.as_bytes() {
                found = value;
            }
        }
        found
    }

    /// The topic it was read from.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.at.topic
    }

    /// The partition it was read from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.at.partition
    }

    /// Topic and partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.at
    }

    /// Its offset in that partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Its time, and what that means.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has neither key, nor value, nor headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The same with bytes of its own: for what is kept long after its batch.
    #[must_use]
    pub fn detached(&self) -> Record {
        Record {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..self.clone()
        }
    }

    /// What a dead letter keeps of it: all, exactly.
    pub(super) fn origin(&self) -> Origin {
        let slice = |part: &[u8]| self.bytes.slice_ref(part);
        let headers = self.headers();
        Origin::Record(chunk::Record {
            payload: self.value_bytes(),
            key: self.key_bytes(),
            headers: headers
                .map(|(name, value)| (slice(name), value.map(slice)))
                .collect(),
            place: Arc::clone(&self.at.topic),
            partition: Some(self.at.partition),
            offset: u64::try_from(self.offset).unwrap_or(0),
            timestamp_ms: self.timestamp.millis(),
            line: None,
        })
    }

    /// What it weighs in a bound of bytes: itself, and its share of its batch.
    pub(super) fn weight(&self) -> u64 {
        (size_of::<Record>() + self.bytes.len()) as u64
    }

    fn key_range(&self) -> Range<usize> {
        0..length(self.key_len)
    }

    fn value_range(&self) -> Range<usize> {
        let from = length(self.key_len);
        from..from + length(self.value_len)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("at", &format_args!("{}@{}", self.at, self.offset))
            .field("key_bytes", &self.key().map(<[u8]>::len))
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Takes the next header off the front; `None` where there is no whole one.
fn take_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let name_len = take_len(rest)?;
    let value_len = take_len(rest)?;
    let name = take(rest, length(name_len))?;
    let value = take(rest, length(value_len))?;
    Some((name, (value_len != NONE).then_some(value)))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (part, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    Some(part)
}

fn take_len(rest: &mut &[u8]) -> Option<u32> {
    let bytes = take(rest, 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The parts of a record that lie elsewhere.
pub(super) struct Parts<'a, H> {
    pub(super) offset: i64,
    pub(super) timestamp: Timestamp,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: H,
}

/// Writes the records of a batch into one buffer: an allocation a batch, none a record.
pub(super) struct Writer {
    at: Arc<TopicPartition>,
    buffer: BytesMut,
    /// Each with the end of its bytes: they are cut out once the buffer is whole.
    records: Vec<(Record, usize)>,
}

impl Writer {
    pub(super) fn new(at: Arc<TopicPartition>) -> Writer {
        Writer {
            at,
            buffer: BytesMut::new(),
            records: Vec::new(),
        }
    }

    pub(super) fn push<'a, H>(&mut self, parts: Parts<'a, H>)
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let buffer = &mut self.buffer;
        let mut put = |part: Option<&[u8]>| match part {
            Some(bytes) => {
                buffer.extend_from_slice(bytes);
                bytes.len() as u32
            }
            None => NONE,
        };
        let (key_len, value_len) = (put(parts.key), put(parts.value));
        let mut headers = 0;
        for (name, value) in parts.headers {
            self.buffer.put_slice(&(name.len() as u32).to_ne_bytes());
            let value_len = value.map_or(NONE, |value| value.len() as u32);
            self.buffer.put_slice(&value_len.to_ne_bytes());
            self.buffer.put_slice(name);
            self.buffer.put_slice(value.unwrap_or_default());
            headers += 1;
        }
        let record = Record {
            bytes: Bytes::new(),
            at: Arc::clone(&self.at),
            offset: parts.offset,
            timestamp: parts.timestamp,
            key_len,
            value_len,
            headers,
        };
        self.records.push((record, self.buffer.len()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records written since the last time, and their bytes in all.
    pub(super) fn finish(&mut self) -> (Vec<Record>, u64) {
        let capacity = self.buffer.len();
        let mut rest = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(capacity));
        let bytes = rest.len() as u64;
        let mut whole = rest.split().freeze();
        let mut from = 0;
        let count = self.records.len();
        let mut records = Vec::with_capacity(count);
        for (mut record, end) in self.records.drain(..) {
            record.bytes = whole.split_to(end - from);
            from = end;
            records.push(record);
        }
        (records, bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type NoHeaders<'a> = std::iter::Empty<(&'a [u8], Option<&'a [u8]>)>;

    fn parts<'a>(
        offset: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> Parts<'a, NoHeaders<'a>> {
        Parts {
            offset,
            timestamp: Timestamp::Created(5),
            key,
            value,
            headers: std::iter::empty(),
        }
    }

    #[test]
    fn records_of_a_batch_share_one_buffer_and_keep_their_parts() {
        let mut writer = Writer::new(Arc::new(TopicPartition::new("orders", 3)));
        writer.push(parts(7, Some(b"key"), Some(b"value")));
        writer.push(parts(9, None, Some(b"")));
        writer.push(parts(12, Some(b""), None));
        let (records, bytes) = writer.finish();
        assert!(writer.is_empty());
        assert_eq!(bytes, 8);
        let [whole, keyless, tombstone] = &records[..] else {
            panic!("{records:?}");
        };
        assert_eq!(
            (whole.topic(), whole.partition(), whole.offset()),
            ("orders", 3, 7)
        );
        assert_eq!(
            (whole.key(), whole.value()),
            (Some(&b"key"[..]), Some(&b"value"[..]))
        );
        assert_eq!((keyless.key(), keyless.value()), (None, Some(&b""[..])));
        assert_eq!((tombstone.key(), tombstone.value()), (Some(&b""[..]), None));
        assert_eq!(tombstone.key_bytes(), Some(Bytes::new()));
        assert_eq!(whole.value_bytes().unwrap(), "value");
        assert_eq!(whole.detached().value(), whole.value());
        assert_eq!(whole.timestamp().millis(), Some(5));
    }

    #[test]
    fn headers_come_in_order_and_the_last_of_a_name_counts() {
        let mut writer = Writer::new(Arc::new(TopicPartition::new("orders", 0)));
        let headers: [(&[u8], Option<&[u8]>); 4] = [
            (b"tries", Some(b"1")),
            (b"empty", Some(b"")),
            (b"null", None),
            (b"tries", Some(b"2")),
        ];
        writer.push(Parts {
            offset: 0,
            timestamp: Timestamp::Unknown,
            key: None,
            value: Some(b"v"),
            headers: headers.into_iter(),
        });
        let (records, _) = writer.finish();
        let all: Vec<_> = records[0].headers().collect();
        assert_eq!(
            all,
            [
                (&b"tries"[..], Some(&b"1"[..])),
                (b"empty", Some(b"")),
                (b"null", None),
                (b"tries", Some(b"2")),
            ]
        );
        assert_eq!(records[0].header("tries"), Some(&b"2"[..]));
        assert_eq!(records[0].header("absent"), None);
        assert_eq!(records[0].value(), Some(&b"v"[..]));
    }
}
