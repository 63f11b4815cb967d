//! What the client is told, and whether it can be.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::read_from::Otherwise;
use super::{Assignment, Commits, ConsumerSettings, Isolation, Topics};
use crate::kafka::admin::is_topic;
use crate::kafka::error::Error;
use crate::kafka::properties::{self, Properties};
use crate::kafka::throttle;

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
