//! A dead letter as it is found in its topic, and what has become of it.

use std::fmt;

use bytes::Bytes;

use super::provenance::{Header, Provenance};
use crate::dead_letter::exact;
use crate::json::quote;
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

    /// All of it as one JSON object, in one line: `letter` (`partition@offset`), `state` with `state_at_ms`
    /// and `replayed_to` where it has one, `put_aside_ms`, the fields of its [`Provenance`] by the names of
    /// their headers with `_` for `-`, and `key`, `value` and `headers` (each with `name` and `value`). Bytes
    /// that are no UTF-8 are in base64, with `_base64` behind their name; what is not there is left out.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut fields = vec![
            format!("\"letter\":\"{self}\""),
            format!("\"state\":\"{}\"", self.state.name()),
        ];
        let mut number = |name: &str, number: Option<i64>| {
            fields.extend(number.map(|number| format!("\"{name}\":{number}")));
        };
        let told = &self.provenance;
        match &self.state {
            LetterState::Pending => {}
            LetterState::Replayed { at_ms, .. } | LetterState::Discarded { at_ms } => {
                number("state_at_ms", Some(*at_ms));
            }
        }
        number("put_aside_ms", self.put_aside_ms());
        number("original_partition", told.partition.map(i64::from));
        number("original_offset", told.offset);
        number("original_timestamp", told.timestamp_ms);
        number("error_timestamp", told.error_timestamp_ms);
        number("tries", told.tries.map(i64::from));
        number("retry_count", told.retry_count.map(i64::from));
        let mut text = |name: &str, text: Option<&str>| {
            fields.extend(text.map(|text| format!("\"{name}\":{}", quote(text))));
        };
        if let LetterState::Replayed { to, .. } = &self.state {
            text("replayed_to", Some(to));
        }
        text("original_topic", told.topic.as_deref());
        text("error_class", told.error_class.as_deref());
        text("error_message", told.error_message.as_deref());
        text("error_reason", told.error_reason.as_deref());
        text("stage", told.stage.as_deref());
        fields.extend(self.key.as_deref().map(|bytes| exact("key", bytes)));
        fields.extend(self.value.as_deref().map(|bytes| exact("value", bytes)));
        let headers = self.headers.iter().map(|(name, value)| {
            let mut fields = vec![exact("name", name)];
            fields.extend(value.as_deref().map(|bytes| exact("value", bytes)));
            format!("{{{}}}", fields.join(","))
        });
        let headers: Vec<String> = headers.collect();
        fields.push(format!("\"headers\":[{}]", headers.join(",")));
        format!("{{{}}}", fields.join(","))
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
    fn a_letter_as_json_has_its_exact_bytes() {
        let letter = Letter {
            partition: 2,
            offset: 9,
            timestamp_ms: Some(7),
            key: Some(Bytes::from_static(b"\xff")),
            value: None,
            headers: vec![(Bytes::from_static(b"a\"b"), Some(Bytes::new()))],
            provenance: Provenance {
                topic: Some("orders".to_owned()),
                offset: Some(5),
                tries: Some(4),
                error_message: Some("line\nbreak".to_owned()),
                ..Provenance::default()
            },
            state: LetterState::Replayed {
                at_ms: 8,
                to: "orders".to_owned(),
            },
        };
        assert_eq!(
            letter.to_json(),
            r#"{"letter":"2@9","state":"replayed","state_at_ms":8,"put_aside_ms":7,"original_offset":5,"tries":4,"replayed_to":"orders","original_topic":"orders","error_message":"line\nbreak","key_base64":"/w==","headers":[{"name":"a\"b","value":""}]}"#
        );
    }

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
