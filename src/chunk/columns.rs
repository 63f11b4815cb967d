//! All columns of a chunk but the values. Operators never name a column.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::column::{Cell, Column, Repeat};
use super::meta::{Meta, join_origins, join_traces};
use super::origin::{Originals, TraceContext};
use super::origins::Origins;
use crate::class::Class;
use crate::receipt::{Receipt, Run, Standing};
use crate::time::Time;

/// The metas of consecutive elements, by column. An absent column costs nothing.
#[derive(Default, Debug)]
pub(crate) struct Columns {
    pub(super) len: usize,
    pub(super) receipt: Column<Run>,
    pub(super) class: Column<Repeat<Option<Class>>>,
    pub(super) deadline: Column<Repeat<Time>>,
    pub(super) since: Column<Repeat<Time>>,
    pub(super) bytes: Column<Repeat<u64>>,
    pub(super) origin: Column<Origins>,
    pub(super) trace: Column<Repeat<Option<Arc<TraceContext>>>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({})", self.count())
    }
}

macro_rules! each_pair {
    ($mine:expr, $theirs:expr, |$a:ident, $b:ident| $body:expr) => {{
        {
            let ($a, $b) = (&mut $mine.receipt, &mut $theirs.receipt);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.class, &mut $theirs.class);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.deadline, &mut $theirs.deadline);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.since, &mut $theirs.since);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.bytes, &mut $theirs.bytes);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.origin, &mut $theirs.origin);
            $body
        }
        {
            let ($a, $b) = (&mut $mine.trace, &mut $theirs.trace);
            $body
        }
    }};
}

pub(super) fn repeat<V>(value: V, count: usize) -> Repeat<V> {
    Repeat { value, count }
}

/// The runs of a column of `len` elements, present or not.
fn cells<V: Cell + Copy>(
    column: &Column<Repeat<V>>,
    len: usize,
) -> impl Iterator<Item = (V, usize)> + '_ {
    let none = column.is_absent().then(|| (V::absent(), len));
    column.runs().map(|run| (run.value, run.count)).chain(none)
}

/// Two sequences of runs side by side, as long as the shorter of them.
pub(super) fn zip_runs<A: Copy, B: Copy>(
    mut one: impl Iterator<Item = (A, usize)>,
    mut other: impl Iterator<Item = (B, usize)>,
) -> impl Iterator<Item = ((A, B), usize)> {
    let (mut left, mut right) = (one.next(), other.next());
    std::iter::from_fn(move || {
        loop {
            let ((a, mine), (b, theirs)) = (left?, right?);
            let count = mine.min(theirs);
            left = if mine > count {
                Some((a, mine - count))
            } else {
                one.next()
            };
            right = if theirs > count {
                Some((b, theirs - count))
            } else {
                other.next()
            };
            if count > 0 {
                return Some(((a, b), count));
            }
        }
    })
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds `count` elements that have nothing.
    pub(crate) fn grow(&mut self, count: usize) {
        let len = self.len;
        self.receipt.grow(len, count);
        self.class.grow(len, count);
        self.deadline.grow(len, count);
        self.since.grow(len, count);
        self.bytes.grow(len, count);
        self.origin.grow(len, count);
        self.trace.grow(len, count);
        self.len += count;
    }

    pub(crate) fn push(&mut self, meta: Meta) {
        let len = self.len;
        if !meta.receipt.is_none() || !self.receipt.is_absent() {
            self.receipt.push(len, Run::one(meta.receipt));
        }
        if meta.class.is_some() || !self.class.is_absent() {
            self.class.push(len, repeat(meta.class, 1));
        }
        if meta.deadline != Time::MAX || !self.deadline.is_absent() {
            self.deadline.push(len, repeat(meta.deadline, 1));
        }
        if meta.since != Time::MAX || !self.since.is_absent() {
            self.since.push(len, repeat(meta.since, 1));
        }
        if meta.bytes != 0 || !self.bytes.is_absent() {
            self.bytes.push(len, repeat(meta.bytes, 1));
        }
        if meta.origin.is_some() || !self.origin.is_absent() {
            self.origin.push(len, Origins::one(meta.origin));
        }
        if meta.trace.is_some() || !self.trace.is_absent() {
            self.trace.push(len, repeat(meta.trace, 1));
        }
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Meta> {
        self.len = self.len.checked_sub(1)?;
        Some(Meta {
            receipt: self.receipt.pop().map_or(Receipt::none(), Run::into_single),
            class: self.class.pop().and_then(|cell| cell.value),
            deadline: self.deadline.pop().map_or(Time::MAX, |cell| cell.value),
            since: self.since.pop().map_or(Time::MAX, |cell| cell.value),
            bytes: self.bytes.pop().map_or(0, |cell| cell.value),
            origin: self.origin.pop().and_then(Origins::into_single),
            trace: self.trace.pop().and_then(|cell| cell.value),
        })
    }

    /// The last element, taken out.
    pub(crate) fn pop_back(&mut self) -> Option<Meta> {
        self.len = self.len.checked_sub(1)?;
        Some(Meta {
            receipt: self
                .receipt
                .pop_back()
                .map_or(Receipt::none(), Run::into_single),
            class: self.class.pop_back().and_then(|cell| cell.value),
            deadline: self
                .deadline
                .pop_back()
                .map_or(Time::MAX, |cell| cell.value),
            since: self.since.pop_back().map_or(Time::MAX, |cell| cell.value),
            bytes: self.bytes.pop_back().map_or(0, |cell| cell.value),
            origin: self.origin.pop_back().and_then(Origins::into_single),
            trace: self.trace.pop_back().and_then(|cell| cell.value),
        })
    }

    pub(crate) fn append(&mut self, other: &mut Columns) {
        if self.len == 0 {
            mem::swap(self, other);
            return;
        }
        let (len, more) = (self.len, other.len);
        each_pair!(self, other, |mine, theirs| mine.append(len, theirs, more));
        self.len += mem::take(&mut other.len);
    }

    /// Moves the first `count` elements to the end of `onto`.
    pub(crate) fn move_front(&mut self, count: usize, onto: &mut Columns) {
        let count = count.min(self.len);
        if count == self.len {
            onto.append(self);
            return;
        }
        let len = onto.len;
        each_pair!(self, onto, |mine, theirs| mine
            .move_front(count, theirs, len));
        self.len -= count;
        onto.len += count;
    }

    /// Keeps the `left` elements whose bit is set and returns the others.
    pub(crate) fn retain(&mut self, kept: &[u64], left: usize) -> Columns {
        let mut removed = Columns {
            len: self.len - left,
            ..Columns::default()
        };
        each_pair!(self, removed, |mine, theirs| mine.retain(kept, theirs));
        self.len = left;
        removed
    }

    /// Merges the first `count` elements into one meta: see [`Meta::merge`].
    pub(crate) fn merge_front(&mut self, count: usize) -> Meta {
        let mut part = Columns::default();
        self.move_front(count, &mut part);
        let mut whole = Meta::default();
        for run in part.class.runs() {
            whole.absorb(run.value, Time::MAX, Time::MAX, 0);
        }
        for run in part.deadline.runs() {
            whole.absorb(None, run.value, Time::MAX, 0);
        }
        for run in part.since.runs() {
            whole.absorb(None, Time::MAX, run.value, 0);
        }
        for run in part.bytes.runs() {
            whole.bytes += run.value * run.count as u64;
        }
        let origins = part.origin.runs().flat_map(Origins::each);
        whole.origin = join_origins(origins.flatten().collect());
        whole.trace = join_traces(
            part.trace
                .runs()
                .filter_map(|run| run.value.clone())
                .collect(),
        );
        whole.receipt = Receipt::of_runs(part.receipt.take_runs().into());
        whole
    }

    /// A copy of the elements for each of so many branches: attributes alike, receipts forked.
    pub(crate) fn fork(mut self, branches: usize) -> Vec<Columns> {
        let mut copies: Vec<Columns> = (0..branches).map(|_| self.attributes()).collect();
        for run in self.receipt.take_runs() {
            for (copy, part) in copies.iter_mut().zip(run.fork(branches)) {
                copy.receipt.push(0, part);
            }
        }
        copies
    }

    fn attributes(&self) -> Columns {
        fn copy<V: Cell>(column: &Column<Repeat<V>>) -> Column<Repeat<V>> {
            let mut copy = Column::default();
            for run in column.runs() {
                copy.push(0, repeat(run.value.clone(), run.count));
            }
            copy
        }
        let mut origin = Column::default();
        for run in self.origin.runs() {
            origin.push(0, run.clone());
        }
        Columns {
            len: self.len,
            receipt: Column::default(),
            class: copy(&self.class),
            deadline: copy(&self.deadline),
            since: copy(&self.since),
            bytes: copy(&self.bytes),
            origin,
            trace: copy(&self.trace),
        }
    }

    /// Whether the predicate holds for all the elements stand for, and each of them is tracked.
    pub(crate) fn every(&self, mut holds: impl FnMut(Standing) -> bool) -> bool {
        !self.receipt.is_absent() && self.receipt.runs().all(|run| run.every(&mut holds))
    }

    /// Takes what is needed to settle the elements, and leaves nothing.
    pub(crate) fn take_receipts(&mut self) -> Columns {
        let taken = Columns {
            len: self.len,
            receipt: mem::take(&mut self.receipt),
            class: mem::take(&mut self.class),
            since: mem::take(&mut self.since),
            ..Columns::default()
        };
        self.clear();
        taken
    }

    pub(crate) fn receipts(&mut self) -> &mut Column<Run> {
        &mut self.receipt
    }

    /// Elements by class: runs of (class, how many).
    pub(crate) fn classes(&self) -> impl Iterator<Item = (Option<Class>, usize)> + '_ {
        let none = self.class.is_absent().then_some((None, self.len));
        none.into_iter()
            .chain(self.class.runs().map(|run| (run.value, run.count)))
    }

    /// Elements by their start: runs of (since, how many); nothing if none is known.
    pub(crate) fn sinces(&self) -> impl Iterator<Item = (Time, usize)> + '_ {
        self.since.runs().map(|run| (run.value, run.count))
    }

    /// The class and the bytes of the first element.
    pub(crate) fn first(&self) -> (Option<Class>, u64) {
        let class = self.class.runs().next().and_then(|run| run.value);
        (class, self.bytes.runs().next().map_or(0, |run| run.value))
    }

    /// The class and the bytes of the last element.
    pub(crate) fn last(&self) -> (Option<Class>, u64) {
        let class = self.class.runs().next_back().and_then(|run| run.value);
        let bytes = self.bytes.runs().next_back();
        (class, bytes.map_or(0, |run| run.value))
    }

    /// The deadline of the first element, and how many at the front have the same.
    pub(crate) fn first_deadline(&self) -> (Time, usize) {
        let first = self.deadline.runs().next();
        first.map_or((Time::MAX, self.len), |run| (run.value, run.count))
    }

    /// The earliest deadline.
    pub(crate) fn earliest_deadline(&self) -> Time {
        let deadlines = self.deadline.runs().map(|run| run.value);
        deadlines.min().unwrap_or(Time::MAX)
    }

    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadline.is_absent()
    }

    /// Elements by deadline: runs of (deadline, how many).
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, usize)> + '_ {
        self.deadline.runs().map(|run| (run.value, run.count))
    }

    /// Elements by weight: runs of (bytes, how many).
    pub(crate) fn weights(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.bytes.runs().map(|run| (run.value, run.count))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.weights()
            .map(|(bytes, count)| bytes * count as u64)
            .sum()
    }

    /// Gives all elements of known absence a start.
    pub(crate) fn stamp(&mut self, now: Time) {
        if self.since.is_absent() {
            self.since.push(0, repeat(now, self.len));
        }
    }

    /// Gives the elements their origins: places of batches, each from one to another.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))]
    pub(crate) fn originate(&mut self, ranges: &[(Arc<dyn Originals>, Range<u32>)]) {
        self.origin.clear();
        for (batch, range) in ranges {
            for cells in Origins::range(batch, range.clone()) {
                self.origin.push(0, cells);
            }
        }
    }

    /// Weighs the elements anew, one by one.
    pub(crate) fn weigh(&mut self, weights: impl Iterator<Item = u64>) {
        self.bytes.clear();
        for weight in weights {
            self.bytes.push(0, repeat(weight, 1));
        }
    }

    /// Gives each element a deadline that long after its start, or after `now` where that is not
    /// known; `None` is no deadline. An earlier one it has stands.
    pub(crate) fn limit(
        &mut self,
        now: Time,
        spans: impl Iterator<Item = (Option<Duration>, usize)>,
    ) {
        let len = self.len;
        let until = |since: Time, span: Option<Duration>| {
            let start = if since == Time::MAX { now } else { since };
            span.map_or(Time::MAX, |span| start + span)
        };
        if self.deadline.is_absent() {
            // The space of the column is used again.
            for ((since, span), count) in zip_runs(cells(&self.since, len), spans) {
                self.deadline.push(0, repeat(until(since, span), count));
            }
            return;
        }
        let mut deadlines = Column::default();
        let starts = zip_runs(cells(&self.since, len), cells(&self.deadline, len));
        for (((since, before), span), count) in zip_runs(starts, spans) {
            deadlines.push(0, repeat(until(since, span).min(before), count));
        }
        self.deadline = deadlines;
    }

    /// Elements by size: runs of (bytes, how many). What was never weighed has the size of its value
    /// and of its origin.
    pub(crate) fn sizes(&self, value: usize) -> impl Iterator<Item = (u64, usize)> + '_ {
        let origins = self.origin.runs().flat_map(Origins::lens);
        let none = self.origin.is_absent().then_some((0, self.len));
        zip_runs(cells(&self.bytes, self.len), origins.chain(none)).map(
            move |((bytes, origin), count)| {
                (
                    if bytes == 0 {
                        value as u64 + origin
                    } else {
                        bytes
                    },
                    count,
                )
            },
        )
    }

    /// Classifies each element, in the column and in the account of its source.
    pub(crate) fn classify(&mut self, classes: &[Class]) {
        self.class.clear();
        for class in classes {
            self.class.push(0, repeat(Some(*class), 1));
        }
        let mut start = 0;
        for run in self.receipt.runs() {
            run.classify(|place| classes.get(start + place).copied().unwrap_or_default());
            start += run.count();
        }
    }

    /// Puts the classes of the column into the account of the source.
    pub(crate) fn account_classes(&self) {
        if self.class.is_absent() {
            return;
        }
        let classes: Vec<Option<Class>> = self
            .class
            .runs()
            .flat_map(|run| std::iter::repeat_n(run.value, run.count))
            .collect();
        let mut start = 0;
        for run in self.receipt.runs() {
            run.classify(|place| {
                classes
                    .get(start + place)
                    .copied()
                    .flatten()
                    .unwrap_or_default()
            });
            start += run.count();
        }
    }

    /// Forgets all elements, whose receipts must have been taken out, and keeps the space.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.receipt.clear();
        self.class.clear();
        self.deadline.clear();
        self.since.clear();
        self.bytes.clear();
        self.origin.clear();
        self.trace.clear();
    }
}
