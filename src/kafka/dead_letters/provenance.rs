//! What stands in the headers behind a record's own: where it stood first, and why it is here.

use bytes::Bytes;

use crate::chunk;
use crate::kafka::record::Record;

/// A header: its name, and its value or none.
pub(in crate::kafka) type Header = (Bytes, Option<Bytes>);

/// An error's message is cut here: a record that is just allowed must be, with these headers, not much
/// larger than allowed.
const MESSAGE_BYTES: usize = 4096;

/// Where a record stood before it was put aside, and why it was: what the headers of a dead letter or of
/// a record in a retry topic say behind the record's own. A field that its writer did not know is `None`.
///
/// In the topic they are one block at the end of the headers, which begins with the last
/// `original-topic`. So a record that had headers of these names itself keeps them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Provenance {
    /// `original-topic`: the topic it was read from first, or was to be written to.
    pub topic: Option<String>,
    /// `original-partition`.
    pub partition: Option<i32>,
    /// `original-offset`.
    pub offset: Option<i64>,
    /// `original-timestamp`: the record's own time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// `error-class`: the type of the error, or the code of one of Kafka's own.
    pub error_class: Option<String>,
    /// `error-message`: the error in words, its first 4096 bytes.
    pub error_message: Option<String>,
    /// `error-reason`: `error`, `timed_out`, `retries_exhausted`, or what else ended it.
    pub error_reason: Option<String>,
    /// `error-timestamp`: when it was put aside, in milliseconds since 1970.
    pub error_timestamp_ms: Option<i64>,
    /// `tries`: how often it was tried in all.
    pub tries: Option<u32>,
    /// `stage`: the stage that gave it up.
    pub stage: Option<String>,
    /// `retry-count`: how often it was put into a retry topic.
    pub retry_count: Option<u32>,
    /// `retry-topic`: the retry topic it is in. A copy of it elsewhere is not taken for one that is to be
    /// tried again.
    pub retry_topic: Option<String>,
    /// `retry-due`: when it is to be tried again, in milliseconds since 1970.
    pub retry_due_ms: Option<i64>,
}

const TOPIC: &str = "original-topic";

/// The names, as they stand in a block.
const NAMES: &[&str] = &[
    TOPIC,
    "original-partition",
    "original-offset",
    "original-timestamp",
    "error-class",
    "error-message",
    "error-reason",
    "error-timestamp",
    "tries",
    "stage",
    "retry-count",
    RETRY_TOPIC,
    DUE,
];

/// Which retry topic a record is in.
const RETRY_TOPIC: &str = "retry-topic";

/// When a record of a retry topic is due.
const DUE: &str = "retry-due";

/// When a record is due that is in a retry topic: milliseconds since 1970.
pub(in crate::kafka) fn due_ms(record: &Record) -> Option<i64> {
    let due = record.header(DUE)?;
    if record.header(RETRY_TOPIC)? != record.topic().as_bytes() {
        return None;
    }
    std::str::from_utf8(due).ok()?.parse().ok()
}

impl Provenance {
    /// That of a record as its source read it, and the headers that are its own. A record out of a retry
    /// topic stood elsewhere first.
    pub(in crate::kafka) fn of(record: &chunk::Record) -> (&[Header], Provenance) {
        let (own, written) = Provenance::split(&record.headers);
        match written {
            Some(written) if written.is_retry_in(&record.place) => (own, written),
            _ => {
                let is_record = record.partition.is_some();
                let read = Provenance {
                    topic: is_record.then(|| record.place.to_string()),
                    partition: record.partition,
                    offset: is_record.then(|| i64::try_from(record.offset).unwrap_or(i64::MAX)),
                    timestamp_ms: record.timestamp_ms,
                    ..Provenance::default()
                };
                (&record.headers, read)
            }
        }
    }

    /// Whether it is that of a record in that retry topic.
    pub(in crate::kafka) fn is_retry_in(&self, topic: &str) -> bool {
        self.retry_count.is_some() && self.retry_topic.as_deref() == Some(topic)
    }

    /// A record's own headers, and what the block behind them says, if there is one.
    pub(in crate::kafka) fn split(headers: &[Header]) -> (&[Header], Option<Provenance>) {
        let begins = headers.iter().rposition(|(name, _)| name == TOPIC);
        let Some((own, block)) = begins.and_then(|at| headers.split_at_checked(at)) else {
            return (headers, None);
        };
        let known = |name: &Bytes| NAMES.iter().any(|known| name == known);
        if block.len() < 2 || !block.iter().all(|(name, _)| known(name)) {
            return (headers, None);
        }
        let mut found = Provenance::default();
        for (name, value) in block {
            found.take(name, value.as_deref());
        }
        (own, Some(found))
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let text = value.map(|value| String::from_utf8_lossy(value).into_owned());
        let number = text.as_deref().and_then(|text| text.parse::<i64>().ok());
        let small = number.and_then(|number| u32::try_from(number).ok());
        match name {
            b"original-topic" => self.topic = text,
            b"original-partition" => {
                self.partition = number.and_then(|number| i32::try_from(number).ok());
            }
            b"original-offset" => self.offset = number,
            b"original-timestamp" => self.timestamp_ms = number,
            b"error-class" => self.error_class = text,
            b"error-message" => self.error_message = text,
            b"error-reason" => self.error_reason = text,
            b"error-timestamp" => self.error_timestamp_ms = number,
            b"tries" => self.tries = small,
            b"stage" => self.stage = text,
            b"retry-count" => self.retry_count = small,
            b"retry-topic" => self.retry_topic = text,
            b"retry-due" => self.retry_due_ms = number,
            _ => {}
        }
    }

    /// Writes the block behind a record's own headers.
    pub(in crate::kafka) fn write(&self, headers: &mut Vec<Header>) {
        let name = |name: &'static str| Bytes::from_static(name.as_bytes());
        let text = |text: &Option<String>| text.clone().map(Bytes::from);
        let number = |number: Option<i64>| number.map(|number| Bytes::from(number.to_string()));
        // There in any case: the block is known by it.
        headers.push((name(TOPIC), text(&self.topic)));
        let message = self.error_message.as_deref().map(shortened);
        let rest = [
            number(self.partition.map(i64::from)),
            number(self.offset),
            number(self.timestamp_ms),
            text(&self.error_class),
            message.map(|message| Bytes::copy_from_slice(message.as_bytes())),
            text(&self.error_reason),
            number(self.error_timestamp_ms),
            number(self.tries.map(i64::from)),
            text(&self.stage),
            number(self.retry_count.map(i64::from)),
            text(&self.retry_topic),
            number(self.retry_due_ms),
        ];
        for (known, value) in NAMES.iter().skip(1).zip(rest) {
            if value.is_some() {
                headers.push((name(known), value));
            }
        }
    }
}

/// The beginning of a text, whole characters.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_BYTES)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(name: &'static str, value: Option<&'static str>) -> Header {
        (Bytes::from_static(name.as_bytes()), value.map(Bytes::from))
    }

    fn whole() -> Provenance {
        Provenance {
            topic: Some("orders".to_owned()),
            partition: Some(3),
            offset: Some(77),
            timestamp_ms: Some(1000),
            error_class: Some("shop::NoStock".to_owned()),
            error_message: Some("none left".to_owned()),
            error_reason: Some("error".to_owned()),
            error_timestamp_ms: Some(2000),
            tries: Some(4),
            stage: Some("reserve".to_owned()),
            retry_count: Some(1),
            retry_topic: Some("orders.retry".to_owned()),
            retry_due_ms: Some(3000),
        }
    }

    #[test]
    fn a_block_is_read_as_it_was_written_and_what_stood_before_it_is_left_alone() {
        let own = vec![
            header("trace", Some("1")),
            header("stage", None),
            header("original-topic", Some("the record's own")),
        ];
        for written in [
            whole(),
            Provenance {
                error_class: Some("E".to_owned()),
                ..Provenance::default()
            },
        ] {
            let mut headers = own.clone();
            written.write(&mut headers);
            let (found, read) = Provenance::split(&headers);
            assert_eq!(found, own);
            assert_eq!(read.unwrap(), written);
        }
    }

    #[test]
    fn headers_without_a_block_are_all_the_records_own() {
        let own = [
            header("original-topic", Some("orders")),
            header("traceparent", Some("00")),
        ];
        assert_eq!(Provenance::split(&own), (&own[..], None));
        assert_eq!(Provenance::split(&own[..1]), (&own[..1], None));
        assert_eq!(Provenance::split(&[]), (&[][..], None));
    }

    #[test]
    fn a_letter_of_a_letter_keeps_the_block_of_the_first() {
        let mut headers = vec![header("own", None)];
        whole().write(&mut headers);
        let first = headers.clone();
        let second = Provenance {
            topic: Some("orders.DLQ".to_owned()),
            ..whole()
        };
        second.write(&mut headers);
        let (own, read) = Provenance::split(&headers);
        assert_eq!((own, read), (&first[..], Some(second)));
    }

    #[test]
    fn a_record_is_one_to_be_tried_again_in_its_retry_topic_alone() {
        let mut headers = vec![header("own", None)];
        whole().write(&mut headers);
        let mut record = chunk::Record {
            headers,
            place: "orders.retry".into(),
            partition: Some(0),
            offset: 9,
            ..chunk::Record::default()
        };
        let (own, told) = Provenance::of(&record);
        assert_eq!((own.len(), told), (1, whole()));
        // A copy of it, in a topic somebody else reads.
        record.place = "copies".into();
        let (own, told) = Provenance::of(&record);
        assert_eq!(own, record.headers);
        assert_eq!(
            (told.topic.as_deref(), told.offset),
            (Some("copies"), Some(9))
        );
        assert_eq!(told.retry_count, None);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = "é".repeat(5000);
        let mut headers = Vec::new();
        Provenance {
            error_message: Some(long.clone()),
            ..Provenance::default()
        }
        .write(&mut headers);
        let read = Provenance::split(&headers).1.unwrap();
        let message = read.error_message.unwrap();
        assert_eq!(message.len(), 4096);
        assert!(long.starts_with(&message));
    }
}
