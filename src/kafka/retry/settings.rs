//! Where records go that are to be tried again, when, and how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::sink::RetrySink;
use crate::flow::DeadLetters;
use crate::kafka::consumer::{Assignment, ConsumerSettings};
use crate::kafka::error::Error;
use crate::kafka::producer::ProducerSettings;
use crate::sync::{AtomicU64, Ordering};

/// Retry topics: a record that could not be processed goes to one, comes back when it is due, and after the
/// last time goes to the dead letters.
///
/// ```text
///  orders ─────────────┬──► process ──► ..
///  orders.retry-1 ─────┤       │ failed: to be tried again later
///  orders.retry-2 ─────┘       ▼
///     ▲   ▲              put aside, acknowledged ──► position moves
///     └───┴───────────────────┤
///                             └──► orders.DLQ, and an alert
/// ```
///
/// One consumer reads the topics and their retry topics ([`reads`](RetryTopics::reads)), so that what comes
/// back is processed by the same code. A record that is not due stays in the client's queue of its
/// partition: that partition waits, all others go on, and the client is polled. As all records of a retry
/// topic wait equally long, the first of a partition is due first.
///
/// The stage names what is to be tried again with [`OnError::Later`](crate::flow::OnError::Later), and its
/// dead letters are [`letters`](RetryTopics::letters) of these topics. The account shows what was put aside as
/// dead-lettered for the reason *retry later*, until it comes in again.
///
/// A record in a retry topic is the record byte for byte, with the headers of
/// [`Provenance`](crate::kafka::Provenance) behind its own: where it stood first, the last error, `tries`,
/// `retry-count`, `retry-topic` and `retry-due`. They are replaced each time, and the trace and the type of an event, which
/// are the record's own headers, are kept.
///
/// | setting | default |
/// | --- | --- |
/// | [`delays`](RetryTopics::delays) | 10 s, 1 min, 10 min: three topics |
/// | [`times`](RetryTopics::times) | once for each delay |
/// | [`names`](RetryTopics::names) | `<topic>.retry` for one delay, else `<topic>.retry-1`, `<topic>.retry-2` .. |
/// | [`dead_letters`](RetryTopics::dead_letters) | `.DLQ` |
///
/// # Guarantee
/// At least once: the position of a record moves when the retry topic has acknowledged it, so that it is in
/// one or the other whatever ends in between, and may be in both. Where the positions are committed in
/// transactions a window that is undone leaves what it put aside: exactly-once is refused.
///
/// # Order
/// A record that is put aside comes behind those that were behind it. Where the records of a key must keep
/// their order, process them with [`in_key_order`](RetryTopics::in_key_order).
///
/// # Example
/// ```no_run
/// use std::time::Duration;
///
/// use forebay::flow::OnError;
/// use forebay::kafka::{self, Connection, ConsumerSettings, ProducerSettings, RetryTopics};
///
/// # #[derive(Debug, thiserror::Error)]
/// # enum Failed { #[error("busy")] Busy, #[error("no order")] NoOrder }
/// # async fn bill(_: kafka::Record) -> Result<(), Failed> { Ok(()) }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = || Connection::to("localhost:9092");
/// let retries = RetryTopics::new(ProducerSettings::reliable(cluster()))
///     .delays([Duration::from_secs(1), Duration::from_secs(30)])
///     .on_dead_letter(|gone| eprintln!("{} was given up: {}", gone.record, gone.error));
/// let reads = ConsumerSettings::new(cluster(), "billing").topics(["orders"]);
/// let (_handle, flow) = kafka::source(retries.reads(reads));
/// flow.try_map_async(16, bill)
///     .dead_letters(&retries.letters(64)?)
///     .on_error(|error, _| match error {
///         Failed::Busy => OnError::Later,
///         Failed::NoOrder => OnError::DeadLetter,
///     })
///     .for_each(drop)
///     .block_on()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RetryTopics {
    pub(super) writes: ProducerSettings,
    pub(super) delays: Vec<Duration>,
    times: Option<u32>,
    naming: Naming,
    pub(super) dead_letters: String,
    pub(super) alert: Option<Alert>,
    pub(super) counts: Arc<Counters>,
    /// In the order of keys, by so many entries at most.
    keeps_order: Option<usize>,
}

/// A record that was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenUp {
    /// Where it stood first: `topic-partition@offset`, as far as that is known.
    pub record: String,
    /// The topic its letter is in.
    pub letters: Arc<str>,
    /// The class of the last error.
    pub error_class: &'static str,
    /// The last error, in words.
    pub error: String,
    /// How often it was tried.
    pub tries: u32,
    /// How often it was in a retry topic.
    pub retries: u32,
}

pub(super) type Alert = Arc<dyn Fn(&GivenUp) + Send + Sync>;

/// What retry topics did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetryCounts {
    /// Records put aside to be tried again.
    pub later: u64,
    /// Records put aside untried, behind one of their key.
    pub behind: u64,
    /// Records given up after their last time.
    pub exhausted: u64,
    /// Records given up at once: their error was not one to try again.
    pub dead: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) later: AtomicU64,
    pub(super) behind: AtomicU64,
    pub(super) exhausted: AtomicU64,
    pub(super) dead: AtomicU64,
}

/// Names the retry topic of a topic for a delay.
type NameOf = dyn Fn(&str, usize) -> String + Send + Sync;

#[derive(Clone)]
enum Naming {
    Suffix(String),
    By(Arc<NameOf>),
}

impl RetryTopics {
    /// Retry topics that are written so. They and the topics of dead letters must be there, with at least
    /// as many partitions as the topics they belong to where order is kept.
    pub fn new(writes: ProducerSettings) -> RetryTopics {
        let seconds = Duration::from_secs;
        RetryTopics {
            writes,
            delays: vec![seconds(10), seconds(60), seconds(600)],
            times: None,
            naming: Naming::Suffix(".retry".to_owned()),
            dead_letters: ".DLQ".to_owned(),
            alert: None,
            counts: Arc::default(),
            keeps_order: None,
        }
    }

    /// How long a record waits the first time, the second, and so on; a topic for each.
    #[must_use]
    pub fn delays(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        self.delays = delays.into_iter().collect();
        self
    }

    /// How often a record is put into a retry topic before it is given up; beyond the last delay it waits
    /// that long again. 0 gives up at once.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// What stands behind the name of a topic in those of its retry topics; with several delays their
    /// number follows, from `-1`.
    #[must_use]
    pub fn suffix(mut self, suffix: impl Into<String>) -> Self {
        self.naming = Naming::Suffix(suffix.into());
        self
    }

    /// Names the retry topics: of that topic, for that delay, from 0. The same name for several delays makes
    /// them wait for each other.
    #[must_use]
    pub fn names(mut self, name: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Self {
        self.naming = Naming::By(Arc::new(name));
        self
    }

    /// What stands behind the name of a topic in that of its dead letters.
    #[must_use]
    pub fn dead_letters(mut self, suffix: impl Into<String>) -> Self {
        self.dead_letters = suffix.into();
        self
    }

    /// Is called for each record that was given up, once its letter is acknowledged. Besides, each is
    /// logged as an error, and the snapshot counts it as an alert of the stage that keeps the letters. It
    /// must not block; what it panics with is logged.
    #[must_use]
    pub fn on_dead_letter(mut self, alert: impl Fn(&GivenUp) + Send + Sync + 'static) -> Self {
        self.alert = Some(Arc::new(alert));
        self
    }

    /// The retry topics of a topic.
    #[must_use]
    pub fn topics_of(&self, topic: &str) -> Vec<String> {
        let names = 0..self.delays.len();
        let mut names: Vec<String> = names.map(|tier| self.name(topic, tier)).collect();
        names.dedup();
        names
    }

    /// The same consumer, reading the retry topics of its topics besides, each record when it is due. Topics
    /// by a pattern are read as they are: let the pattern take in the retry topics too.
    #[must_use]
    pub fn reads(&self, settings: ConsumerSettings) -> ConsumerSettings {
        let longest = self.delays.iter().max().copied().unwrap_or_default();
        let settings = settings.with_retries(longest, |topic| self.topics_of(topic));
        if self.keeps_order() {
            // The partitions of one number go to one member, of all topics.
            return settings.assignment(Assignment::Range);
        }
        settings
    }

    /// Promises to process in the order of keys: [`reads`](RetryTopics::reads) has the partitions of one
    /// number, of a topic and its retry topics, read by the same member of the group then
    /// ([`Assignment::Range`]), and a record that is put aside stays in the partition of its number. So many
    /// records may wait in the retry topics of one process; with more the run stops.
    #[must_use]
    pub fn keep_key_order(mut self, records: usize) -> Self {
        self.keeps_order = Some(records);
        self
    }

    /// The dead letters of the stages that process: what is to be tried again goes to the retry topics, the
    /// rest to the dead letters, behind a queue of at most `capacity`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be.
    pub fn letters(&self, capacity: usize) -> Result<DeadLetters, Error> {
        let sink = RetrySink::start(self)?;
        let letters = DeadLetters::new(capacity, sink).named("retry_topics");
        Ok(letters.repeats(
            "puts records aside again that a window took back: try again in place, such as with \
             `RetryInPlace`, or name at-least-once",
        ))
    }

    /// What they did so far.
    #[must_use]
    pub fn counts(&self) -> RetryCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RetryCounts {
            later: read(&self.counts.later),
            behind: read(&self.counts.behind),
            exhausted: read(&self.counts.exhausted),
            dead: read(&self.counts.dead),
        }
    }

    pub(super) fn keeps_order(&self) -> bool {
        self.keeps_order.is_some()
    }

    /// How many records may wait.
    pub(super) fn most_waiting(&self) -> usize {
        self.keeps_order.unwrap_or(0)
    }

    /// How often a record may be put aside.
    pub(super) fn most(&self) -> u32 {
        let delays = u32::try_from(self.delays.len()).unwrap_or(u32::MAX);
        if delays == 0 {
            return 0;
        }
        self.times.unwrap_or(delays)
    }

    /// The topic for a record that is put aside for the `count`-th time, from 1, and how long it waits.
    pub(super) fn tier(&self, topic: &str, count: u32) -> Option<(String, Duration)> {
        let last = self.delays.len().checked_sub(1)?;
        let tier = (count.max(1) as usize - 1).min(last);
        Some((self.name(topic, tier), *self.delays.get(tier)?))
    }

    fn name(&self, topic: &str, tier: usize) -> String {
        match &self.naming {
            Naming::Suffix(suffix) if self.delays.len() == 1 => format!("{topic}{suffix}"),
            Naming::Suffix(suffix) => format!("{topic}{suffix}-{}", tier + 1),
            Naming::By(name) => name(topic, tier),
        }
    }
}

impl fmt::Debug for RetryTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryTopics")
            .field("delays", &self.delays)
            .field("times", &self.most())
            .field("topics", &self.topics_of("<topic>"))
            .field("dead_letters", &self.dead_letters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Connection;

    fn retries() -> RetryTopics {
        RetryTopics::new(ProducerSettings::new(Connection::to("localhost:9092")))
    }

    #[test]
    fn each_time_has_its_topic_and_its_delay() {
        let seconds = Duration::from_secs;
        let tiers = retries().delays([seconds(1), seconds(5)]).times(3);
        let of = |count| tiers.tier("orders", count);
        assert_eq!(of(1), Some(("orders.retry-1".to_owned(), seconds(1))));
        assert_eq!(of(2), Some(("orders.retry-2".to_owned(), seconds(5))));
        assert_eq!(of(3), Some(("orders.retry-2".to_owned(), seconds(5))));
        assert_eq!(tiers.most(), 3);
        let one = retries().delays([seconds(1)]);
        assert_eq!(one.topics_of("orders"), ["orders.retry"]);
        assert_eq!(one.most(), 1);
        let none = retries().delays([]).times(7);
        assert_eq!((none.most(), none.tier("orders", 1)), (0, None));
        let named = retries().names(|topic, tier| format!("retry.{tier}.{topic}"));
        assert_eq!(
            named.topics_of("orders"),
            ["retry.0.orders", "retry.1.orders", "retry.2.orders"]
        );
    }
}
