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
}

struct Topic {
    name: Arc<str>,
    /// Since it was told last, by kind.
    fresh: [u64; Kind::COUNT],
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
            fresh: [0; Kind::COUNT],
        });
        number
    }

    pub(super) fn count(&mut self, number: u32, kind: Kind, count: u64) {
        if let Some(topic) = self.topics.get_mut(number as usize) {
            topic.fresh[kind as usize] += count;
        }
    }

    /// Tells what was counted since the last time.
    pub(super) fn tell(&mut self, cx: &Context<'_, '_>) {
        for topic in &mut self.topics {
            for (kind, fresh) in Kind::ALL.iter().zip(&mut topic.fresh) {
                if *fresh > 0 {
                    cx.written(&topic.name, *kind, std::mem::take(fresh));
                }
            }
        }
    }
}
