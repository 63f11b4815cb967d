//! What became of records, topic by topic, until it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::operator::Context;
use crate::outcome::Kind;

/// Counts by topic. A topic is known by a number, so that a record on its way need not keep its name.
#[derive(Default)]
pub(super) struct Destinations {
    numbers: BTreeMap<Arc<str>, u32>,
    topics: Vec<Topic>,
    /// The one that was asked for last.
    last: u32,
    /// Those with something to tell.
    fresh: Vec<u32>,
}

struct Topic {
    name: Arc<str>,
    /// Since it was told last, by kind.
    counts: [u64; Kind::COUNT],
    is_fresh: bool,
}

impl Destinations {
    pub(super) fn number(&mut self, name: &Arc<str>) -> u32 {
        let last = self.topics.get(self.last as usize);
        if last.is_none_or(|last| !Arc::ptr_eq(&last.name, name) && last.name != *name) {
            self.last = match self.numbers.get(name) {
                Some(number) => *number,
                None => self.add(name),
            };
        }
        self.last
    }

    fn add(&mut self, name: &Arc<str>) -> u32 {
        let number = self.topics.len() as u32;
        self.numbers.insert(Arc::clone(name), number);
        self.topics.push(Topic {
            name: Arc::clone(name),
            counts: [0; Kind::COUNT],
            is_fresh: false,
        });
        number
    }

    pub(super) fn count(&mut self, number: u32, kind: Kind, count: u64) {
        if let Some(topic) = self.topics.get_mut(number as usize) {
            topic.counts[kind as usize] += count;
            if !std::mem::replace(&mut topic.is_fresh, true) {
                self.fresh.push(number);
            }
        }
    }

    /// Tells what was counted since the last time.
    pub(super) fn tell(&mut self, cx: &Context<'_, '_>) {
        for number in self.fresh.drain(..) {
            let Some(topic) = self.topics.get_mut(number as usize) else {
                continue;
            };
            topic.is_fresh = false;
            for (kind, count) in Kind::ALL.iter().zip(&mut topic.counts) {
                if *count > 0 {
                    cx.count_destination(&topic.name, *kind, std::mem::take(count));
                }
            }
        }
    }
}
