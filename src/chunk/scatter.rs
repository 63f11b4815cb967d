//! Parting the elements of a chunk by class.

use super::column::{Cells, Column};
use super::columns::repeat;
use super::{Chunk, Columns};
use crate::class::Class;

/// How many elements of each class, and how many bytes they have.
pub(crate) type ByClass = [(usize, u64); Class::COUNT];

impl<T> Chunk<T> {
    /// Moves each element to the end of the part of its class; one without a class counts as
    /// [`Class::default`].
    pub(crate) fn scatter(&mut self, parts: &mut [Chunk<T>; Class::COUNT]) {
        let mut runs = self.columns.classes();
        let (first, another) = (runs.next(), runs.next());
        drop(runs);
        if let (Some((class, _)), None) = (first, another) {
            parts[class.unwrap_or_default().index()].append(self);
            return;
        }
        if self.len() > Self::MAX {
            for element in self.drain() {
                let class = element.meta.class.unwrap_or_default();
                parts[class.index()].push(element);
            }
            return;
        }
        // The class of each element, by its number.
        let mut classes = [0_u8; Chunk::<()>::MAX];
        let mut start = 0;
        let mut values = self.values.drain(..);
        for (class, count) in self.columns.classes() {
            let index = class.unwrap_or_default().index();
            classes[start..start + count].fill(index as u8);
            start += count;
            let part = &mut parts[index];
            let before = part.columns.len();
            part.columns.class.push(before, repeat(class, count));
            part.values.extend(values.by_ref().take(count));
        }
        drop(values);
        self.columns.class.clear();
        self.columns.scatter(&classes[..start], parts);
    }
}

impl Columns {
    /// Moves the cells of all columns but the class to the columns of their class, in order.
    fn scatter<T>(&mut self, classes: &[u8], to: &mut [Chunk<T>; Class::COUNT]) {
        let mut counts = [0; Class::COUNT];
        for class in classes {
            counts[usize::from(*class)] += 1;
        }
        let cells = CellsByClass { classes, counts };
        cells.deal(&mut self.receipt, to, |to| (&mut to.receipt, to.len));
        cells.deal(&mut self.deadline, to, |to| (&mut to.deadline, to.len));
        cells.deal(&mut self.since, to, |to| (&mut to.since, to.len));
        cells.deal(&mut self.bytes, to, |to| (&mut to.bytes, to.len));
        cells.deal(&mut self.origin, to, |to| (&mut to.origin, to.len));
        cells.deal(&mut self.trace, to, |to| (&mut to.trace, to.len));
        self.len = 0;
        for (part, count) in to.iter_mut().zip(counts) {
            part.columns.len += count;
        }
    }

    /// How many elements of each class there are, and their bytes.
    pub(crate) fn by_class(&self) -> ByClass {
        let mut all = [(0, 0); Class::COUNT];
        if self.bytes.is_absent() {
            for (class, count) in self.classes() {
                all[class.unwrap_or_default().index()].0 += count;
            }
            return all;
        }
        for ((class, bytes), count) in super::columns::zip_runs(self.classes(), self.weights()) {
            let (items, sum) = &mut all[class.unwrap_or_default().index()];
            *items += count;
            *sum += bytes * count as u64;
        }
        all
    }
}

/// Which class each cell of a chunk's columns is of.
struct CellsByClass<'a> {
    classes: &'a [u8],
    counts: [usize; Class::COUNT],
}

impl CellsByClass<'_> {
    /// Moves each cell to the part of its class. `of` is the column there, and how many elements it
    /// had before.
    fn deal<T, C: Cells>(
        &self,
        column: &mut Column<C>,
        parts: &mut [Chunk<T>; Class::COUNT],
        of: impl Fn(&mut Columns) -> (&mut Column<C>, usize),
    ) {
        if column.is_absent() {
            for (part, count) in parts.iter_mut().zip(self.counts) {
                let (column, len) = of(&mut part.columns);
                column.grow(len, count);
            }
            return;
        }
        let mut start = 0;
        for run in column.drain() {
            let end = start + run.count();
            run.deal(&self.classes[start..end], |class, cells| {
                let (column, len) = of(&mut parts[class].columns);
                column.push(len, cells);
            });
            start = end;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Element;
    use super::*;
    use crate::time::Time;

    /// Value, class, deadline, bytes.
    type Seen = (u64, Option<Class>, Time, u64);

    /// Class, whether it has a deadline, whether it was weighed.
    type Kind = (Option<u8>, bool, bool);

    fn chunk(kinds: &[Kind], first: u64) -> Chunk<u64> {
        let mut chunk = Chunk::default();
        for (n, (class, deadline, bytes)) in kinds.iter().enumerate() {
            let n = first + n as u64;
            let mut element = Element::new(n);
            element.meta.class = class.and_then(Class::new);
            if *deadline {
                element.meta.deadline = Time::ZERO + Duration::from_millis(n);
            }
            if *bytes {
                element.meta.bytes = n;
            }
            chunk.push(element);
        }
        chunk
    }

    proptest! {
        /// The same as element by element, whatever is in the parts already.
        #[test]
        fn each_goes_to_the_part_of_its_class(
            chunks in proptest::collection::vec((
                proptest::collection::vec((prop::option::of(0..4_u8), any::<bool>(), any::<bool>()), 0..300),
                any::<bool>(),
            ), 1..4),
        ) {
            let mut parts: [Chunk<u64>; Class::COUNT] = Default::default();
            let mut expected: [Vec<Seen>; Class::COUNT] = Default::default();
            let mut first = 0;
            for (mut kinds, bare) in chunks {
                if bare {
                    // Columns that no element has.
                    for kind in &mut kinds {
                        *kind = (kind.0, false, false);
                    }
                }
                let mut whole = chunk(&kinds, first);
                let mut counted: ByClass = [(0, 0); Class::COUNT];
                for element in chunk(&kinds, first).drain() {
                    let meta = element.meta;
                    let at = meta.class.unwrap_or_default().index();
                    counted[at].0 += 1;
                    counted[at].1 += meta.bytes;
                    expected[at].push((element.value, meta.class, meta.deadline, meta.bytes));
                }
                first += kinds.len() as u64;
                prop_assert_eq!(whole.columns.by_class(), counted);
                whole.scatter(&mut parts);
                prop_assert!(whole.is_empty() && whole.columns.len() == 0);
            }
            for (part, expected) in parts.iter_mut().zip(expected) {
                prop_assert_eq!(part.columns.len(), expected.len());
                let seen = |Element { value, meta }| (value, meta.class, meta.deadline, meta.bytes);
                let found: Vec<Seen> = part.drain().map(seen).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
