//! What travels with an element besides its value: where it came from, and its trace.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The original bytes of an element and where they stood: what makes a dead letter byte-exact.
///
/// It is cheap to clone, and equal to one with the same records.
#[derive(Clone)]
pub struct Origin(Repr);

#[derive(Clone)]
enum Repr {
    /// One record of a source.
    Record(Arc<Record>),
    /// An element merged from several, in their order.
    Many(Arc<[Origin]>),
    /// One record of those that were read together.
    Of(Arc<dyn Originals>, u32),
}

/// Records that a source read together, by their places: what they were is told only when someone asks.
pub trait Originals: Send + Sync + 'static {
    /// The record at that place, which is one that an [`Origin`] was made for.
    fn record(&self, place: u32) -> Record;

    /// The bytes of its payload.
    fn payload_len(&self, place: u32) -> usize;
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

impl From<Record> for Origin {
    fn from(record: Record) -> Origin {
        Origin(Repr::Record(Arc::new(record)))
    }
}

impl Origin {
    /// Of an element made of several, in their order.
    #[must_use]
    pub fn many(parts: Vec<Origin>) -> Origin {
        Origin(Repr::Many(parts.into()))
    }

    /// The record at that place of those that were read together: no allocation for each.
    #[must_use]
    pub fn of(batch: Arc<dyn Originals>, place: u32) -> Origin {
        Origin(Repr::Of(batch, place))
    }

    /// Bytes of payload in all.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Record(record) => record.payload.as_ref().map_or(0, Bytes::len),
            Repr::Many(parts) => parts.iter().map(Origin::len).sum(),
            Repr::Of(batch, place) => batch.payload_len(*place),
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records in order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        match &self.0 {
            Repr::Record(record) => vec![Record::clone(record)],
            Repr::Many(parts) => parts.iter().flat_map(Origin::records).collect(),
            Repr::Of(batch, place) => vec![batch.record(*place)],
        }
    }

    /// Whether it is the very same: not only equal.
    pub(super) fn is(&self, other: &Origin) -> bool {
        match (&self.0, &other.0) {
            (Repr::Record(mine), Repr::Record(theirs)) => Arc::ptr_eq(mine, theirs),
            (Repr::Many(mine), Repr::Many(theirs)) => Arc::ptr_eq(mine, theirs),
            (Repr::Of(mine, here), Repr::Of(theirs, there)) => {
                std::ptr::addr_eq(Arc::as_ptr(mine), Arc::as_ptr(theirs)) && here == there
            }
            _ => false,
        }
    }

    /// The batch and the place in it, of a record that has them.
    pub(super) fn into_place(self) -> Result<(Arc<dyn Originals>, u32), Origin> {
        match self.0 {
            Repr::Of(batch, place) => Ok((batch, place)),
            other => Err(Origin(other)),
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        self.is(other) || self.records() == other.records()
    }
}

impl Eq for Origin {}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.records()).finish()
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
