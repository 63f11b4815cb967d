//! What a consumer is to do, checked before it connects.

mod choices;
mod properties;
mod read_from;

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::control::PressureHandle;
use crate::kafka::connection::Connection;
use crate::kafka::properties::Properties;

pub use choices::{Assignment, Isolation};
pub(super) use choices::{Commits, Topics};
pub use read_from::{ReadFrom, Start};

/// What a consumer is to read, and how.
///
/// | setting | range | default |
/// | --- | --- | --- |
/// | [`topics`](ConsumerSettings::topics), or [`pattern`](ConsumerSettings::pattern) | at least one topic | none: must be set |
/// | [`start`](ConsumerSettings::start) | | what was committed, else the earliest record |
/// | [`hand_over`](ConsumerSettings::hand_over) | 1 to 1,000,000 records a partition | 4096 |
/// | [`prefetch`](ConsumerSettings::prefetch) | 1 KiB to 2 GiB | 16 MiB a partition |
/// | [`commit_every`](ConsumerSettings::commit_every) | 1 ms to 1 h | 1 s |
/// | [`commit_after`](ConsumerSettings::commit_after) | 1 and more records | 100,000 |
/// | [`drain`](ConsumerSettings::drain) | 0 to 5 min | 5 s |
///
/// # Example
/// ```
/// use forebay::kafka::{Connection, ConsumerSettings, ReadFrom};
///
/// let settings = ConsumerSettings::new(Connection::to("localhost:9092"), "billing")
///     .topics(["orders"])
///     .start(ReadFrom::Committed.or_latest())
///     .set("fetch.min.bytes", "50000");
/// assert_eq!(settings.properties()?.get("isolation.level"), Some("read_committed"));
/// # Ok::<(), forebay::kafka::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerSettings {
    connection: Connection,
    group: String,
    pub(super) topics: Topics,
    pub(super) start: Start,
    isolation: Isolation,
    assignment: Assignment,
    member: Option<String>,
    pub(super) hand_over: usize,
    prefetch_bytes: u64,
    pub(super) commit_every: Duration,
    pub(super) commit_after: u64,
    pub(super) drain: Duration,
    pub(super) commits: Commits,
    pub(super) origin: bool,
    pub(in crate::kafka) pressure: Option<PressureHandle>,
    /// Records that say when they are due are handed over then, and so many milliseconds after they were
    /// written at the latest.
    pub(super) until_due: Option<i64>,
    theirs: Properties,
}
impl ConsumerSettings {
    /// A member of that group. Members of one group share the partitions of their topics; groups are
    /// independent of each other.
    pub fn new(connection: Connection, group: impl Into<String>) -> ConsumerSettings {
        ConsumerSettings {
            connection,
            group: group.into(),
            topics: Topics::Named(Vec::new()),
            start: ReadFrom::Committed.or_earliest(),
            isolation: Isolation::default(),
            assignment: Assignment::default(),
            member: None,
            hand_over: 4096,
            prefetch_bytes: 16 << 20,
            commit_every: Duration::from_secs(1),
            commit_after: 100_000,
            drain: Duration::from_secs(5),
            commits: Commits::Settled,
            origin: true,
            pressure: None,
            until_due: None,
            theirs: Properties::default(),
        }
    }

    /// Reads these topics.
    #[must_use]
    pub fn topics<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.topics = Topics::Named(names.into_iter().map(Into::into).collect());
        self
    }

    /// Reads all topics whose whole name matches this regular expression (POSIX, extended), also those
    /// that are made later: they are noticed at the next refresh of metadata
    /// (`topic.metadata.refresh.interval.ms`, here 10 s).
    #[must_use]
    pub fn pattern(mut self, pattern: impl AsRef<str>) -> Self {
        let pattern = pattern.as_ref();
        let open = pattern.strip_prefix('^').unwrap_or(pattern);
        let bare = open.strip_suffix('$').unwrap_or(open);
        self.topics = Topics::Pattern(format!("^({bare})$"));
        self
    }

    /// Where a partition is begun, the first time this process gets it. When it comes back after a
    /// rebalance it is read on from what the group has committed.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Which records of transactions are read.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// How the partitions are shared out.
    #[must_use]
    pub fn assignment(mut self, assignment: Assignment) -> Self {
        self.assignment = assignment;
        self
    }

    /// A name that this member keeps over restarts (static membership): if it is back within the
    /// session's time-out it gets its partitions again, and nobody else was given them.
    #[must_use]
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.member = Some(name.into());
        self
    }

    /// Records of a partition that may wait between the thread that reads and the flow.
    #[must_use]
    pub fn hand_over(mut self, records: usize) -> Self {
        self.hand_over = records;
        self
    }

    /// Bytes of a partition that the client may fetch ahead of the flow.
    #[must_use]
    pub fn prefetch(mut self, bytes: u64) -> Self {
        self.prefetch_bytes = bytes;
        self
    }

    /// How long a settled position waits at most before it is committed.
    #[must_use]
    pub fn commit_every(mut self, every: Duration) -> Self {
        self.commit_every = every;
        self
    }

    /// After how many settled records it is committed at once.
    #[must_use]
    pub fn commit_after(mut self, records: u64) -> Self {
        self.commit_after = records;
        self
    }

    /// How long a partition that is taken away waits for what is inside: it is settled and committed,
    /// and not read again by its next owner. Afterwards the next owner reads it again.
    #[must_use]
    pub fn drain(mut self, at_most: Duration) -> Self {
        self.drain = at_most;
        self
    }

    /// Leaves out the origin of each record (its exact bytes and place): one allocation a record less, and
    /// dead letters have no bytes then.
    #[must_use]
    pub fn without_origin(mut self) -> Self {
        self.origin = false;
        self
    }

    /// Commits positions before their records are handed over, so that none is handed over twice,
    /// whatever happens; those that are inside when the process ends are lost. By default they are
    /// committed once their records are settled: at least once.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.commits = Commits::Before;
        self
    }

    /// Leaves its positions to be committed by a transactional sink, which does so at most so long after
    /// the first record of a window, and after so many of them: see
    /// [`to_kafka_in_transactions`](crate::flow::Flow::to_kafka_in_transactions).
    #[must_use]
    pub fn in_transactions(mut self, every: Duration, records: usize) -> Self {
        self.commits = Commits::AtBarriers {
            every,
            records: records.max(1),
        };
        self
    }

    /// Tells that pressure how long brokers have this client wait because it has used up its quota: what is
    /// controlled by the pressure then asks less of them. The client's figures are looked at twice a second
    /// for it (`statistics.interval.ms`), which costs more the more partitions it knows. Default: none.
    #[must_use]
    pub fn pressure(mut self, pressure: &PressureHandle) -> Self {
        self.pressure = Some(pressure.clone());
        self
    }

    /// Reads retry topics besides those that are named: see [`RetryTopics`](crate::kafka::RetryTopics).
    pub(in crate::kafka) fn with_retries(
        mut self,
        longest: Duration,
        of: impl Fn(&str) -> Vec<String>,
    ) -> Self {
        if let Topics::Named(names) = &mut self.topics {
            let more: Vec<String> = names.iter().flat_map(|name| of(name)).collect();
            names.extend(more);
        }
        self.until_due = Some(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
        self
    }

    /// Sets any property of librdkafka.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.theirs.put(name, value);
        self
    }

    /// Whom an error concerns: the group, or the topics, those that it names if it names any.
    pub(super) fn concerned(&self, code: Option<RDKafkaErrorCode>, reason: &str) -> String {
        if code == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            return self.group.clone();
        }
        let topics = self.topics.subscription();
        let named = topics.iter().filter(|topic| reason.contains(**topic));
        let named: Vec<&str> = named.copied().collect();
        if named.is_empty() { topics } else { named }.join(", ")
    }
}
