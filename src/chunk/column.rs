//! A column of a chunk: runs of neighbours that are alike.

use std::collections::VecDeque;

use crate::class::Class;
use crate::receipt::Run;

/// Neighbouring cells of a column, stored together.
pub(crate) trait Cells: Sized {
    fn count(&self) -> usize;
    /// Cells of elements that do not have this column.
    fn filler(count: usize) -> Self;
    /// Appends the next cells if they can be stored together; else gives them back.
    fn join(&mut self, next: Self) -> Option<Self>;
    fn split_front(&mut self, count: usize) -> Self;
    /// Those whose place satisfies the predicate, and the others.
    fn partition(self, keep: impl FnMut(usize) -> bool) -> (Option<Self>, Option<Self>);
    /// The cells of each class, in order: `classes` says of each cell which it is of.
    fn deal(self, classes: &[u8], to: impl FnMut(usize, Self));
    /// Moves the first cell to the end of `onto` where that is cheap; says whether it did.
    fn move_first(&mut self, onto: &mut Self) -> bool;
}

/// A value shared by that many neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Repeat<V> {
    pub(super) value: V,
    pub(super) count: usize,
}

/// A value that says itself what an absent one is.
pub(crate) trait Cell: Clone {
    fn absent() -> Self;
    fn same(&self, other: &Self) -> bool;
}

impl<V: Cell> Cells for Repeat<V> {
    fn count(&self) -> usize {
        self.count
    }

    fn filler(count: usize) -> Self {
        Repeat {
            value: V::absent(),
            count,
        }
    }

    fn join(&mut self, next: Self) -> Option<Self> {
        if self.value.same(&next.value) {
            self.count += next.count;
            None
        } else {
            Some(next)
        }
    }

    fn split_front(&mut self, count: usize) -> Self {
        let count = count.min(self.count);
        self.count -= count;
        Repeat {
            value: self.value.clone(),
            count,
        }
    }

    fn partition(self, mut keep: impl FnMut(usize) -> bool) -> (Option<Self>, Option<Self>) {
        let kept = (0..self.count).filter(|place| keep(*place)).count();
        let rest = self.count - kept;
        (
            (kept > 0).then(|| Repeat {
                value: self.value.clone(),
                count: kept,
            }),
            (rest > 0).then_some(Repeat {
                value: self.value,
                count: rest,
            }),
        )
    }

    fn deal(self, classes: &[u8], mut to: impl FnMut(usize, Self)) {
        if let [class] = classes {
            to(usize::from(*class), self);
            return;
        }
        let mut counts = [0; Class::COUNT];
        for class in classes {
            counts[usize::from(*class)] += 1;
        }
        for (class, count) in counts.into_iter().enumerate().filter(|(_, n)| *n > 0) {
            let value = self.value.clone();
            to(class, Repeat { value, count });
        }
    }

    fn move_first(&mut self, onto: &mut Self) -> bool {
        if self.count == 0 || !self.value.same(&onto.value) {
            return false;
        }
        self.count -= 1;
        onto.count += 1;
        true
    }
}

impl Cells for Run {
    fn count(&self) -> usize {
        Run::count(self)
    }

    fn filler(count: usize) -> Self {
        Run::untracked(count)
    }

    fn join(&mut self, next: Self) -> Option<Self> {
        Run::join(self, next)
    }

    fn split_front(&mut self, count: usize) -> Self {
        Run::split_front(self, count)
    }

    fn partition(self, keep: impl FnMut(usize) -> bool) -> (Option<Self>, Option<Self>) {
        Run::partition(self, keep)
    }

    fn deal(self, classes: &[u8], to: impl FnMut(usize, Self)) {
        Run::deal(self, classes, to);
    }

    fn move_first(&mut self, onto: &mut Self) -> bool {
        Run::move_first(self, onto)
    }
}

/// The cells of a chunk's elements in order, or nothing at all where no element has any: then
/// `runs` is empty, whatever the length of the chunk.
#[derive(Debug)]
pub(crate) struct Column<C> {
    runs: VecDeque<C>,
}

impl<C> Default for Column<C> {
    fn default() -> Self {
        Column {
            runs: VecDeque::new(),
        }
    }
}

impl<C: Cells> Column<C> {
    pub(crate) fn is_absent(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = &C> {
        self.runs.iter()
    }

    /// Appends cells to a column of `len` elements.
    pub(crate) fn push(&mut self, len: usize, next: C) {
        self.fill(len);
        self.push_run(next);
    }

    /// Adds cells of elements that do not have this column to one of `len` elements.
    pub(crate) fn grow(&mut self, len: usize, count: usize) {
        if len > 0 && !self.is_absent() {
            self.push_run(C::filler(count));
        }
    }

    fn push_run(&mut self, next: C) {
        if next.count() == 0 {
            return;
        }
        let left = match self.runs.back_mut() {
            Some(last) => last.join(next),
            None => Some(next),
        };
        self.runs.extend(left);
    }

    /// Makes an absent column of `len` elements present.
    fn fill(&mut self, len: usize) {
        if self.runs.is_empty() && len > 0 {
            self.runs.push_back(C::filler(len));
        }
    }

    /// Appends the column of `other_len` elements to this one of `len`.
    pub(crate) fn append(&mut self, len: usize, other: &mut Self, other_len: usize) {
        if other.is_absent() {
            if !self.is_absent() && other_len > 0 {
                self.push_run(C::filler(other_len));
            }
            return;
        }
        if len == 0 && self.is_absent() {
            std::mem::swap(&mut self.runs, &mut other.runs);
            return;
        }
        self.fill(len);
        for run in other.runs.drain(..) {
            let left = match self.runs.back_mut() {
                Some(last) => last.join(run),
                None => Some(run),
            };
            self.runs.extend(left);
        }
    }

    /// Moves the first `count` cells to the end of `onto`, a column of `onto_len` elements.
    pub(crate) fn move_front(&mut self, count: usize, onto: &mut Self, onto_len: usize) {
        if self.is_absent() {
            if !onto.is_absent() && count > 0 {
                onto.push_run(C::filler(count));
            }
            return;
        }
        if count == 1
            && let (Some(first), Some(last)) = (self.runs.front_mut(), onto.runs.back_mut())
            && first.move_first(last)
        {
            self.trim();
            return;
        }
        onto.fill(onto_len);
        let mut left = count;
        while left > 0 {
            let Some(first) = self.runs.front_mut() else {
                break;
            };
            let size = first.count();
            if size <= left {
                left -= size;
                if let Some(run) = self.runs.pop_front() {
                    onto.push_run(run);
                }
            } else {
                onto.push_run(first.split_front(left));
                left = 0;
            }
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.runs.front().is_some_and(|run| run.count() == 0) {
            self.runs.pop_front();
        }
    }

    /// The first cell, taken out; `None` where the column is absent.
    pub(crate) fn pop(&mut self) -> Option<C> {
        let first = self.runs.front_mut()?;
        if first.count() > 1 {
            return Some(first.split_front(1));
        }
        self.runs.pop_front()
    }

    /// The last cell, taken out; `None` where the column is absent.
    pub(crate) fn pop_back(&mut self) -> Option<C> {
        let last = self.runs.back_mut()?;
        if let Some(before) = last.count().checked_sub(1).filter(|before| *before > 0) {
            let kept = last.split_front(before);
            return Some(std::mem::replace(last, kept));
        }
        self.runs.pop_back()
    }

    /// Keeps the cells whose bit is set (the first in the lowest bit of the first word), and moves
    /// the others to `removed`.
    pub(crate) fn retain(&mut self, kept: &[u64], removed: &mut Self) {
        let mut start = 0;
        let runs = std::mem::take(&mut self.runs);
        for run in runs {
            let count = run.count();
            let (keep, rest) = run.partition(|place| {
                let index = start + place;
                kept.get(index / 64)
                    .is_some_and(|word| word & (1 << (index % 64)) != 0)
            });
            if let Some(run) = keep {
                self.push_run(run);
            }
            if let Some(run) = rest {
                removed.push_run(run);
            }
            start += count;
        }
    }

    /// Takes all runs out and keeps the space.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = C> + '_ {
        self.runs.drain(..)
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    pub(crate) fn take_runs(&mut self) -> VecDeque<C> {
        std::mem::take(&mut self.runs)
    }
}
