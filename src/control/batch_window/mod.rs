//! When a group of elements is closed: by their number, their bytes, or the time since the first.
//!
//! # Invariants
//! - A group has at least one element and at most `items`; its bytes are at most `bytes`, unless one
//!   element alone has more; all its elements arrived less than `within` after its first.
//! - A group is closed no sooner than one of the three is reached, or the next element would exceed
//!   its bytes, or it is [flushed](BatchWindow::flush).
//! - Time counts from the first element of each group: what an earlier group set going does not
//!   matter to a later one.
//! - Who takes in no more than [`BatchWindow::room`] allows never holds more than twice `items`: one
//!   closed group that waits for demand, and the one that gathers behind it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// When a group is closed: whichever is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    items: usize,
    bytes: u64,
    within: Duration,
}

impl BatchLimits {
    /// At most that many elements (0 counts as 1), and no later than that long after the first.
    #[must_use]
    pub fn new(items: usize, within: Duration) -> BatchLimits {
        BatchLimits {
            items: items.max(1),
            bytes: u64::MAX,
            within,
        }
    }

    /// At most that many elements, however long it takes.
    #[must_use]
    pub fn items(items: usize) -> BatchLimits {
        BatchLimits::new(items, Duration::MAX)
    }

    /// At most that many bytes as well; an element that alone has more is a group of its own.
    /// 0 counts as 1. Default: no limit.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> BatchLimits {
        self.bytes = bytes.max(1);
        self
    }

    /// The most elements of a group.
    #[must_use]
    pub fn max_items(&self) -> usize {
        self.items
    }

    /// The most bytes of a group; `u64::MAX` if they are not limited.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.bytes
    }

    /// How long after its first element a group is closed; [`Duration::MAX`] if never.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.within
    }
}

impl From<(usize, Duration)> for BatchLimits {
    fn from((items, within): (usize, Duration)) -> Self {
        BatchLimits::new(items, within)
    }
}

/// How much may be taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Elements.
    pub items: usize,
    /// Bytes: more only as the first element.
    pub bytes: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Size {
    items: usize,
    bytes: u64,
}

/// Cuts a sequence of elements into groups. It knows their sizes alone; whoever asks it holds them.
#[derive(Clone, Debug)]
pub struct BatchWindow {
    limits: BatchLimits,
    /// Closed groups, oldest first.
    closed: VecDeque<Size>,
    /// The group that gathers; no group while it has no element.
    open: Size,
    /// When the first element of the open group arrived.
    opened_at: Time,
    total: Size,
}

impl BatchWindow {
    /// Holds nothing.
    #[must_use]
    pub fn new(limits: BatchLimits) -> BatchWindow {
        BatchWindow {
            limits,
            closed: VecDeque::new(),
            open: Size::default(),
            opened_at: Time::ZERO,
            total: Size::default(),
        }
    }

    /// Cuts groups by other limits from now on. The open group is closed if it has as much as they
    /// allow; closed ones stay as they are.
    pub fn set_limits(&mut self, limits: BatchLimits) {
        self.limits = limits;
        if self.open.items >= limits.items || self.open.bytes >= limits.bytes {
            self.flush();
        }
    }

    /// That many elements of so many bytes each arrive, behind all others.
    pub fn arrive(&mut self, now: Time, count: usize, bytes: u64) {
        self.tick(now);
        let mut left = count;
        while left > 0 {
            let fit = self.fit(bytes).min(left);
            if fit == 0 {
                self.flush();
                continue;
            }
            if self.open.items == 0 {
                self.opened_at = now;
            }
            let more = bytes.saturating_mul(fit as u64);
            self.open.items += fit;
            self.open.bytes = self.open.bytes.saturating_add(more);
            self.total.items += fit;
            self.total.bytes = self.total.bytes.saturating_add(more);
            left -= fit;
            if self.open.items >= self.limits.items || self.open.bytes >= self.limits.bytes {
                self.flush();
            }
        }
    }

    /// How many elements of that size the open group still takes.
    fn fit(&self, bytes: u64) -> usize {
        let items = self.limits.items - self.open.items;
        if self.limits.bytes == u64::MAX {
            return items;
        }
        let left = self.limits.bytes.saturating_sub(self.open.bytes);
        let fit = left
            .checked_div(bytes)
            .map_or(items, |fit| items.min(fit as usize));
        if self.open.items == 0 {
            fit.max(1)
        } else {
            fit
        }
    }

    /// Closes the open group if its time is up.
    pub fn tick(&mut self, now: Time) {
        if self.deadline().is_some_and(|at| now >= at) {
            self.flush();
        }
    }

    /// Closes the open group, if it has an element, whatever its size: before a mark, before the end.
    pub fn flush(&mut self) {
        if self.open.items > 0 {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
    }

    /// When the open group must be closed: call [`BatchWindow::tick`] then. `None` while there is
    /// nothing to close, or no limit of time.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let timed = self.open.items > 0 && self.limits.within != Duration::MAX;
        timed.then(|| self.opened_at + self.limits.within)
    }

    /// How many closed groups wait.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.closed.len()
    }

    /// The elements of the oldest closed group.
    #[must_use]
    pub fn front(&self) -> Option<usize> {
        self.closed.front().map(|group| group.items)
    }

    /// Hands the oldest closed group on: how many elements it has.
    pub fn emit(&mut self) -> Option<usize> {
        let group = self.closed.pop_front()?;
        self.total.items -= group.items;
        self.total.bytes = self.total.bytes.saturating_sub(group.bytes);
        Some(group.items)
    }

    /// How much may be taken in while that many groups are asked for. Without demand: what fits into
    /// the open group, as long as no more than one closed group waits.
    #[must_use]
    pub fn room(&self, wanted: usize) -> Room {
        let groups = match wanted.saturating_sub(self.closed.len()) {
            0 if self.closed.len() <= 1 => 1,
            0 => return Room { items: 0, bytes: 0 },
            // With a limit of bytes nobody knows how many groups the elements will make.
            _ if self.limits.bytes != u64::MAX => 1,
            groups => groups,
        };
        Room {
            items: self.limits.items.saturating_mul(groups) - self.open.items,
            bytes: self.limits.bytes.saturating_sub(match self.limits.bytes {
                u64::MAX => 0,
                _ => self.open.bytes,
            }),
        }
    }

    /// Elements held.
    #[must_use]
    pub fn held_items(&self) -> usize {
        self.total.items
    }

    /// Their bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.total.bytes
    }

    /// Takes elements out: the closure is called for each, oldest first, and gives its bytes if it
    /// stays. A group keeps its time; one that is left without elements is none.
    pub fn retain(&mut self, mut keep: impl FnMut() -> Option<u64>) {
        let mut total = Size::default();
        for group in self
            .closed
            .iter_mut()
            .chain(std::iter::once(&mut self.open))
        {
            let before = std::mem::take(group);
            for bytes in (0..before.items).filter_map(|_| keep()) {
                group.items += 1;
                group.bytes = group.bytes.saturating_add(bytes);
            }
            total.items += group.items;
            total.bytes = total.bytes.saturating_add(group.bytes);
        }
        self.closed.retain(|group| group.items > 0);
        self.total = total;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = BatchWindow::new(self.limits);
    }
}
