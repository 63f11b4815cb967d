//! What there is to choose from: topics, commits, isolation, assignment.

use std::time::Duration;

/// Which topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::kafka::consumer) enum Topics {
    Named(Vec<String>),
    /// A regular expression, with the `^` by which librdkafka knows one.
    Pattern(String),
}

impl Topics {
    pub(in crate::kafka::consumer) fn is_pattern(&self) -> bool {
        matches!(self, Topics::Pattern(_))
    }

    pub(in crate::kafka::consumer) fn subscription(&self) -> Vec<&str> {
        match self {
            Topics::Named(names) => names.iter().map(String::as_str).collect(),
            Topics::Pattern(pattern) => vec![pattern],
        }
    }
}

/// Who commits the positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kafka::consumer) enum Commits {
    /// The consumer, those that are settled.
    Settled,
    /// The consumer, before it hands records over: at most once.
    Before,
    /// A transactional sink, with what was made of the records: barriers so far apart.
    AtBarriers { every: Duration, records: usize },
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
