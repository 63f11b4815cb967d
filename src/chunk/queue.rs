//! A first-in first-out store of elements and the marks between them.

use std::collections::VecDeque;

use super::blocks::Blocks;
use super::{Chunk, Columns, Element};
use crate::demand::Demand;
use crate::mark::Mark;

/// What boundaries and gathering operators hold: elements in order, from which any number can be
/// taken at the front, and marks that stay where they were put. It has no bound of its own: whoever
/// holds it has.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    values: Blocks<T>,
    columns: Columns,
    /// Marks, each with the number of elements that must have been taken before it.
    marks: VecDeque<(u64, Mark)>,
    taken: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            values: Blocks::default(),
            columns: Columns::default(),
            marks: VecDeque::new(),
            taken: 0,
        }
    }
}

impl<T> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether there is neither an element nor a mark.
    pub(crate) fn is_blank(&self) -> bool {
        self.values.is_empty() && self.marks.is_empty()
    }

    pub(crate) fn marks(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.columns.bytes()
    }

    /// The weight of the first `count` elements.
    pub(crate) fn front_bytes(&self, count: usize) -> u64 {
        let mut left = count;
        let mut sum = 0_u64;
        for (bytes, run) in self.columns.weights() {
            let some = run.min(left);
            sum = sum.saturating_add(bytes.saturating_mul(some as u64));
            left -= some;
            if left == 0 {
                break;
            }
        }
        sum
    }

    /// The attributes of all.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.values.front()
    }

    /// The elements to be taken before the first mark.
    pub(crate) fn ready(&self) -> usize {
        match self.marks.front() {
            Some((at, _)) => (at - self.taken) as usize,
            None => self.values.len(),
        }
    }

    pub(crate) fn append(&mut self, chunk: &mut Chunk<T>) {
        self.values.append(&mut chunk.values);
        self.columns.append(&mut chunk.columns);
    }

    pub(crate) fn push(&mut self, element: Element<T>) {
        self.values.push_back(element.value);
        self.columns.push(element.meta);
    }

    pub(crate) fn push_mark(&mut self, mark: Mark) {
        self.marks
            .push_back((self.taken + self.values.len() as u64, mark));
    }

    /// Takes the next element; a mark is passed over only by [`Queue::pop_mark`].
    pub(crate) fn pop(&mut self) -> Option<Element<T>> {
        if self.ready() == 0 {
            return None;
        }
        let value = self.values.pop_front()?;
        let meta = self.columns.pop().unwrap_or_default();
        self.taken += 1;
        Some(Element { value, meta })
    }

    /// Takes the mark at the front, if one is next.
    pub(crate) fn pop_mark(&mut self) -> Option<Mark> {
        if self.marks.front().is_some_and(|(at, _)| *at == self.taken) {
            return self.marks.pop_front().map(|(_, mark)| mark);
        }
        None
    }

    /// Moves up to `count` elements, none past the first mark, to the end of a chunk.
    pub(crate) fn move_front(&mut self, count: usize, out: &mut Chunk<T>) -> usize {
        let count = count.min(self.ready());
        if count > 0 {
            self.values.move_front(count, &mut out.values);
            self.columns.move_front(count, &mut out.columns);
            self.taken += count as u64;
        }
        count
    }

    /// Moves what is asked for, none past the first mark, to the end of a chunk.
    pub(crate) fn take(&mut self, want: Demand, out: &mut Chunk<T>) -> usize {
        let mut count = want.items.min(self.ready());
        if want.bytes != u64::MAX {
            let (mut left, mut fits) = (want.bytes, 0);
            for (bytes, run) in self.columns.weights() {
                let some = if bytes == 0 {
                    run
                } else {
                    run.min((left / bytes) as usize)
                };
                left -= bytes * some as u64;
                fits += some;
                if some < run {
                    count = count.min(fits.max(1));
                    break;
                }
            }
        }
        self.move_front(count, out)
    }

    /// Takes the youngest element, and leaves marks behind it where they are in order.
    pub(crate) fn pop_back(&mut self) -> Option<Element<T>> {
        let count = self.values.len().checked_sub(1)?;
        let value = self.values.pop_back()?;
        let meta = self.columns.pop_back().unwrap_or_default();
        let end = self.taken + count as u64;
        for (at, _) in &mut self.marks {
            *at = (*at).min(end);
        }
        Some(Element { value, meta })
    }

    /// Takes up to `count` elements from the front whatever marks lie between; marks stay before
    /// what followed them.
    pub(crate) fn shed_front(&mut self, count: usize, out: &mut Chunk<T>) {
        let count = count.min(self.values.len());
        self.values.move_front(count, &mut out.values);
        self.columns.move_front(count, &mut out.columns);
        self.taken += count as u64;
        for (at, _) in &mut self.marks {
            *at = (*at).max(self.taken);
        }
    }

    /// Takes everything out; the marks are dropped.
    pub(crate) fn take_all(&mut self) -> Chunk<T> {
        let mut chunk = Chunk::default();
        self.marks.clear();
        let all = self.values.len();
        self.move_front(all, &mut chunk);
        chunk
    }

    /// Takes out the elements that `drop` holds for; the others and the marks stay in order.
    pub(crate) fn extract(&mut self, mut drop: impl FnMut(&Element<T>) -> bool) -> Chunk<T> {
        let mut dropped = Chunk::default();
        let mut kept = Queue::default();
        loop {
            if let Some(mark) = self.pop_mark() {
                kept.push_mark(mark);
            } else if let Some(element) = self.pop() {
                if drop(&element) {
                    dropped.push(element);
                } else {
                    kept.push(element);
                }
            } else {
                break;
            }
        }
        *self = kept;
        dropped
    }
}
