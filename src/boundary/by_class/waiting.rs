//! What waits with the producer for room: in order, and nobody of a class passes another.

use std::collections::VecDeque;

use super::{bytes_of, class_of};
use crate::chunk::Element;
use crate::class::Class;
use crate::operator::Held;
use crate::time::Time;

/// An element for which there was no room.
pub(super) struct Waiter<T> {
    pub(super) element: Element<T>,
    pub(super) since: Time,
    pub(super) until: Time,
}

/// Those that wait, by class.
pub(super) struct Waiting<T> {
    lanes: [VecDeque<Waiter<T>>; Class::COUNT],
    held: Held,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting {
            lanes: std::array::from_fn(|_| VecDeque::new()),
            held: Held::NONE,
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.held.items == 0
    }

    /// How many there are, and how many bytes they have.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Whether one of that class waits.
    pub(super) fn holds(&self, class: Class) -> bool {
        !self.lanes[class.index()].is_empty()
    }

    /// Adds one behind those of its class.
    pub(super) fn push(&mut self, waiter: Waiter<T>) {
        self.held.items += 1;
        self.held.bytes += bytes_of(&waiter.element);
        self.lanes[class_of(&waiter.element).index()].push_back(waiter);
    }

    /// When the first of those that wait has waited enough.
    pub(super) fn first_until(&self) -> Option<Time> {
        // Those of a class wait equally long: the first came first.
        let fronts = self.lanes.iter().filter_map(VecDeque::front);
        fronts.map(|waiter| waiter.until).min()
    }

    /// Offers those that wait once more, the dearest first. `offer` gives back what goes on waiting,
    /// and with it all of its class do.
    pub(super) fn retry(&mut self, mut offer: impl FnMut(Waiter<T>) -> Option<Waiter<T>>) {
        for lane in &mut self.lanes {
            while let Some(waiter) = lane.pop_front() {
                let bytes = bytes_of(&waiter.element);
                if let Some(waiter) = offer(waiter) {
                    lane.push_front(waiter);
                    break;
                }
                self.held.items -= 1;
                self.held.bytes -= bytes;
            }
        }
    }

    /// Takes out those for which the closure says so.
    pub(super) fn remove(
        &mut self,
        mut is_out: impl FnMut(&Element<T>) -> bool,
        mut out: impl FnMut(Element<T>),
    ) {
        for lane in &mut self.lanes {
            for _ in 0..lane.len() {
                let Some(waiter) = lane.pop_front() else {
                    break;
                };
                if is_out(&waiter.element) {
                    self.held.items -= 1;
                    self.held.bytes -= bytes_of(&waiter.element);
                    out(waiter.element);
                } else {
                    lane.push_back(waiter);
                }
            }
        }
    }
}
