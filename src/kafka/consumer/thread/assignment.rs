//! Partitions that come, and where they are begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{assign, patiently, places};
use super::{A_MOMENT, Intake, PATIENCE, Reader};
use crate::kafka::consumer::partition::Partition;
use crate::kafka::consumer::settings::ReadFrom;
use crate::kafka::error::Error;
use crate::kafka::ffi::PartitionQueue;
use crate::kafka::record::{TopicPartition, Writer};

impl Reader<'_> {
    pub(super) fn assigned(&mut self, mut list: TopicPartitionList) -> Result<(), Error> {
        let places = places(&list);
        self.begin(&mut list, &places)?;
        let mut paused = TopicPartitionList::new();
        for place in &places {
            let at = Arc::new(place.clone());
            let wakes = thread::current();
            let (topic, number) = (&place.topic, place.partition);
            // Before the assignment: then nothing comes out where all partitions do.
            let Some(queue) = PartitionQueue::split(&self.consumer, topic, number, wakes) else {
                return Err(Error::UnknownTopic {
                    topic: topic.to_string(),
                });
            };
            let writer = Writer::new(Arc::clone(&at));
            self.intakes.insert(place.clone(), Intake { queue, writer });
            let mut state = self.shared.lock();
            if state.paused.contains(place) {
                paused.add_partition(&place.topic, place.partition);
            }
            match state.partitions.get_mut(place) {
                Some(partition) => partition.assign(),
                None => {
                    let lane = state.lane_of(place);
                    let accounts = state.lanes.get(lane).and_then(|lane| lane.accounts.clone());
                    let Some(accounts) = accounts else {
                        continue;
                    };
                    let partition = Partition::new(at, lane, accounts.tracker());
                    state.partitions.insert(place.clone(), partition);
                }
            }
        }
        assign(&self.consumer, &list)?;
        if paused.count() > 0 {
            self.consumer.pause(&paused)?;
        }
        self.ask_for_committed(&places);
        let mut state = self.shared.lock();
        state.counts.rebalances += 1;
        state.wake();
        Ok(())
    }

    /// Asks what the group has committed of these, so that their lag is known before a record comes. Nothing
    /// else depends on it.
    pub(super) fn ask_for_committed(&self, places: &[TopicPartition]) {
        let mut list = TopicPartitionList::new();
        for place in places {
            list.add_partition(&place.topic, place.partition);
        }
        if list.count() == 0 {
            return;
        }
        let Ok(list) = self.consumer.committed_offsets(list, A_MOMENT) else {
            return;
        };
        let begins = self.shared.settings.start.from == ReadFrom::Committed;
        let mut state = self.shared.lock();
        for element in list.elements() {
            let place = TopicPartition::new(element.topic(), element.partition());
            if let (Offset::Offset(next), Some(partition)) =
                (element.offset(), state.partitions.get_mut(&place))
            {
                partition.was_committed(next, begins);
            }
        }
    }

    /// Where partitions are begun that this process has for the first time.
    pub(super) fn begin(
        &mut self,
        list: &mut TopicPartitionList,
        places: &[TopicPartition],
    ) -> Result<(), Error> {
        let from = self.shared.settings.start.from;
        let known = |place: &&TopicPartition| !self.shared.lock().partitions.contains_key(*place);
        let new: Vec<TopicPartition> = places.iter().filter(known).cloned().collect();
        let at_first = self.partitions_at_first()?;
        let is_grown = |place: &TopicPartition| {
            let count = at_first.get(&*place.topic).copied().unwrap_or(0);
            matches!(from, ReadFrom::Committed | ReadFrom::Latest) && place.partition >= count
        };
        let (grown, old): (Vec<_>, Vec<_>) = new.into_iter().partition(is_grown);
        for (place, offset) in self.offsets(&grown, ReadFrom::Committed)? {
            // What was written before anybody had noticed it came after all that was there at first.
            let offset = match offset {
                Offset::Stored => Offset::Beginning,
                committed => committed,
            };
            list.set_partition_offset(&place.topic, place.partition, offset)?;
        }
        if from == ReadFrom::Committed {
            return Ok(());
        }
        for (place, offset) in self.offsets(&old, from)? {
            list.set_partition_offset(&place.topic, place.partition, offset)?;
        }
        Ok(())
    }

    /// Asks for the number of partitions of each topic, the first time.
    pub(super) fn partitions_at_first(&mut self) -> Result<&BTreeMap<String, i32>, Error> {
        if self.at_first.is_none() {
            let metadata = patiently(|| self.consumer.fetch_metadata(None, PATIENCE))?;
            let topics = metadata.topics().iter();
            let counts = topics.map(|topic| {
                let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
                (topic.name().to_owned(), count)
            });
            self.at_first = Some(counts.collect());
        }
        Ok(self.at_first.get_or_insert_default())
    }

    /// Where that is in each of the partitions.
    pub(super) fn offsets(
        &self,
        places: &[TopicPartition],
        from: ReadFrom,
    ) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let all = |offset: Offset| places.iter().cloned().map(|at| (at, offset)).collect();
        let mut list = TopicPartitionList::new();
        let found = match from {
            ReadFrom::Earliest => return Ok(all(Offset::Beginning)),
            ReadFrom::Latest => return Ok(all(Offset::End)),
            ReadFrom::Offset(offset) => return Ok(all(Offset::Offset(offset))),
            ReadFrom::Time(at) => {
                for place in places {
                    let (topic, number) = (&place.topic, place.partition);
                    list.add_partition_offset(topic, number, Offset::Offset(at))?;
                }
                patiently(|| self.consumer.offsets_for_times(list.clone(), PATIENCE))?
            }
            ReadFrom::Committed => {
                for place in places {
                    list.add_partition(&place.topic, place.partition);
                }
                patiently(|| self.consumer.committed_offsets(list.clone(), PATIENCE))?
            }
        };
        let offset = |offset| match offset {
            // Nothing is so late, or was committed.
            Offset::Invalid => Offset::Stored,
            offset => offset,
        };
        let offsets = found.elements();
        let offsets = offsets.iter().map(|one| {
            let place = TopicPartition::new(one.topic(), one.partition());
            (place, offset(one.offset()))
        });
        Ok(offsets.collect())
    }
}
