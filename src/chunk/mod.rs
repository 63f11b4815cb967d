//! Chunks: what operators work on.
//!
//! A chunk holds up to [`Chunk::MAX`] elements in columns: the values, and beside them receipts,
//! classes, deadlines, starts, weights, origins and traces. Attributes of neighbours are mostly
//! alike, so a column is a list of runs, and one that no element has is not there at all. Users'
//! closures never see a chunk.
//!
//! # Invariants
//! - All columns have one cell for each value, in the same order.
//! - Elements leave a chunk by being handed on, settled through
//!   [`Context`](crate::operator::Context), forked or merged: never by being forgotten, which would
//!   settle their receipts as abandoned and make [`check`](crate::ledger::StageCounts::check) name
//!   the stage.
//!
//! # Example
//! ```
//! use forebay::chunk::{Chunk, Element};
//!
//! let mut chunk = Chunk::default();
//! chunk.push(Element::new(7));
//! assert_eq!(chunk.values(), [7]);
//! ```

mod blocks;
mod column;
mod columns;
mod meta;
mod origin;
mod origins;
mod queue;
mod scatter;

use crate::receipt::Standing;

pub(crate) use columns::Columns;
pub use meta::{Element, Meta};
pub use origin::{Origin, Originals, Record, TraceContext};
pub(crate) use queue::Queue;
pub(crate) use scatter::ByClass;

/// Elements in columns.
#[derive(Debug)]
pub struct Chunk<T> {
    pub(crate) values: Vec<T>,
    pub(crate) columns: Columns,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        Chunk {
            values: Vec::new(),
            columns: Columns::default(),
        }
    }
}

impl<T> Chunk<T> {
    /// The most elements that travel together.
    pub const MAX: usize = 256;

    /// How many elements it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values in order.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The values in order, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// Adds an element at the end.
    pub fn push(&mut self, element: Element<T>) {
        self.values.push(element.value);
        self.columns.push(element.meta);
    }

    /// Adds an untracked value at the end.
    pub fn push_value(&mut self, value: T) {
        self.values.push(value);
        self.columns.grow(1);
    }

    /// Moves all elements of another chunk to the end of this one.
    pub fn append(&mut self, other: &mut Chunk<T>) {
        if self.values.is_empty() {
            std::mem::swap(&mut self.values, &mut other.values);
        } else {
            self.values.append(&mut other.values);
        }
        self.columns.append(&mut other.columns);
    }

    /// Takes all elements out, one by one. Those not taken when the iterator is dropped are
    /// dropped, and their receipts count as abandoned.
    pub fn drain(&mut self) -> impl Iterator<Item = Element<T>> + '_ {
        let columns = &mut self.columns;
        self.values.drain(..).map(|value| Element {
            value,
            meta: columns.pop().unwrap_or_default(),
        })
    }

    /// Takes all values out, and what is to be told of them apart, in the same order: receipts, classes and
    /// times. Deadlines, weights, origins and traces are dropped. For sinks that settle many together, later: [`settle_chunk`](crate::operator::Context::settle_chunk).
    pub fn split(&mut self) -> (impl Iterator<Item = T> + '_, Chunk<()>) {
        let columns = self.columns.take_receipts();
        let rest = Chunk {
            values: vec![(); columns.len()],
            columns,
        };
        (self.values.drain(..), rest)
    }

    /// Whether settling each of its elements counts: all are tracked, and no source they stand for went
    /// back since. False without elements.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.columns.every(|standing| standing.live)
    }

    /// Whose elements they are: one entry for each source, generation and epoch; none for those that are
    /// not tracked.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let mut found: Vec<Standing> = Vec::new();
        self.columns.receipt.runs().for_each(|run| {
            run.every(|standing| {
                if !found.contains(&standing) {
                    found.push(standing);
                }
                true
            });
        });
        found
    }

    /// The weight of all elements in bytes, where they were weighed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.columns.bytes()
    }

    /// Makes room in one step for that many elements more.
    pub fn reserve(&mut self, count: usize) {
        self.values.reserve(count);
    }
}

impl<T> Extend<Element<T>> for Chunk<T> {
    fn extend<I: IntoIterator<Item = Element<T>>>(&mut self, elements: I) {
        for element in elements {
            self.push(element);
        }
    }
}
