//! The sink of letters that are to be tried again: to a retry topic, or to the dead letters.

use std::sync::Arc;
use std::time::Duration;

use super::settings::{GivenUp, RetryTopics};
use crate::chunk::{Origin, Record};
use crate::dead_letter::{Again, DeadLetter, DeadLetterSink};
use crate::error::BoxError;
use crate::kafka::dead_letters::{Provenance, put_aside, told};
use crate::kafka::error::Error;
use crate::kafka::producer::{ProducerRecord, Writer};
use crate::operator::guard;
use crate::outcome::Reason;
use crate::sync::{AtomicU64, Ordering};
use crate::time;

pub(super) struct RetrySink {
    topics: RetryTopics,
    writer: Writer,
    alerts: u64,
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// To the topic it waits in, for the time of that number.
    Retry(u32),
    /// To the shortest of them, untried.
    Behind,
    /// To the dead letters: its times are used up.
    Exhausted,
    /// To the dead letters.
    Dead,
}

impl RetrySink {
    pub(super) fn start(topics: &RetryTopics) -> Result<RetrySink, Error> {
        Ok(RetrySink {
            topics: topics.clone(),
            writer: Writer::start(&topics.writes.for_any_length())?,
            alerts: 0,
        })
    }

    fn fate(&self, again: Again, provenance: &Provenance) -> Fate {
        let before = provenance.retry_count.unwrap_or(0);
        match again {
            Again::Never => Fate::Dead,
            Again::Behind => Fate::Behind,
            Again::Later if before < self.topics.most() => Fate::Retry(before + 1),
            Again::Later => Fate::Exhausted,
        }
    }

    /// The record to write, and what to tell of it if it is given up.
    fn record(
        &self,
        letter: &DeadLetter,
        record: &Record,
    ) -> Result<(ProducerRecord, Fate, Option<GivenUp>), BoxError> {
        let (own, before) = Provenance::of(record);
        let fate = self.fate(letter.again, &before);
        let Some(topic) = before.topic.clone() else {
            return Err("an element that came from no topic has no retry topic".into());
        };
        let mut provenance = told(letter, record).1;
        if fate == Fate::Exhausted {
            provenance.error_reason = Some(Reason::RetriesExhausted.name().to_owned());
        }
        // Not what the stage made of it: it is to be processed again as it was.
        let value = record.payload.clone();
        let count = match fate {
            Fate::Retry(count) => Some(count),
            Fate::Behind => Some(before.retry_count.unwrap_or(0)),
            Fate::Exhausted | Fate::Dead => None,
        };
        let tier = count.and_then(|count| {
            // One that waits behind another is to be there when that is done.
            let wait = if fate == Fate::Behind { 1 } else { count };
            Some((count, self.topics.tier(&topic, wait)?))
        });
        let Some((count, (retry, delay))) = tier else {
            let letters: Arc<str> = format!("{topic}{}", self.topics.dead_letters).into();
            let given_up = GivenUp {
                record: place(&provenance),
                letters: Arc::clone(&letters),
                error_class: letter.error_type,
                error: letter.error.clone(),
                tries: provenance.tries.unwrap_or(0),
                retries: provenance.retry_count.unwrap_or(0),
            };
            let out = put_aside(letters, value, record, own, &provenance);
            return Ok((out, fate, Some(given_up)));
        };
        if fate == Fate::Behind {
            // What became of it is what did before.
            provenance.tries = Some(before.tries.unwrap_or(0));
        }
        provenance.retry_count = Some(count);
        provenance.retry_topic = Some(retry.clone());
        provenance.retry_due_ms = Some(due_ms(delay));
        let mut out = put_aside(retry.into(), value, record, own, &provenance);
        if let Some(partition) = provenance.partition.filter(|_| self.topics.keeps_order()) {
            out = out.partition(partition);
        }
        Ok((out, fate, None))
    }

    fn tell(&mut self, fate: Fate, given_up: Option<GivenUp>) {
        let counts = &self.topics.counts;
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match fate {
            Fate::Retry(_) => count(&counts.later),
            Fate::Behind => count(&counts.behind),
            Fate::Exhausted => count(&counts.exhausted),
            Fate::Dead => count(&counts.dead),
        };
        let Some(given_up) = given_up else {
            return;
        };
        self.alerts += 1;
        tracing::error!(
            record = given_up.record,
            letters = &*given_up.letters,
            error = given_up.error,
            tries = given_up.tries,
            "a record was given up"
        );
        if let Some(alert) = &self.topics.alert
            && let Err(message) = guard(|| alert(&given_up))
        {
            tracing::error!(message, "the alert for a record that was given up panicked");
        }
    }
}

fn due_ms(delay: Duration) -> i64 {
    let due = time::since_1970(time::now()) + delay;
    i64::try_from(due.as_millis()).unwrap_or(i64::MAX)
}

fn place(provenance: &Provenance) -> String {
    let mut text = provenance.topic.clone().unwrap_or_default();
    if let (Some(partition), Some(offset)) = (provenance.partition, provenance.offset) {
        text = format!("{text}-{partition}@{offset}");
    }
    text
}

impl DeadLetterSink for RetrySink {
    async fn write(&mut self, letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        let mut records = Vec::with_capacity(letters.len());
        let mut fates = Vec::with_capacity(letters.len());
        for letter in &letters {
            let parts = letter.origin.as_ref().map(Origin::records);
            let parts = parts.unwrap_or_default();
            if parts.is_empty() {
                return Err("an element without its origin cannot be tried again".into());
            }
            for record in &parts {
                let (record, fate, given_up) = self.record(letter, record)?;
                records.push(record);
                fates.push((fate, given_up));
            }
        }
        self.writer.write(&records).await?;
        for (fate, given_up) in fates {
            self.tell(fate, given_up);
        }
        Ok(())
    }

    fn reason(&self, letter: &DeadLetter) -> Reason {
        let parts = letter.origin.as_ref().map(Origin::records);
        let first = parts.as_ref().and_then(|parts| parts.first());
        match first.map(|record| self.fate(letter.again, &Provenance::of(record).1)) {
            Some(Fate::Retry(_) | Fate::Behind) => Reason::RetryLater,
            Some(Fate::Exhausted) => Reason::RetriesExhausted,
            Some(Fate::Dead) | None => letter.reason,
        }
    }

    fn alerts(&self) -> u64 {
        self.alerts
    }
}
