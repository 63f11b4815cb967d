//! What a consumer is to do, checked before it connects.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;

use crate::control::PressureHandle;
use crate::kafka::admin::is_topic;
use crate::kafka::connection::Connection;
use crate::kafka::error::Error;
use crate::kafka::properties::{self, Properties};
use crate::kafka::throttle;

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

/// Which topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Topics {
    Named(Vec<String>),
    /// A regular expression, with the `^` by which librdkafka knows one.
    Pattern(String),
}

impl Topics {
    pub(super) fn is_pattern(&self) -> bool {
        matches!(self, Topics::Pattern(_))
    }

    pub(super) fn subscription(&self) -> Vec<&str> {
        match self {
            Topics::Named(names) => names.iter().map(String::as_str).collect(),
            Topics::Pattern(pattern) => vec![pattern],
        }
    }
}

/// Who commits the positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commits {
    /// The consumer, those that are settled.
    Settled,
    /// The consumer, before it hands records over: at most once.
    Before,
    /// A transactional sink, with what was made of the records: barriers so far apart.
    AtBarriers { every: Duration, records: usize },
}

/// Where a partition is begun, the first time this process gets it.
///
/// All but [`Committed`](ReadFrom::Committed) are for whoever reads alone, or begins anew with all its group:
/// a process that joins others begins there as well, whatever they have done of its partitions. Partitions
/// that are made while it runs, and topics that its pattern finds later, are read from their first record
/// where it begins at `Committed` or `Latest`: nothing of them is older than its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// Behind what its group has committed.
    Committed,
    /// At the first record that is there.
    Earliest,
    /// Behind the last record that is there.
    Latest,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record that is not older: milliseconds since 1970.
    Time(i64),
}

impl ReadFrom {
    /// There, or at the first record if there is no such position.
    #[must_use]
    pub fn or_earliest(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Earliest,
        }
    }

    /// There, or behind the last record if there is no such position.
    #[must_use]
    pub fn or_latest(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Latest,
        }
    }

    /// There; if there is no such position the run stops with [`Error::NoOffset`].
    #[must_use]
    pub fn or_stop(self) -> Start {
        Start {
            from: self,
            otherwise: Otherwise::Stop,
        }
    }
}

/// Where to begin, and where otherwise: made by the methods of [`ReadFrom`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    pub(super) from: ReadFrom,
    otherwise: Otherwise,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Otherwise {
    Earliest,
    Latest,
    Stop,
}

/// Which records are read of those that were written in transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// Those whose transaction was committed; nothing behind one that is still open.
    #[default]
    ReadCommitted,
    /// All, also those of transactions that were or will be aborted.
    ReadUncommitted,
}

/// How the partitions are shared out in the group. All members must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Assignment {
    /// Each keeps what it has, as far as that is fair; the others read on while some move.
    #[default]
    CooperativeSticky,
    /// Neighbouring partitions, topic by topic. All stop while some move.
    Range,
    /// In turn. All stop while some move.
    RoundRobin,
    /// The broker decides (KIP-848), and the others read on while some move. Needs a broker of
    /// version 4. How often members are heard of and when they are given up is the broker's matter then:
    /// `session.timeout.ms` and `heartbeat.interval.ms` are left out, whoever set them.
    ByBroker,
}

/// What a promise stands on.
const FIXED: &[(&str, &str)] = &[
    (
        "enable.auto.commit",
        "what is committed is what receipts settled",
    ),
    (
        "enable.auto.offset.store",
        "what is committed is what receipts settled",
    ),
    ("enable.partition.eof", "a source of a topic has no end"),
    ("group.id", "name the group in `ConsumerSettings::new`"),
    ("auto.offset.reset", "declare it with `start`"),
    ("isolation.level", "declare it with `isolation`"),
    (
        "partition.assignment.strategy",
        "declare it with `assignment`",
    ),
    ("group.protocol", "declare it with `assignment`"),
    ("group.instance.id", "declare it with `member`"),
];

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

    /// What the client will be told.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of the setting that cannot be.
    pub fn properties(&self) -> Result<Properties, Error> {
        let mut all = self.connection.properties();
        all.put("group.id", &self.group);
        all.put("enable.auto.commit", false);
        all.put("enable.auto.offset.store", false);
        all.put("enable.partition.eof", false);
        all.put(
            "auto.offset.reset",
            match self.start.otherwise {
                Otherwise::Earliest => "earliest",
                Otherwise::Latest => "latest",
                Otherwise::Stop => "error",
            },
        );
        all.put(
            "isolation.level",
            match self.isolation {
                Isolation::ReadCommitted => "read_committed",
                Isolation::ReadUncommitted => "read_uncommitted",
            },
        );
        match self.assignment {
            Assignment::CooperativeSticky => {
                all.put("partition.assignment.strategy", "cooperative-sticky");
            }
            Assignment::Range => all.put("partition.assignment.strategy", "range"),
            Assignment::RoundRobin => all.put("partition.assignment.strategy", "roundrobin"),
            Assignment::ByBroker => all.put("group.protocol", "consumer"),
        }
        if let Some(name) = &self.member {
            all.put("group.instance.id", name);
        }
        // What is fetched ahead is bounded in bytes; in records only by what a thread looks after.
        all.put(
            "queued.max.messages.kbytes",
            self.prefetch_bytes.div_ceil(1024),
        );
        all.put("queued.min.messages", 100_000);
        // A fetcher whose queue is full looks again after this, by default a whole second.
        all.put("fetch.queue.backoff.ms", 5);
        all.put("topic.metadata.refresh.interval.ms", 10_000);
        if self.pressure.is_some() {
            all.put("statistics.interval.ms", throttle::EVERY_MS);
        }
        all.overlay(&self.theirs, FIXED)?;
        if self.assignment == Assignment::ByBroker {
            all.leave_out("session.timeout.ms");
            all.leave_out("heartbeat.interval.ms");
        }
        Ok(all)
    }

    /// All that the client has once it is made, by librdkafka's own names: also what nobody set, and what
    /// it sets by itself. A client is made for that, which connects to nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Settings`] for settings that cannot be, alone or together.
    pub fn effective(&self) -> Result<Properties, Error> {
        properties::effective_of_consumer(self.checked()?)
    }

    /// Checks every setting.
    pub(in crate::kafka) fn checked(&self) -> Result<ClientConfig, Error> {
        self.connection.check()?;
        let topics = match &self.topics {
            Topics::Named(names) => names,
            Topics::Pattern(_) => &Vec::new(),
        };
        let named = matches!(&self.topics, Topics::Named(names) if names.is_empty());
        require(!named, "topics", "none", "name at least one, or a pattern")?;
        for name in topics {
            require(
                is_topic(name),
                "topics",
                name,
                "at most 249 letters, digits, `.`, `_`, `-`",
            )?;
        }
        require(
            !self.group.is_empty(),
            "group",
            "empty",
            "members are known by its name",
        )?;
        let range = "it must be within 1 and 1,000,000";
        require(
            (1..=1_000_000).contains(&self.hand_over),
            "hand_over",
            self.hand_over,
            range,
        )?;
        let range = "it must be within 1 KiB and 2 GiB";
        let prefetch = (1 << 10..=2 << 30).contains(&self.prefetch_bytes);
        require(prefetch, "prefetch", self.prefetch_bytes, range)?;
        let range = "it must be within 1 ms and 1 h";
        let every = Duration::from_millis(1)..=Duration::from_secs(3600);
        let shown = format!("{:?}", self.commit_every);
        require(
            every.contains(&self.commit_every),
            "commit_every",
            shown,
            range,
        )?;
        require(
            self.commit_after > 0,
            "commit_after",
            0,
            "it must be at least 1",
        )?;
        let range = "it must be at most 5 min";
        let shown = format!("{:?}", self.drain);
        require(
            self.drain <= Duration::from_secs(300),
            "drain",
            shown,
            range,
        )?;
        require(
            self.until_due.is_none() || self.commits != Commits::Before,
            "at_most_once",
            "with retry topics",
            "what is committed before it is due would be lost: leave one of both out",
        )?;
        self.properties()?.checked()
    }
}

fn require(
    holds: bool,
    field: &'static str,
    value: impl ToString,
    why: &'static str,
) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Error::Invalid {
        field: field.to_owned(),
        value: value.to_string(),
        why: why.to_owned(),
    })
}
