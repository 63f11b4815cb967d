//! Dead letters in a topic: the record as it was, and in headers where it stood and why it is there.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::provenance::{Header, Provenance};
use crate::chunk::{Origin, Record};
use crate::dead_letter::{DeadLetter, DeadLetterSink};
use crate::error::BoxError;
use crate::kafka::error::Error;
use crate::kafka::producer::{ProducerRecord, ProducerSettings, Writer};
use crate::time;

/// Where a topic's dead letters go.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    /// All to this topic.
    Topic(Arc<str>),
    /// To the topic the record came from, with this behind its name.
    Suffix(String),
}

/// Keeps dead letters in topics of Kafka.
///
/// Key, value and headers are those of the record, byte for byte: a tombstone is a tombstone, a header
/// comes as often as it came, with no value where it had none, and its name may be any bytes but a zero
/// byte, which a client reads as its end. Where the stage has an `encode`, the value is what it made.
/// Behind the record's own headers comes one block, which [`Provenance`] reads:
///
/// | header | value |
/// | --- | --- |
/// | `original-topic`, `original-partition`, `original-offset`, `original-timestamp` | where it stood, and its time in milliseconds since 1970; `original-topic` has no value where it came from no topic |
/// | `error-class` | the type of the error |
/// | `error-message` | the error in words, at most 4096 bytes |
/// | `error-reason` | `error`, `timed_out`, `retries_exhausted`, or what else ended it |
/// | `error-timestamp` | when it was given up: milliseconds since 1970 |
/// | `tries` | how often it was tried in all |
/// | `stage` | the stage that gave it up |
/// | `retry-count` | how often it was in a retry topic, if it was |
///
/// A record out of a [retry topic](crate::kafka::RetryTopics) is told as it stood first, and goes to the
/// letters of its first topic.
///
/// A letter counts as kept when the brokers have acknowledged it, and only then its source's position
/// passes it. An element merged from several records is a letter for each of them. The client lets letters
/// of any length pass; the topic must do so too, with up to 8 KiB more than the records it keeps
/// (`max.message.bytes`).
///
/// # Errors
/// If a letter cannot be written the elements of its bundle end as failed, and their sources answer.
pub struct DeadLetterTopic {
    writer: Writer,
    target: Target,
}

impl DeadLetterTopic {
    /// All letters in this topic.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be.
    pub fn open(settings: &ProducerSettings, topic: impl Into<Arc<str>>) -> Result<Self, Error> {
        DeadLetterTopic::to(settings, Target::Topic(topic.into()))
    }

    /// Each letter in the topic its record came from, with this behind its name, such as `.DLQ`. An
    /// element that came from no topic cannot be kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be.
    pub fn beside(settings: &ProducerSettings, suffix: impl Into<String>) -> Result<Self, Error> {
        DeadLetterTopic::to(settings, Target::Suffix(suffix.into()))
    }

    fn to(settings: &ProducerSettings, target: Target) -> Result<DeadLetterTopic, Error> {
        Ok(DeadLetterTopic {
            writer: Writer::start(&settings.for_any_length())?,
            target,
        })
    }

    /// The letters of an element, one for each record it came from.
    fn letters(&self, letter: &DeadLetter) -> Result<Vec<ProducerRecord>, BoxError> {
        let records = letter.origin.as_ref().map(Origin::records);
        let records = records.unwrap_or_default();
        if records.is_empty() {
            return Ok(vec![self.of(letter, &Record::default())?]);
        }
        records
            .into_iter()
            .map(|record| self.of(letter, &record))
            .collect()
    }

    fn of(&self, letter: &DeadLetter, record: &Record) -> Result<ProducerRecord, BoxError> {
        let (own, provenance) = told(letter, record);
        let topic: Arc<str> = match (&self.target, &provenance.topic) {
            (Target::Topic(topic), _) => Arc::clone(topic),
            (Target::Suffix(suffix), Some(topic)) => format!("{topic}{suffix}").into(),
            (Target::Suffix(suffix), None) => {
                return Err(format!(
                    "an element that came from no topic has no `{suffix}`: open one topic for all"
                )
                .into());
            }
        };
        let value = letter.payload.clone().or_else(|| record.payload.clone());
        Ok(put_aside(topic, value, record, own, &provenance))
    }
}

/// A record's own headers, and what is to be told of it.
pub(in crate::kafka) fn told<'a>(
    letter: &DeadLetter,
    record: &'a Record,
) -> (&'a [Header], Provenance) {
    let (own, before) = Provenance::of(record);
    let given_up = time::since_1970(letter.at).as_millis();
    let provenance = Provenance {
        error_class: Some(letter.error_type.to_owned()),
        error_message: Some(letter.error.clone()),
        error_reason: Some(letter.reason.name().to_owned()),
        error_timestamp_ms: i64::try_from(given_up).ok(),
        tries: Some(before.tries.unwrap_or(0).saturating_add(letter.tries)),
        stage: Some(letter.stage.to_string()),
        retry_topic: None,
        retry_due_ms: None,
        ..before
    };
    (own, provenance)
}

/// A record on its way to another topic.
pub(in crate::kafka) fn put_aside(
    topic: Arc<str>,
    value: Option<Bytes>,
    record: &Record,
    own: &[Header],
    provenance: &Provenance,
) -> ProducerRecord {
    let mut headers = own.to_vec();
    provenance.write(&mut headers);
    ProducerRecord::exactly(topic, record.key.clone(), value, headers)
}

impl DeadLetterSink for DeadLetterTopic {
    async fn write(&mut self, letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        let mut records = Vec::with_capacity(letters.len());
        for letter in &letters {
            records.append(&mut self.letters(letter)?);
        }
        Ok(self.writer.write(&records).await?)
    }
}

impl fmt::Debug for DeadLetterTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterTopic")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
