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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Time goes on, and so many elements of that size arrive, as far as there is room.
        Arrive {
            after_ms: u64,
            count: usize,
            bytes: u64,
        },
        /// Time goes on, and the timer rings if it must.
        Wait {
            after_ms: u64,
        },
        Flush,
        /// Downstream takes up to so many groups.
        Take(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..8_u64, 1..12_usize, 0..9_u64)
                .prop_map(|(after_ms, count, bytes)| Step::Arrive { after_ms, count, bytes }),
            2 => (0..15_u64).prop_map(|after_ms| Step::Wait { after_ms }),
            1 => Just(Step::Flush),
            3 => (1..4_usize).prop_map(Step::Take),
        ];
        proptest::collection::vec(step, 0..80)
    }

    /// An element as the model sees it: when it came, how large it is, whether a flush came before.
    #[derive(Clone, Copy, Debug)]
    struct Seen {
        at: Time,
        bytes: u64,
        flushes: usize,
    }

    proptest! {
        /// The groups are judged by what a group is, not by a second machine of the same make: they
        /// hold all elements in order, none is too large or too late, and none was cut too soon.
        #[test]
        fn groups_are_right_whatever_arrives_and_whenever_it_is_taken(
            steps in steps(),
            items in 1..7_usize,
            bytes in prop_oneof![Just(u64::MAX), 1..20_u64],
            within_ms in prop_oneof![Just(None), (1..12_u64).prop_map(Some)],
        ) {
            let within = within_ms.map_or(Duration::MAX, Duration::from_millis);
            let mut limits = BatchLimits::new(items, within);
            if bytes != u64::MAX {
                limits = limits.bytes(bytes);
            }
            let mut window = BatchWindow::new(limits);
            let mut now = Time::ZERO;
            let mut seen: Vec<Seen> = Vec::new();
            let mut groups: Vec<usize> = Vec::new();
            let mut closed_at: Vec<Time> = Vec::new();
            let mut flushes = 0;
            for step in steps {
                match step {
                    Step::Arrive { after_ms, count, bytes: size } => {
                        now = now + Duration::from_millis(after_ms);
                        for _ in 0..count {
                            if window.room(0).items == 0 {
                                break;
                            }
                            window.arrive(now, 1, size);
                            seen.push(Seen { at: now, bytes: size, flushes });
                        }
                    }
                    Step::Wait { after_ms } => {
                        now = now + Duration::from_millis(after_ms);
                        window.tick(now);
                        prop_assert!(window.deadline().is_none_or(|at| at > now));
                    }
                    Step::Flush => {
                        window.flush();
                        flushes += 1;
                    }
                    Step::Take(count) => {
                        for _ in 0..count {
                            groups.extend(window.emit());
                        }
                    }
                }
                prop_assert!(window.held_items() <= 2 * items, "held {}", window.held_items());
                closed_at.resize(groups.len() + window.ready(), now);
            }
            window.flush();
            groups.extend(std::iter::from_fn(|| window.emit()));
            closed_at.resize(groups.len(), now);
            prop_assert_eq!(window.held_items(), 0);
            prop_assert_eq!(window.held_bytes(), 0);
            let mut rest = &seen[..];
            for (index, (size, closed_at)) in groups.iter().zip(&closed_at).enumerate() {
                prop_assert!(*size > 0, "an empty group");
                let (group, later) = rest.split_at(*size);
                rest = later;
                let weight: u64 = group.iter().map(|one| one.bytes).sum();
                let due = group[0].at + within;
                prop_assert!(*size <= items);
                prop_assert!(weight <= bytes || *size == 1, "{weight} bytes in {size}");
                prop_assert!(group.iter().all(|one| one.at < due), "one came too late for its group");
                let last_group = index + 1 == groups.len();
                let next = later.first();
                let full = *size == items || weight >= bytes;
                let timed = within != Duration::MAX && *closed_at >= due;
                let cut_by_next = next.is_some_and(|next| {
                    weight + next.bytes > bytes
                        || next.flushes > group[0].flushes
                        || (within != Duration::MAX && next.at >= due)
                });
                let flushed = flushes > group[group.len() - 1].flushes;
                prop_assert!(
                    full || timed || cut_by_next || flushed || last_group,
                    "group {index} of {group:?} was cut too soon, before {next:?}"
                );
            }
            prop_assert!(rest.is_empty(), "elements were lost");
        }

        #[test]
        fn a_run_of_alike_elements_is_cut_as_one_by_one(
            runs in proptest::collection::vec((0..40_usize, 0..9_u64), 0..20),
            items in 1..9_usize,
            bytes in prop_oneof![Just(u64::MAX), 1..30_u64],
        ) {
            let mut limits = BatchLimits::items(items);
            if bytes != u64::MAX {
                limits = limits.bytes(bytes);
            }
            let (mut whole, mut single) = (BatchWindow::new(limits), BatchWindow::new(limits));
            for (count, size) in runs {
                whole.arrive(Time::ZERO, count, size);
                (0..count).for_each(|_| single.arrive(Time::ZERO, 1, size));
            }
            whole.flush();
            single.flush();
            prop_assert_eq!(whole.held_bytes(), single.held_bytes());
            loop {
                let (one, other) = (whole.emit(), single.emit());
                prop_assert_eq!(one, other);
                if one.is_none() {
                    break;
                }
            }
        }
    }

    #[test]
    fn time_counts_from_the_first_element_of_each_group() {
        let mut window = BatchWindow::new(BatchLimits::new(2, Duration::from_millis(10)));
        window.arrive(at(0), 1, 0);
        window.arrive(at(9), 1, 0);
        assert_eq!(window.emit(), Some(2), "full");
        window.arrive(at(9), 1, 0);
        window.tick(at(10));
        assert_eq!(
            window.ready(),
            0,
            "the first group's time is nothing to the second"
        );
        assert_eq!(window.deadline(), Some(at(19)));
        window.tick(at(19));
        assert_eq!(window.emit(), Some(1));
        window.tick(at(1000));
        assert_eq!(window.ready(), 0, "no empty groups");
    }

    #[test]
    fn an_element_that_does_not_fit_begins_the_next_group() {
        let mut window = BatchWindow::new(BatchLimits::items(100).bytes(10));
        for bytes in [4, 6, 7, 4, 11, 3] {
            window.arrive(Time::ZERO, 1, bytes);
        }
        window.flush();
        let groups: Vec<usize> = std::iter::from_fn(|| window.emit()).collect();
        assert_eq!(groups, [2, 1, 1, 1, 1], "4+6, 7, 4, 11 alone, 3");
    }

    #[test]
    fn nothing_more_is_taken_in_behind_two_closed_groups() {
        let mut window = BatchWindow::new(BatchLimits::items(3));
        window.arrive(Time::ZERO, 3, 0);
        assert_eq!(
            window.room(0).items,
            3,
            "the next may gather behind one that waits"
        );
        window.arrive(Time::ZERO, 3, 0);
        assert_eq!(window.room(0).items, 0);
        assert_eq!(
            window.room(2).items,
            0,
            "what is asked for is there already"
        );
        assert_eq!(window.room(4).items, 6, "two groups more are asked for");
    }

    #[test]
    fn elements_taken_out_leave_no_empty_group_behind() {
        let mut window = BatchWindow::new(BatchLimits::new(2, Duration::from_millis(5)).bytes(100));
        window.arrive(at(0), 5, 7);
        let mut number = 0;
        window.retain(|| {
            number += 1;
            (number == 3).then_some(7)
        });
        assert_eq!((window.held_items(), window.held_bytes()), (1, 7));
        assert_eq!(window.deadline(), None);
        assert_eq!(window.emit(), Some(1));
        assert_eq!(window.emit(), None);
    }
}
