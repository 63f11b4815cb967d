//! A record as it was read: one slice of a batch's bytes, and where its parts lie in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::chunk::{self, Originals};

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
    batch: Arc<Batch>,
    place: u32,
}

/// Records of a partition that were read together.
pub(super) struct Batch {
    at: Arc<TopicPartition>,
    bytes: Bytes,
    entries: Vec<Entry>,
}

/// Where a record lies in the bytes of its batch: key, value, then the headers, as `Writer` puts them.
#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
    offset: i64,
    timestamp: Timestamp,
    /// How long the key is; `NONE`: there is no key.
    key_len: u32,
    /// How long the value is; `NONE`: there is none, a tombstone.
    value_len: u32,
    headers: u32,
}

impl Entry {
    fn key(&self) -> Option<Range<usize>> {
        (self.key_len != NONE).then(|| self.start..self.start + length(self.key_len))
    }

    fn value(&self) -> Option<Range<usize>> {
        let from = self.start + length(self.key_len);
        (self.value_len != NONE).then(|| from..from + length(self.value_len))
    }

    fn headers_from(&self) -> usize {
        self.start + length(self.key_len) + length(self.value_len)
    }
}

impl Originals for Batch {
    fn record(&self, place: u32) -> chunk::Record {
        let entry = &self.entries[place as usize];
        let slice = |range: Range<usize>| self.bytes.slice(range);
        let part = |part: &[u8]| self.bytes.slice_ref(part);
        let headers = self.headers(entry);
        chunk::Record {
            payload: entry.value().map(slice),
            key: entry.key().map(slice),
            headers: headers
                .map(|(name, value)| (part(name), value.map(part)))
                .collect(),
            place: Arc::clone(&self.at.topic),
            partition: Some(self.at.partition),
            offset: u64::try_from(entry.offset).unwrap_or(0),
            timestamp_ms: entry.timestamp.millis(),
            line: None,
        }
    }

    fn payload_len(&self, place: u32) -> usize {
        length(self.entries[place as usize].value_len)
    }
}

impl Batch {
    fn headers(&self, entry: &Entry) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + use<'_> {
        let mut rest = &self.bytes[entry.headers_from()..entry.end];
        (0..entry.headers).map_while(move |_| take_header(&mut rest))
    }
}

/// A length that is none.
const NONE: u32 = u32::MAX;

fn length(len: u32) -> usize {
    if len == NONE { 0 } else { len as usize }
}

impl Record {
    fn entry(&self) -> &Entry {
        &self.batch.entries[self.place as usize]
    }

    /// The key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.entry().key().map(|range| &self.batch.bytes[range])
    }

    /// The key as a shared slice.
    #[must_use]
    pub fn key_bytes(&self) -> Option<Bytes> {
        let range = self.entry().key()?;
        Some(self.batch.bytes.slice(range))
    }

    /// The value; `None` is a tombstone: under compaction the key is to be forgotten.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.entry().value().map(|range| &self.batch.bytes[range])
    }

    /// The value as a shared slice.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        let range = self.entry().value()?;
        Some(self.batch.bytes.slice(range))
    }

    /// The headers, in order: name and value. A name may come more than once. Names are UTF-8 by the
    /// protocol; what a producer wrote is given as it is.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.batch.headers(self.entry())
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
        &self.batch.at.topic
    }

    /// The partition it was read from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.batch.at.partition
    }

    /// Topic and partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.batch.at
    }

    /// Its offset in that partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.entry().offset
    }

    /// Its time, and what that means.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.entry().timestamp
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entry().end - self.entry().start
    }

    /// Whether it has neither key, nor value, nor headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with bytes of its own: for what is kept long after its batch.
    #[must_use]
    pub fn detached(&self) -> Record {
        let entry = self.entry();
        let batch = Batch {
            at: Arc::clone(&self.batch.at),
            bytes: Bytes::copy_from_slice(&self.batch.bytes[entry.start..entry.end]),
            entries: vec![Entry {
                start: 0,
                end: entry.end - entry.start,
                ..*entry
            }],
        };
        Record {
            batch: Arc::new(batch),
            place: 0,
        }
    }

    /// Its batch, and its place in it: what a dead letter keeps.
    pub(super) fn origin(&self) -> (&Arc<Batch>, u32) {
        (&self.batch, self.place)
    }

    /// What it weighs in a bound of bytes: itself, and its share of its batch.
    pub(super) fn weight(&self) -> u64 {
        (size_of::<Record>() + size_of::<Entry>() + self.len()) as u64
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("at", &format_args!("{}@{}", self.batch.at, self.offset()))
            .field("key_bytes", &self.key().map(<[u8]>::len))
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .field("headers", &self.entry().headers)
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

/// Writes the records of a batch into one buffer: a few allocations a batch, none a record.
pub(super) struct Writer {
    at: Arc<TopicPartition>,
    buffer: Vec<u8>,
    entries: Vec<Entry>,
}

impl Writer {
    pub(super) fn new(at: Arc<TopicPartition>) -> Writer {
        Writer {
            at,
            buffer: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub(super) fn push<'a, H>(&mut self, parts: Parts<'a, H>)
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let buffer = &mut self.buffer;
        let start = buffer.len();
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
        self.entries.push(Entry {
            start,
            end: self.buffer.len(),
            offset: parts.offset,
            timestamp: parts.timestamp,
            key_len,
            value_len,
            headers,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The records written since the last time, and their bytes in all.
    pub(super) fn finish(&mut self) -> (Vec<Record>, u64) {
        // The next batch is probably as large.
        let (bytes, count) = (self.buffer.len(), self.entries.len());
        let batch = Arc::new(Batch {
            at: Arc::clone(&self.at),
            bytes: std::mem::replace(&mut self.buffer, Vec::with_capacity(bytes)).into(),
            entries: std::mem::replace(&mut self.entries, Vec::with_capacity(count)),
        });
        let record = |place| Record {
            batch: Arc::clone(&batch),
            place,
        };
        ((0..count as u32).map(record).collect(), bytes as u64)
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
