//! How letters go back, and what was done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::letter::Letter;
use crate::kafka::producer::ProducerRecord;

/// How letters are replayed. By default each goes to the partition of the topic it came from, as it was:
/// key, value, own headers and time, without the headers that say why it was put aside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replay {
    pub(super) to: Option<Arc<str>>,
    keeps_provenance: bool,
    stamps: bool,
    pub(super) by_key: bool,
    pub(super) dry: bool,
}

impl Replay {
    /// Each as it was to where it was.
    #[must_use]
    pub fn new() -> Replay {
        Replay::default()
    }

    /// All to that topic, partitioned by their keys.
    #[must_use]
    pub fn to(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.to = Some(topic.into());
        self
    }

    /// Leaves the headers that say why it was put aside. By default they are left out, and the record's own
    /// are kept.
    #[must_use]
    pub fn keep_provenance(mut self) -> Self {
        self.keeps_provenance = true;
        self
    }

    /// Gives it the time of the replay. By default it keeps its own; where a topic forgets what is older
    /// than so long, an old one may then be forgotten before it is read.
    #[must_use]
    pub fn stamp_now(mut self) -> Self {
        self.stamps = true;
        self
    }

    /// Partitions by key, as for a new record. By default it goes to the partition it came from, where its
    /// topic still has that.
    #[must_use]
    pub fn by_key(mut self) -> Self {
        self.by_key = true;
        self
    }

    /// Counts what would be done, and does nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry = true;
        self
    }
}

/// What a replay or a discard did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// Letters that were replayed or discarded.
    pub letters: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// How many went to which topic; empty for a discard.
    pub topics: BTreeMap<String, u64>,
    /// Letters that the filter named but that say of no topic they came from: left alone. Name one with
    /// [`Replay::to`].
    pub homeless: u64,
}

/// The record a letter was made of.
pub(super) fn copy(
    letter: &Letter,
    replay: &Replay,
    to: Arc<str>,
    partition: Option<i32>,
) -> ProducerRecord {
    let mut headers = letter.headers.clone();
    if replay.keeps_provenance {
        letter.provenance.write(&mut headers);
    }
    let mut record = ProducerRecord::exactly(to, letter.key.clone(), letter.value.clone(), headers);
    if let Some(partition) = partition {
        record = record.partition(partition);
    }
    // The client takes a 0 for the time it is now, and nothing below.
    match letter.provenance.timestamp_ms {
        Some(at) if at > 0 && !replay.stamps => record.timestamp(at),
        _ => record,
    }
}
