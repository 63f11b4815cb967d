//! What the two sides of a boundary tell each other, beside elements.

use std::collections::VecDeque;

use super::bell::Place;
use crate::error::Stop;
use crate::operator::Control;
use crate::outcome::Reason;

/// Messages that may wait for the producer.
const CONTROLS: usize = 64;

/// Behind the lock of a boundary.
#[derive(Default)]
pub(super) struct Link {
    /// The producer, who waits for free places; and who must learn of a message or a consumer that
    /// left, whatever it waits for.
    pub(super) producer: Place,
    /// The consumer, who waits for elements.
    pub(super) consumer: Place,
    /// No more will come.
    pub(super) done: bool,
    /// The consumer wants no more.
    pub(super) cancelled: bool,
    /// Why, where there is more to say than that it was not wanted.
    pub(super) cancelled_for: Option<Reason>,
    /// Why the producer ended, if that was an error.
    pub(super) stop: Option<Stop>,
    controls: VecDeque<Control>,
}

impl Link {
    /// The producer ends.
    pub(super) fn end(&mut self, stop: Option<Stop>) {
        self.done = true;
        if let Some(stop) = stop {
            self.stop.get_or_insert(stop);
        }
    }

    /// The consumer leaves.
    pub(super) fn cancel(&mut self, why: Option<Reason>) {
        self.cancelled = true;
        self.cancelled_for = why;
    }

    /// A message for upstream.
    pub(super) fn send(&mut self, control: Control) {
        if self.controls.len() < CONTROLS {
            self.controls.push_back(control);
        }
    }

    /// The next message.
    pub(super) fn take_control(&mut self) -> Option<Control> {
        self.controls.pop_front()
    }
}
