//! A dead letter as it is found in its topic, and what has become of it.

use std::fmt;

use bytes::Bytes;

use super::provenance::{Header, Provenance};
use crate::kafka::record::Record;

/// A dead letter as it is found in its topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// The time of the letter itself, in milliseconds since 1970: mostly when it was written.
    pub timestamp_ms: Option<i64>,
    /// The record's key, byte for byte.
    pub key: Option<Bytes>,
    /// The record's value, byte for byte; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The record's own headers, byte for byte and in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Where the record stood and why it is here. Empty for a record that does not say.
    pub provenance: Provenance,
    /// What has become of it.
    pub state: LetterState,
}

/// What has become of a dead letter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LetterState {
    /// Nothing yet.
    #[default]
    Pending,
    /// It was written to a topic again.
    Replayed {
        /// When, in milliseconds since 1970.
        at_ms: i64,
        /// To which topic.
        to: String,
    },
    /// It was given up. Its bytes are there as long as the topic keeps them.
    Discarded {
        /// When, in milliseconds since 1970.
        at_ms: i64,
    },
}

impl LetterState {
    /// `pending`, `replayed` or `discarded`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            LetterState::Pending => "pending",
            LetterState::Replayed { .. } => "replayed",
            LetterState::Discarded { .. } => "discarded",
        }
    }

    /// As a mark says it: the name, when, and where to.
    pub(super) fn to_mark(&self) -> Option<String> {
        match self {
            LetterState::Pending => None,
            LetterState::Replayed { at_ms, to } => Some(format!("replayed {at_ms} {to}")),
            LetterState::Discarded { at_ms } => Some(format!("discarded {at_ms}")),
        }
    }

    pub(super) fn of_mark(text: &str) -> Option<LetterState> {
        let mut words = text.split(' ');
        let (name, at_ms) = (words.next()?, words.next()?.parse().ok()?);
        match (name, words.next()) {
            ("replayed", Some(to)) => Some(LetterState::Replayed {
                at_ms,
                to: to.to_owned(),
            }),
            ("discarded", _) => Some(LetterState::Discarded { at_ms }),
            _ => None,
        }
    }
}

impl Letter {
    pub(super) fn of(record: &Record) -> Letter {
        let copy = Bytes::copy_from_slice;
        let headers: Vec<Header> = record
            .headers()
            .map(|(name, value)| (copy(name), value.map(copy)))
            .collect();
        let (own, provenance) = Provenance::split(&headers);
        Letter {
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp().millis(),
            key: record.key_bytes(),
            value: record.value_bytes(),
            headers: own.to_vec(),
            provenance: provenance.unwrap_or_default(),
            state: LetterState::Pending,
        }
    }

    /// When it was put aside, as its headers say, else the time of the letter.
    #[must_use]
    pub fn put_aside_ms(&self) -> Option<i64> {
        self.provenance.error_timestamp_ms.or(self.timestamp_ms)
    }

    /// Bytes of key, value and own headers.
    #[must_use]
    pub fn len(&self) -> usize {
        let some = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + some(value)).sum();
        some(&self.key) + some(&self.value) + headers
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where it stands in its topic: `partition@offset`.
impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_the_state() {
        for state in [
            LetterState::Replayed {
                at_ms: 17,
                to: "orders".to_owned(),
            },
            LetterState::Discarded { at_ms: -1 },
        ] {
            let mark = state.to_mark().unwrap_or_default();
            assert_eq!(LetterState::of_mark(&mark), Some(state));
        }
        assert_eq!(LetterState::Pending.to_mark(), None);
        for text in ["", "replayed", "replayed x orders", "replayed 1", "lost 1"] {
            assert_eq!(LetterState::of_mark(text), None, "{text}");
        }
    }
}
