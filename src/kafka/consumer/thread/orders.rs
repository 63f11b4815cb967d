//! What a user wants of a consumer that runs: to pause, to go on, to read again.

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::patiently;
use super::{PATIENCE, Reader};
use crate::kafka::consumer::partition::Partition;
use crate::kafka::consumer::settings::ReadFrom;
use crate::kafka::consumer::shared::Order;
use crate::kafka::error::Error;
use crate::kafka::record::TopicPartition;

impl Reader<'_> {
    pub(super) fn serve_orders(&mut self) {
        loop {
            let order = self.shared.lock().orders.pop_front();
            let done = match order {
                None => return,
                Some(Order::Pause(places)) => self.pause(&places),
                Some(Order::Resume(places)) => self.resume(&places),
                Some(Order::Replay(places, from)) => self.replay(places, from),
            };
            if let Err(error) = done {
                self.shared.lock().fail(error);
            }
        }
    }

    pub(super) fn pause(&mut self, places: &[TopicPartition]) -> Result<(), Error> {
        let list = self.owned_of(places);
        self.shared.lock().paused.extend(places.iter().cloned());
        if list.count() > 0 {
            self.consumer.pause(&list)?;
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, places: &[TopicPartition]) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let paused: Vec<TopicPartition> = places
            .iter()
            .filter(|place| state.paused.remove(*place))
            .cloned()
            .collect();
        drop(state);
        // One that is not paused would be read twice: the client starts it anew.
        let list = self.owned_of(&paused);
        if list.count() > 0 {
            self.consumer.resume(&list)?;
        }
        Ok(())
    }

    pub(super) fn is_owned(&self, place: &TopicPartition) -> bool {
        let state = self.shared.lock();
        state.partitions.get(place).is_some_and(Partition::is_owned)
    }

    pub(super) fn owned_of(&self, places: &[TopicPartition]) -> TopicPartitionList {
        let state = self.shared.lock();
        let mut list = TopicPartitionList::new();
        for place in places {
            if state.partitions.get(place).is_some_and(Partition::is_owned) {
                list.add_partition(&place.topic, place.partition);
            }
        }
        list
    }

    /// Finds where to go to; the flow goes there, so that what it has handed over is given up first.
    pub(super) fn replay(
        &mut self,
        places: Option<Vec<TopicPartition>>,
        from: ReadFrom,
    ) -> Result<(), Error> {
        let owned: Vec<TopicPartition> = {
            let state = self.shared.lock();
            let owned = state.partitions.iter().filter(|(place, partition)| {
                partition.is_owned() && places.as_ref().is_none_or(|some| some.contains(place))
            });
            owned.map(|(place, _)| place.clone()).collect()
        };
        for (place, offset) in self.offsets(&owned, from)? {
            let to = match offset {
                Offset::Offset(offset) => offset,
                end => {
                    let (topic, number) = (&place.topic, place.partition);
                    let (low, high) =
                        patiently(|| self.consumer.fetch_watermarks(topic, number, PATIENCE))?;
                    if end == Offset::Beginning { low } else { high }
                }
            };
            let mut state = self.shared.lock();
            if let Some(partition) = state.partitions.get_mut(&place) {
                partition.replay_from = Some(to);
            }
            state.wake();
        }
        Ok(())
    }

    /// Goes where the flow said.
    pub(super) fn seek(&mut self) {
        let seeks: Vec<(TopicPartition, i64)> = {
            let mut state = self.shared.lock();
            let seeks = state.owned().filter_map(|partition| {
                let to = partition.seek?;
                Some(((*partition.at).clone(), to))
            });
            seeks.collect()
        };
        for (place, to) in seeks {
            self.unconfirmed.remove(&place);
            self.confirming.remove(&place);
            let (topic, number) = (&place.topic, place.partition);
            let gone = self
                .consumer
                .seek(topic, number, Offset::Offset(to), PATIENCE);
            let mut state = self.shared.lock();
            // It fails as long as the partition is not being fetched: tried again at the next turn.
            if gone.is_ok()
                && let Some(partition) = state.partitions.get_mut(&place)
                && partition.seek == Some(to)
            {
                partition.seek = None;
            }
        }
    }
}
