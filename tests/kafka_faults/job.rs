//! What a worker is told by whoever starts it: one line in its environment.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The name of the line.
pub(crate) const VARIABLE: &str = "FOREBAY_KAFKA_WORKER";

/// What a worker is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) bootstrap: String,
    pub(crate) group: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Its place among the workers, which it keeps when it is started again: its transactional id.
    pub(crate) place: u64,
    /// Which of all processes it is.
    pub(crate) number: u64,
    pub(crate) in_transactions: bool,
    /// How long a transaction takes at most, and after how long the broker gives it up.
    pub(crate) window: Duration,
    pub(crate) transaction_timeout: Duration,
    pub(crate) delivery_timeout: Duration,
    /// How long a record is worked at, at most.
    pub(crate) work: Duration,
    pub(crate) commit_every: Duration,
    pub(crate) session: Duration,
}

impl Job {
    /// What all workers of a test have in common.
    pub(crate) fn new(bootstrap: &str, group: &str, from: &str, to: &str) -> Job {
        Job {
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            place: 0,
            number: 0,
            in_transactions: false,
            window: Duration::from_millis(100),
            transaction_timeout: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(60),
            work: Duration::from_millis(20),
            commit_every: Duration::from_millis(200),
            session: Duration::from_secs(3),
        }
    }

    pub(crate) fn parse(line: &str) -> Job {
        let fields: BTreeMap<&str, &str> = line
            .split(' ')
            .map(|field| field.split_once('=').unwrap())
            .collect();
        let number = |name: &str| fields[name].parse::<u64>().unwrap();
        let millis = |name: &str| Duration::from_millis(number(name));
        Job {
            bootstrap: fields["bootstrap"].to_owned(),
            group: fields["group"].to_owned(),
            from: fields["from"].to_owned(),
            to: fields["to"].to_owned(),
            place: number("place"),
            number: number("number"),
            in_transactions: number("in_transactions") == 1,
            window: millis("window"),
            transaction_timeout: millis("transaction_timeout"),
            delivery_timeout: millis("delivery_timeout"),
            work: millis("work"),
            commit_every: millis("commit_every"),
            session: millis("session"),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bootstrap={} group={} ", self.bootstrap, self.group)?;
        write!(f, "from={} to={} ", self.from, self.to)?;
        write!(f, "place={} number={} ", self.place, self.number)?;
        for (name, value) in [
            ("window", self.window),
            ("transaction_timeout", self.transaction_timeout),
            ("delivery_timeout", self.delivery_timeout),
            ("work", self.work),
            ("commit_every", self.commit_every),
            ("session", self.session),
        ] {
            write!(f, "{name}={} ", value.as_millis())?;
        }
        write!(f, "in_transactions={}", u8::from(self.in_transactions))
    }
}
