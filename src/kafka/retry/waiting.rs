//! Which records wait to be tried again, by key. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk::Originals;
use crate::kafka::dead_letters::Provenance;
use crate::kafka::record::{Record, TopicPartition};

/// Where a record stood first, and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) at: TopicPartition,
    pub(super) key: Vec<u8>,
    offset: i64,
}

impl Place {
    /// That of a record with a key, and how often it was put aside.
    pub(super) fn of(record: &Record) -> (Option<Place>, u32) {
        let (batch, number) = record.origin();
        let first = Provenance::of(&batch.record(number)).1;
        let count = first.retry_count.unwrap_or(0);
        let place = || {
            Some(Place {
                at: TopicPartition::new(first.topic?, first.partition?),
                key: record.key()?.to_vec(),
                offset: first.offset?,
            })
        };
        (place(), count)
    }
}

/// The offsets of those that wait, by key.
type Waiting = BTreeMap<TopicPartition, BTreeMap<Vec<u8>, BTreeSet<i64>>>;

/// Which records wait to be tried again.
#[derive(Default)]
pub(super) struct Table {
    /// After how many rebalances it was read; none: not yet.
    read_at: Option<u64>,
    waiting: Waiting,
    count: usize,
}

impl Table {
    /// One that is read after so many rebalances.
    pub(super) fn read_after(rebalances: u64) -> Table {
        Table {
            read_at: Some(rebalances),
            ..Table::default()
        }
    }

    /// Whether it was read after the last of so many rebalances.
    pub(super) fn is_of(&self, rebalances: u64) -> bool {
        self.read_at == Some(rebalances)
    }

    /// Whether one of its key before it waits.
    pub(super) fn is_behind(&self, place: &Place) -> bool {
        let of_key = self.waiting.get(&place.at);
        let of_key = of_key.and_then(|keys| keys.get(&place.key));
        of_key.is_some_and(|offsets| offsets.first().is_some_and(|first| *first < place.offset))
    }

    /// It waits from now on. False if that is one too many.
    pub(super) fn wait(&mut self, place: &Place, most: usize) -> bool {
        let keys = self.waiting.entry(place.at.clone()).or_default();
        let offsets = keys.entry(place.key.clone()).or_default();
        if !offsets.contains(&place.offset) {
            if self.count >= most {
                return false;
            }
            offsets.insert(place.offset);
            self.count += 1;
        }
        true
    }

    /// It is done with.
    pub(super) fn leave(&mut self, place: &Place) {
        let Some(keys) = self.waiting.get_mut(&place.at) else {
            return;
        };
        let Some(offsets) = keys.get_mut(&place.key) else {
            return;
        };
        self.count -= usize::from(offsets.remove(&place.offset));
        if offsets.is_empty() {
            keys.remove(&place.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str, offset: i64) -> Place {
        Place {
            at: TopicPartition::new("orders", 0),
            key: key.as_bytes().to_vec(),
            offset,
        }
    }

    #[test]
    fn who_comes_later_follows_who_waits_and_the_first_does_not() {
        let mut table = Table::default();
        assert!(!table.is_behind(&place("a", 5)));
        assert!(table.wait(&place("a", 5), 3));
        assert!(table.is_behind(&place("a", 6)) && !table.is_behind(&place("b", 6)));
        assert!(!table.is_behind(&place("a", 5)), "it comes back itself");
        assert!(
            !table.is_behind(&place("a", 4)),
            "it is an older one, read again"
        );
        assert!(table.wait(&place("a", 6), 3) && table.wait(&place("b", 7), 3));
        assert!(!table.wait(&place("c", 8), 3), "one too many");
        assert!(table.wait(&place("a", 6), 3), "it is there already");
        table.leave(&place("a", 5));
        assert!(!table.is_behind(&place("a", 6)) && table.is_behind(&place("a", 9)));
        table.leave(&place("a", 6));
        table.leave(&place("a", 6));
        assert_eq!(table.count, 1);
        assert!(!table.is_behind(&place("a", 9)));
    }
}
