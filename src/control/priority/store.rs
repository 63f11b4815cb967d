//! How the elements of one class lie.

use std::collections::VecDeque;

use super::{Entry, Offer};
use crate::control::Turn;
use crate::time::Time;

/// The elements of one class, in order.
pub trait Store<P>: Default {
    /// Adds an element behind all others.
    fn push_back(&mut self, entry: Entry<P>);

    /// Takes out the first.
    fn pop_front(&mut self) -> Option<Entry<P>>;

    /// Takes out the last.
    fn pop_back(&mut self) -> Option<Entry<P>>;

    /// What the first was offered as.
    fn front(&self) -> Option<Offer>;

    /// What the last was offered as.
    fn back(&self) -> Option<Offer>;

    /// The first one's place in the order of arrival.
    fn front_number(&self) -> u64;

    /// How many at the front wait since the same time as the first, as far as it is known at once.
    fn alike(&self) -> usize;
}

impl<P> Store<P> for VecDeque<Entry<P>> {
    fn push_back(&mut self, entry: Entry<P>) {
        self.push_back(entry);
    }

    fn pop_front(&mut self) -> Option<Entry<P>> {
        self.pop_front()
    }

    fn pop_back(&mut self) -> Option<Entry<P>> {
        self.pop_back()
    }

    fn front(&self) -> Option<Offer> {
        self.front().map(|entry| entry.offer)
    }

    fn back(&self) -> Option<Offer> {
        self.back().map(|entry| entry.offer)
    }

    fn front_number(&self) -> u64 {
        self.front().map_or(0, |entry| entry.number)
    }

    fn alike(&self) -> usize {
        1
    }
}

/// Turns that are alike.
pub(crate) struct Stretch<'a, S> {
    pub(crate) turn: Turn,
    pub(crate) count: usize,
    /// Since when all of them wait.
    pub(crate) since: Time,
    /// Where they lie, at the front.
    pub(crate) lane: &'a S,
}
