//! How far a group is behind, as its brokers know it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::topic::TopicDescription;
use crate::kafka::connection::Connection;
use crate::kafka::error::Error;
use crate::kafka::record::TopicPartition;

/// How long the brokers have for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far a group is behind in a partition, by what it has committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLag {
    /// Which partition.
    pub at: TopicPartition,
    /// Its first record that is still there.
    pub begin: i64,
    /// Behind its last record.
    pub end: i64,
    /// The next record that a member would read, if the group has committed any.
    pub committed: Option<i64>,
}

impl GroupLag {
    /// Records that are there and that the group has not committed.
    #[must_use]
    pub fn records(&self) -> u64 {
        let from = self.committed.unwrap_or(self.begin).max(self.begin);
        u64::try_from(self.end - from).unwrap_or(0)
    }
}

/// Asks the brokers. Blocks.
pub(super) fn of(
    connection: &Connection,
    group: &str,
    topic: &TopicDescription,
) -> Result<Vec<GroupLag>, Error> {
    let mut properties = connection.properties();
    properties.put("group.id", group);
    properties.put("enable.auto.commit", false);
    let client: BaseConsumer = properties.checked()?.create()?;
    let mut list = TopicPartitionList::new();
    for partition in &topic.partitions {
        list.add_partition(&topic.name, partition.number);
    }
    let list = patiently(|| client.committed_offsets(list.clone(), PATIENCE))?;
    let name: Arc<str> = topic.name.as_str().into();
    let elements = list.elements();
    let lags = elements.iter().map(|one| {
        let number = one.partition();
        let ask = || client.fetch_watermarks(&topic.name, number, PATIENCE);
        let (begin, end) = patiently(ask)?;
        let committed = match one.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(GroupLag {
            at: TopicPartition::new(Arc::clone(&name), number),
            begin,
            end,
            committed,
        })
    });
    lags.collect()
}

/// Asks once more while a coordinator or a leader moves.
fn patiently<V>(ask: impl Fn() -> Result<V, KafkaError>) -> Result<V, Error> {
    use RDKafkaErrorCode as Code;
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let passes = matches!(
            error.rdkafka_error_code(),
            Some(
                Code::NotCoordinator
                    | Code::CoordinatorLoadInProgress
                    | Code::CoordinatorNotAvailable
                    | Code::WaitingForCoordinator
                    | Code::LeaderNotAvailable
                    | Code::NotLeaderForPartition
            )
        );
        if !passes || Instant::now() >= until {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_no_lag() {
        let lag = |begin, end, committed| {
            let at = TopicPartition::new("orders", 0);
            GroupLag {
                at,
                begin,
                end,
                committed,
            }
            .records()
        };
        assert_eq!(lag(0, 10, None), 10);
        assert_eq!(lag(4, 10, None), 6);
        assert_eq!(lag(4, 10, Some(2)), 6);
        assert_eq!(lag(0, 10, Some(7)), 3);
        assert_eq!(lag(0, 10, Some(10)), 0);
        // The topic was made anew.
        assert_eq!(lag(0, 3, Some(10)), 0);
    }
}
