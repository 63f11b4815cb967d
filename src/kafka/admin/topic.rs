//! A topic as it is to be, and as it is.

use std::collections::BTreeMap;

use crate::kafka::error::Error;

/// A topic as it is to be.
///
/// What is not said is as the brokers have it by default (`num.partitions`, `default.replication.factor`),
/// and is not compared with a topic that exists.
///
/// # Example
/// ```
/// use forebay::kafka::Topic;
///
/// // Three partitions, each on three brokers, of which two must have a record.
/// assert_eq!(
///     Topic::replicated("orders"),
///     Topic::named("orders").partitions(3).replicas(3).set("min.insync.replicas", 2),
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub(super) name: String,
    pub(super) partitions: Option<u16>,
    pub(super) replicas: Option<u16>,
    pub(super) settings: BTreeMap<String, String>,
}

impl Topic {
    /// A topic as the brokers make it by default.
    pub fn named(name: impl Into<String>) -> Topic {
        Topic {
            name: name.into(),
            partitions: None,
            replicas: None,
            settings: BTreeMap::new(),
        }
    }

    /// A topic that outlives a broker (row B7): three partitions, each on three brokers, two of which must
    /// have a record before it counts as written by a producer that waits for
    /// [all](crate::kafka::Acks::All).
    pub fn replicated(name: impl Into<String>) -> Topic {
        Topic::named(name)
            .partitions(3)
            .replicas(3)
            .set("min.insync.replicas", 2)
    }

    /// So many partitions: 1 and more.
    #[must_use]
    pub fn partitions(mut self, count: u16) -> Topic {
        self.partitions = Some(count);
        self
    }

    /// Each partition on so many brokers: 1 and more.
    #[must_use]
    pub fn replicas(mut self, count: u16) -> Topic {
        self.replicas = Some(count);
        self
    }

    /// Sets any property of topics, such as `retention.ms` or `cleanup.policy`.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Topic {
        self.settings.insert(name.into(), value.to_string());
        self
    }

    pub(in crate::kafka) fn check(&self) -> Result<(), Error> {
        let refuse = |field: &str, value: &str, why: &str| {
            Err(Error::Invalid {
                field: field.to_owned(),
                value: value.to_owned(),
                why: why.to_owned(),
            })
        };
        if !is_topic(&self.name) {
            let why = "at most 249 letters, digits, `.`, `_`, `-`";
            return refuse("topic", &self.name, why);
        }
        for (field, count) in [("partitions", self.partitions), ("replicas", self.replicas)] {
            if count == Some(0) {
                return refuse(field, "0", "it must be at least 1");
            }
        }
        Ok(())
    }

    /// Whether the one that exists is as it was asked for.
    pub(super) fn compare(&self, found: &TopicDescription) -> Result<(), Error> {
        let differs = |what: &str, is: String, asked: String| {
            Err(Error::Differs {
                topic: self.name.clone(),
                what: what.to_owned(),
                is,
                asked,
            })
        };
        let partitions = found.partitions.len();
        if let Some(asked) = self.partitions
            && usize::from(asked) != partitions
        {
            return differs("partitions", partitions.to_string(), asked.to_string());
        }
        if let Some(asked) = self.replicas {
            let mut replicas = found.partitions.iter().map(|one| one.replicas.len());
            if let Some(is) = replicas.find(|is| *is != usize::from(asked)) {
                return differs("replicas", is.to_string(), asked.to_string());
            }
        }
        for (name, asked) in &self.settings {
            let is = found.settings.get(name);
            if is != Some(asked) {
                let is = is.map_or_else(|| "not known".to_owned(), Clone::clone);
                return differs(name, is, asked.clone());
            }
        }
        Ok(())
    }
}

/// Whether a topic may have that name.
pub(in crate::kafka) fn is_topic(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(fits)
}

/// What became of a topic that was to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// It was made.
    Made,
    /// It was there, as it was asked for.
    Existed,
}

/// A topic as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
    /// All its settings, also those that it has by default. Secrets are empty.
    pub settings: BTreeMap<String, String>,
}

/// A partition as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDescription {
    /// Its number, from 0.
    pub number: i32,
    /// The broker that takes and gives its records; none while one is chosen.
    pub leader: Option<i32>,
    /// The brokers that are to have it.
    pub replicas: Vec<i32>,
    /// Those of them that have all of it.
    pub in_sync: Vec<i32>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(partitions: i32, replicas: &[i32]) -> TopicDescription {
        let partition = |number| PartitionDescription {
            number,
            leader: Some(1),
            replicas: replicas.to_vec(),
            in_sync: replicas.to_vec(),
        };
        TopicDescription {
            name: "orders".to_owned(),
            partitions: (0..partitions).map(partition).collect(),
            settings: BTreeMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
        }
    }

    fn difference(topic: &Topic, found: &TopicDescription) -> Option<(String, String, String)> {
        match topic.compare(found) {
            Ok(()) => None,
            Err(Error::Differs {
                what, is, asked, ..
            }) => Some((what, is, asked)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn row_b7_one_that_exists_is_compared_with_what_was_asked_for_alone() {
        let own = |text: [&str; 3]| Some(text.map(str::to_owned).into());
        let asked = Topic::replicated("orders");
        assert_eq!(difference(&asked, &found(3, &[1, 2, 3])), None);
        assert_eq!(
            difference(&asked, &found(4, &[1, 2, 3])),
            own(["partitions", "4", "3"])
        );
        assert_eq!(
            difference(&asked, &found(3, &[1])),
            own(["replicas", "1", "3"])
        );
        let asked = asked.set("min.insync.replicas", 1);
        assert_eq!(
            difference(&asked, &found(3, &[1, 2, 3])),
            own(["min.insync.replicas", "2", "1"])
        );
        let asked = Topic::named("orders").set("retention.ms", 5);
        assert_eq!(
            difference(&asked, &found(9, &[1])),
            own(["retention.ms", "not known", "5"])
        );
        assert_eq!(difference(&Topic::named("orders"), &found(9, &[1])), None);
    }

    #[test]
    fn a_topic_that_cannot_be_is_refused_by_name() {
        let field = |topic: Topic| match topic.check() {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Topic::named("a b")), "topic");
        assert_eq!(field(Topic::named("")), "topic");
        assert_eq!(field(Topic::named("..")), "topic");
        assert_eq!(field(Topic::named("a".repeat(250))), "topic");
        assert_eq!(field(Topic::named("a").partitions(0)), "partitions");
        assert_eq!(field(Topic::named("a").replicas(0)), "replicas");
        assert!(Topic::named("a".repeat(249)).check().is_ok());
    }
}
