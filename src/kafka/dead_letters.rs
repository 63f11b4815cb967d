//! Dead letters in a topic: the record as it was, and in headers where it stood and why it is there.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::producer::{ProducerRecord, ProducerSettings, Writer};
use crate::chunk::{Origin, Record};
use crate::dead_letter::{DeadLetter, DeadLetterSink};
use crate::error::BoxError;
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
/// Key, value and headers are those of the record, byte for byte, a tombstone a tombstone; where the
/// stage has an `encode`, the value is what it made. Behind the record's own headers come
///
/// | header | value |
/// | --- | --- |
/// | `original-topic`, `original-partition`, `original-offset`, `original-timestamp` | where it stood, and its time in milliseconds since 1970 |
/// | `error-class` | the type of the error |
/// | `error-message` | the error in words |
/// | `error-reason` | `error`, `timed_out`, `retries_exhausted`, or what else ended it |
/// | `error-timestamp` | when it was given up: milliseconds since 1970 |
/// | `tries` | how often it was tried |
/// | `stage` | the stage that gave it up |
///
/// A letter counts as kept when the brokers have acknowledged it, and only then its source's position
/// passes it. An element merged from several records is a letter for each of them.
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
            writer: Writer::start(&settings.checked()?)?,
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
        let topic: Arc<str> = match (&self.target, record.partition) {
            (Target::Topic(topic), _) => Arc::clone(topic),
            (Target::Suffix(suffix), Some(_)) => format!("{}{suffix}", record.place).into(),
            (Target::Suffix(suffix), None) => {
                return Err(format!(
                    "an element that came from no topic has no `{suffix}`: open one topic for all"
                )
                .into());
            }
        };
        let value = letter.payload.clone().or_else(|| record.payload.clone());
        let mut out = ProducerRecord::exactly(topic, record.key.clone(), value, &record.headers);
        if let Some(partition) = record.partition {
            out = out
                .header("original-topic", record.place.to_string())
                .header("original-partition", partition.to_string())
                .header("original-offset", record.offset.to_string());
        }
        if let Some(at) = record.timestamp_ms {
            out = out.header("original-timestamp", at.to_string());
        }
        let given_up = time::since_1970(letter.at).as_millis();
        Ok(out
            .header("error-class", letter.error_type)
            .header("error-message", letter.error.clone())
            .header("error-reason", letter.reason.name())
            .header("error-timestamp", given_up.to_string())
            .header("tries", letter.tries.to_string())
            .header("stage", Bytes::copy_from_slice(letter.stage.as_bytes())))
    }
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
