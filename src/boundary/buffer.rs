//! How a buffer is declared: its capacity, and what happens when it is full.

use crate::chunk::Chunk;
use crate::outcome::Reason;

/// What a full buffer does with what comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// Asks for no more until there is room: the stages before slow down.
    #[default]
    Backpressure,
    /// Gives up its oldest elements.
    DropHead,
    /// Gives up its youngest element for the arriving one.
    DropTail,
    /// Gives up the arriving element.
    DropNew,
    /// Gives up all it holds, and takes the arriving element.
    DropBuffer,
    /// Stops the run.
    Fail,
}

impl WhenFull {
    pub(crate) fn reason(self) -> Reason {
        match self {
            WhenFull::Backpressure => Reason::Plain,
            WhenFull::DropHead => Reason::DropHead,
            WhenFull::DropTail => Reason::DropTail,
            WhenFull::DropNew => Reason::DropNew,
            WhenFull::DropBuffer => Reason::DropBuffer,
            WhenFull::Fail => Reason::Overflow,
        }
    }

    /// Whether it gives elements up.
    #[must_use]
    pub fn sheds(self) -> bool {
        !matches!(self, WhenFull::Backpressure | WhenFull::Fail)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            WhenFull::Backpressure => "back-pressure",
            WhenFull::DropHead => "drop-head",
            WhenFull::DropTail => "drop-tail",
            WhenFull::DropNew => "drop-new",
            WhenFull::DropBuffer => "drop-buffer",
            WhenFull::Fail => "fail",
        }
    }
}

/// A bounded buffer: how many elements, how many bytes, and what happens when it is full.
///
/// A number is a buffer of that many elements with back-pressure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    pub(crate) items: usize,
    pub(crate) bytes: u64,
    pub(crate) when_full: WhenFull,
}

impl Buffer {
    /// A buffer of at most that many elements; 0 counts as 1. Any number of bytes, back-pressure.
    #[must_use]
    pub fn items(items: usize) -> Buffer {
        Buffer {
            items: items.max(1),
            bytes: u64::MAX,
            when_full: WhenFull::Backpressure,
        }
    }

    /// At most that many bytes as well, where elements are weighed. One element may exceed them,
    /// alone.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Buffer {
        self.bytes = bytes.max(1);
        self
    }

    /// What happens when it is full.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Buffer {
        self.when_full = when_full;
        self
    }
}

impl Buffer {
    /// How many elements it holds at most. (Building is by [`Buffer::items`].)
    pub(crate) fn capacity(&self) -> usize {
        self.items
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn policy(&self) -> WhenFull {
        self.when_full
    }
}

impl Default for Buffer {
    /// One chunk, with back-pressure.
    fn default() -> Self {
        Buffer::items(Chunk::<()>::MAX)
    }
}

impl From<usize> for Buffer {
    fn from(items: usize) -> Self {
        Buffer::items(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_it_does_and_why_elements_end() {
        let all = [
            (
                WhenFull::Backpressure,
                "back-pressure",
                Reason::Plain,
                false,
            ),
            (WhenFull::DropHead, "drop-head", Reason::DropHead, true),
            (WhenFull::DropTail, "drop-tail", Reason::DropTail, true),
            (WhenFull::DropNew, "drop-new", Reason::DropNew, true),
            (
                WhenFull::DropBuffer,
                "drop-buffer",
                Reason::DropBuffer,
                true,
            ),
            (WhenFull::Fail, "fail", Reason::Overflow, false),
        ];
        for (policy, name, reason, sheds) in all {
            assert_eq!(
                (policy.name(), policy.reason(), policy.sheds()),
                (name, reason, sheds)
            );
        }
    }

    #[test]
    fn a_buffer_is_what_it_was_declared_to_be() {
        let buffer = Buffer::items(7).bytes(90).when_full(WhenFull::DropNew);
        assert_eq!(
            (buffer.capacity(), buffer.capacity_bytes(), buffer.policy()),
            (7, 90, WhenFull::DropNew)
        );
        let plain = Buffer::from(5);
        assert_eq!(
            (plain.capacity(), plain.capacity_bytes(), plain.policy()),
            (5, u64::MAX, WhenFull::Backpressure)
        );
    }

    #[test]
    fn there_is_always_room_for_one() {
        let buffer = Buffer::items(0).bytes(0);
        assert_eq!((buffer.capacity(), buffer.capacity_bytes()), (1, 1));
    }

    #[test]
    fn by_default_it_holds_one_chunk() {
        assert_eq!(Buffer::default(), Buffer::items(Chunk::<()>::MAX));
    }
}
