//! A queue for each class, served strictly in order, that refuses what comes when it is full,
//! whatever its class.

use std::collections::VecDeque;

use super::line::Line;
use crate::trace::Item;

pub(super) struct StrictPriority {
    lanes: [VecDeque<Item>; 3],
    capacity: usize,
}

impl StrictPriority {
    pub(super) fn new(capacity: usize) -> StrictPriority {
        StrictPriority {
            lanes: Default::default(),
            capacity,
        }
    }
}

impl Line for StrictPriority {
    fn offer(&mut self, _: u64, item: Item) -> Result<(), Item> {
        if self.lanes.iter().map(VecDeque::len).sum::<usize>() >= self.capacity {
            return Err(item);
        }
        self.lanes[item.rank.index()].push_back(item);
        Ok(())
    }

    fn take(&mut self, _: u64) -> Option<Item> {
        self.lanes.iter_mut().find_map(VecDeque::pop_front)
    }
}
