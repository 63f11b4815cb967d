//! What travels with an element besides its value: where it came from, and its trace.

use std::sync::Arc;

use bytes::Bytes;

/// The original bytes of an element and where they stood: what makes a dead letter byte-exact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// One record of a source.
    Record(Record),
    /// An element merged from several, in their order.
    Many(Vec<Arc<Origin>>),
}

/// A record as its source read it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The exact bytes. `None` says that there are none, which is not the same as no bytes: a
    /// tombstone of a topic.
    pub payload: Option<Bytes>,
    /// The key, where the source has keys.
    pub key: Option<Bytes>,
    /// Headers in order, names and values as they were.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// The file, topic, or queue.
    pub place: Arc<str>,
    /// The partition, where the place has partitions.
    pub partition: Option<i32>,
    /// Where in that place: a byte offset or a message offset.
    pub offset: u64,
    /// Its time, where the source has times: milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The line number, from 1, where the source has lines.
    pub line: Option<u64>,
}

impl Origin {
    /// Bytes of payload in all.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Origin::Record(record) => record.payload.as_ref().map_or(0, Bytes::len),
            Origin::Many(parts) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records in order.
    #[must_use]
    pub fn records(&self) -> Vec<&Record> {
        match self {
            Origin::Record(record) => vec![record],
            Origin::Many(parts) => parts.iter().flat_map(|part| part.records()).collect(),
        }
    }
}

/// The trace an element belongs to, as the W3C trace context has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The span that handed the element over.
    pub span_id: u64,
    /// The traces of the other elements merged into this one.
    pub links: Vec<(u128, u64)>,
}
