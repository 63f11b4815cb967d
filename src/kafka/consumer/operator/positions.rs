//! The positions that a barrier carries to a transactional sink.

use std::sync::Arc;

use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::consumer::shared::Shared;
use crate::kafka::ffi::is_member;
use crate::kafka::record::TopicPartition;
use crate::sync::lock;

/// The positions of a barrier, and whose they are.
pub(in crate::kafka) struct Positions {
    pub(super) shared: Arc<Shared>,
    pub(super) next: Vec<(TopicPartition, i64)>,
}

impl Positions {
    pub(in crate::kafka) fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (at, next) in &self.next {
            list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*next))?;
        }
        Ok(list)
    }

    pub(in crate::kafka) fn next(&self) -> &[(TopicPartition, i64)] {
        &self.next
    }

    /// The group as it is now; none once the consumer has left it, or was expelled from it.
    ///
    /// Whoever was expelled has no name and no generation until it joins anew, which is after it let go of
    /// its partitions. A commit in a transaction that names neither is taken without a question asked: so
    /// the name is looked at after the rest, which is of the same time or of one before.
    pub(in crate::kafka) fn group(&self) -> Option<ConsumerGroupMetadata> {
        let consumer = lock(&self.shared.consumer).clone()?;
        let group = consumer.group_metadata()?;
        is_member(&consumer).then_some(group)
    }
}
