//! A queue of so many places that refuses what comes when it is full.

use std::collections::VecDeque;

use super::line::Line;
use crate::trace::Item;

pub(super) struct Fifo {
    items: VecDeque<Item>,
    capacity: usize,
}

impl Fifo {
    pub(super) fn new(capacity: usize) -> Fifo {
        Fifo {
            items: VecDeque::new(),
            capacity,
        }
    }
}

impl Line for Fifo {
    fn offer(&mut self, _: u64, item: Item) -> Result<(), Item> {
        if self.items.len() >= self.capacity {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    fn take(&mut self, _: u64) -> Option<Item> {
        self.items.pop_front()
    }
}
