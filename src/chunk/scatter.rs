//! Parting the elements of a chunk by class.

use super::column::{Cells, Column};
use super::columns::repeat;
use super::{Chunk, Columns, Queue};
use crate::class::Class;

/// How many elements of each class, and how many bytes they have.
pub(crate) type ByClass = [(usize, u64); Class::COUNT];

impl<T: 'static> Chunk<T> {
    /// Moves each element to the end of the queue of its class; one without a class counts as
    /// [`Class::default`]. `queue` is the queue in a lane.
    pub(crate) fn scatter<L>(
        &mut self,
        lanes: &mut [L; Class::COUNT],
        queue: impl Fn(&mut L) -> &mut Queue<T> + Copy,
    ) {
        let mut runs = self.columns.classes();
        let (first, another) = (runs.next(), runs.next());
        drop(runs);
        if let (Some((class, _)), None) = (first, another) {
            queue(&mut lanes[class.unwrap_or_default().index()]).append(self);
            return;
        }
        if self.len() > Self::MAX {
            for element in self.drain() {
                let class = element.meta.class.unwrap_or_default();
                queue(&mut lanes[class.index()]).push(element);
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
            let queue = queue(&mut lanes[index]);
            let before = queue.columns.len();
            queue.columns.class.push(before, repeat(class, count));
            queue.values.extend(values.by_ref().take(count));
        }
        drop(values);
        self.columns.class.clear();
        self.columns
            .scatter(&classes[..start], lanes, |lane| &mut queue(lane).columns);
    }
}

impl Columns {
    /// Moves the cells of all columns but the class to the columns of their class, in order.
    fn scatter<L>(
        &mut self,
        classes: &[u8],
        lanes: &mut [L; Class::COUNT],
        of: impl Fn(&mut L) -> &mut Columns + Copy,
    ) {
        let mut counts = [0; Class::COUNT];
        for class in classes {
            counts[usize::from(*class)] += 1;
        }
        let parts = Parts { classes, counts };
        parts.deal(&mut self.receipt, lanes, |lane| {
            let to = of(lane);
            (&mut to.receipt, to.len)
        });
        parts.deal(&mut self.deadline, lanes, |lane| {
            let to = of(lane);
            (&mut to.deadline, to.len)
        });
        parts.deal(&mut self.since, lanes, |lane| {
            let to = of(lane);
            (&mut to.since, to.len)
        });
        parts.deal(&mut self.bytes, lanes, |lane| {
            let to = of(lane);
            (&mut to.bytes, to.len)
        });
        parts.deal(&mut self.origin, lanes, |lane| {
            let to = of(lane);
            (&mut to.origin, to.len)
        });
        parts.deal(&mut self.trace, lanes, |lane| {
            let to = of(lane);
            (&mut to.trace, to.len)
        });
        self.len = 0;
        for (lane, count) in lanes.iter_mut().zip(counts) {
            of(lane).len += count;
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
struct Parts<'a> {
    classes: &'a [u8],
    counts: [usize; Class::COUNT],
}

impl Parts<'_> {
    /// Moves each cell to the lane of its class. `to` is the column there, and how many elements it
    /// had before.
    fn deal<L, C: Cells>(
        &self,
        column: &mut Column<C>,
        lanes: &mut [L; Class::COUNT],
        to: impl Fn(&mut L) -> (&mut Column<C>, usize),
    ) {
        if column.is_absent() {
            for (lane, count) in lanes.iter_mut().zip(self.counts) {
                let (column, len) = to(lane);
                column.grow(len, count);
            }
            return;
        }
        let mut start = 0;
        for run in column.drain() {
            let end = start + run.count();
            run.deal(&self.classes[start..end], |class, cells| {
                let (column, len) = to(&mut lanes[class]);
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
        /// The same as element by element, whatever is in the lanes already.
        #[test]
        fn each_goes_to_the_lane_of_its_class(
            chunks in proptest::collection::vec((
                proptest::collection::vec((prop::option::of(0..4_u8), any::<bool>(), any::<bool>()), 0..300),
                any::<bool>(),
            ), 1..4),
        ) {
            let mut lanes: [Queue<u64>; Class::COUNT] = Default::default();
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
                whole.scatter(&mut lanes, |lane| lane);
                prop_assert!(whole.is_empty() && whole.columns.len() == 0);
            }
            for (lane, expected) in lanes.iter_mut().zip(expected) {
                prop_assert_eq!(lane.len(), expected.len());
                let mut found = Vec::new();
                while let Some(Element { value, meta }) = lane.pop() {
                    found.push((value, meta.class, meta.deadline, meta.bytes));
                }
                prop_assert_eq!(found, expected);
            }
        }
    }
}
