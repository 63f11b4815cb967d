//! The elements of one class, in columns: as they came in chunks, and leave in chunks.

use std::collections::VecDeque;

use super::{bytes_of, class_of};
use crate::chunk::{Chunk, Element, Queue};
use crate::class::Class;
use crate::control::{Entry, Offer, Store};
use crate::time::Time;

/// Neighbours that were offered alike.
#[derive(Clone, Copy)]
struct Offered {
    since: Time,
    number: u64,
    count: usize,
}

/// The elements of one class.
pub(super) struct Lane<T> {
    elements: Queue<T>,
    offered: VecDeque<Offered>,
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane {
            elements: Queue::default(),
            offered: VecDeque::new(),
        }
    }
}

impl<T> Lane<T> {
    /// Adds all elements, which were parted by class.
    pub(super) fn append(
        lanes: &mut [Lane<T>; Class::COUNT],
        since: Time,
        parts: &mut [Chunk<T>; Class::COUNT],
    ) {
        for (lane, part) in lanes
            .iter_mut()
            .zip(parts)
            .filter(|(_, part)| !part.is_empty())
        {
            lane.note(since, 0, part.len());
            lane.elements.append(part);
        }
    }

    fn note(&mut self, since: Time, number: u64, count: usize) {
        match self.offered.back_mut() {
            Some(last) if last.since == since && last.number == number => last.count += count,
            _ => self.offered.push_back(Offered {
                since,
                number,
                count,
            }),
        }
    }

    /// Moves the first elements to the end of a chunk: no more than were offered alike. Returns their
    /// bytes.
    pub(super) fn take(&mut self, count: usize, out: &mut Chunk<T>) -> u64 {
        let bytes = self.elements.front_bytes(count);
        self.elements.move_front(count, out);
        if let Some(first) = self.offered.front_mut() {
            first.count -= count;
            if first.count == 0 {
                self.offered.pop_front();
            }
        }
        bytes
    }

    /// The deadline of the first element, and how many at the front have the same.
    pub(super) fn first_deadline(&self) -> (Time, usize) {
        self.elements.columns().first_deadline()
    }
}

fn offer(offered: Option<&Offered>, (class, bytes): (Option<Class>, u64)) -> Option<Offer> {
    let class = class.unwrap_or_default();
    offered.map(|offered| Offer::new(class, bytes, offered.since))
}

fn entry<T>(offered: Offered, element: Element<T>) -> Entry<Element<T>> {
    Entry {
        offer: Offer::new(class_of(&element), bytes_of(&element), offered.since),
        number: offered.number,
        payload: element,
    }
}

impl<T> Store<Element<T>> for Lane<T> {
    fn push_back(&mut self, entry: Entry<Element<T>>) {
        self.note(entry.offer.since, entry.number, 1);
        self.elements.push(entry.payload);
    }

    fn pop_front(&mut self) -> Option<Entry<Element<T>>> {
        let offered = self.offered.front_mut()?;
        let first = *offered;
        offered.count -= 1;
        if first.count == 1 {
            self.offered.pop_front();
        }
        self.elements.pop().map(|element| entry(first, element))
    }

    fn pop_back(&mut self) -> Option<Entry<Element<T>>> {
        let offered = self.offered.back_mut()?;
        let last = *offered;
        offered.count -= 1;
        if last.count == 1 {
            self.offered.pop_back();
        }
        self.elements.pop_back().map(|element| entry(last, element))
    }

    fn front(&self) -> Option<Offer> {
        offer(self.offered.front(), self.elements.columns().first())
    }

    fn back(&self) -> Option<Offer> {
        offer(self.offered.back(), self.elements.columns().last())
    }

    fn front_number(&self) -> u64 {
        self.offered.front().map_or(0, |offered| offered.number)
    }

    fn alike(&self) -> usize {
        self.offered.front().map_or(0, |offered| offered.count)
    }
}
