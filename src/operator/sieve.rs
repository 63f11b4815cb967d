//! Running user code over the values of a chunk, and taking out the elements that do not stay.
//!
//! A bit says of each element whether it stays; those that go are settled in one step, and where all
//! stay nothing is moved. An element on which the code panicked goes as failed, and the others go on.

use super::{Context, guard};
use crate::chunk::{Chunk, Columns};
use crate::outcome::{Outcome, Reason};

/// Which elements of a chunk stay, the first in the lowest bit of the first word.
#[derive(Default, Debug)]
pub(super) struct Sieve {
    kept: Vec<u64>,
    /// The places of the elements on which user code panicked, in order.
    panicked: Vec<usize>,
}

impl Sieve {
    fn clear(&mut self, len: usize) {
        self.kept.clear();
        self.kept.resize(len.div_ceil(64), 0);
        self.panicked.clear();
    }

    /// Runs user code on each value, which says whether the element stays.
    pub(super) fn run<T>(&mut self, values: &mut [T], mut keep: impl FnMut(&mut T) -> bool) {
        self.clear(values.len());
        let (kept, count) = (&mut self.kept, values.len());
        let mut rest = values.iter_mut().enumerate();
        loop {
            let ran = guard(|| {
                for (place, value) in rest.by_ref() {
                    kept[place / 64] |= u64::from(keep(value)) << (place % 64);
                }
            });
            if ran.is_ok() {
                return;
            }
            self.panicked.push(count - rest.len() - 1);
        }
    }

    /// Runs user code on each value, which makes another of it or leaves the element out.
    pub(super) fn run_into<T, U>(
        &mut self,
        values: &mut Vec<T>,
        out: &mut Vec<U>,
        mut make: impl FnMut(T) -> Option<U>,
    ) {
        self.clear(values.len());
        let (kept, count) = (&mut self.kept, values.len());
        let mut rest = values.drain(..).enumerate();
        loop {
            let ran = guard(|| {
                for (place, value) in rest.by_ref() {
                    let made = make(value);
                    kept[place / 64] |= u64::from(made.is_some()) << (place % 64);
                    out.extend(made);
                }
            });
            if ran.is_ok() {
                return;
            }
            self.panicked.push(count - rest.len() - 1);
        }
    }

    /// Runs of neighbours that stay or go.
    pub(super) fn select(&mut self, len: usize, runs: impl Iterator<Item = (bool, usize)>) {
        self.clear(len);
        let mut place = 0;
        for (keep, count) in runs {
            if keep {
                (place..place + count).for_each(|place| self.kept[place / 64] |= 1 << (place % 64));
            }
            place += count;
        }
    }

    fn left(&self) -> usize {
        self.kept
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Takes those that go out of the chunk and settles them.
    pub(super) fn settle<T>(
        &self,
        cx: &mut Context<'_, '_>,
        chunk: &mut Chunk<T>,
        outcome: Outcome,
    ) {
        if self.left() == chunk.len() {
            return;
        }
        let mut place = 0;
        chunk.values.retain(|_| {
            let keep = self.kept[place / 64] & (1 << (place % 64)) != 0;
            place += 1;
            keep
        });
        self.settle_columns(cx, &mut chunk.columns, outcome);
    }

    /// The same for columns whose values are gone already.
    pub(super) fn settle_columns(
        &self,
        cx: &mut Context<'_, '_>,
        columns: &mut Columns,
        outcome: Outcome,
    ) {
        let left = self.left();
        if left == columns.len() {
            return;
        }
        let mut removed = columns.retain(&self.kept, left);
        if !self.panicked.is_empty() {
            let mut others = vec![u64::MAX; removed.len().div_ceil(64)];
            for place in &self.panicked {
                let rank = place - self.kept_before(*place);
                others[rank / 64] &= !(1 << (rank % 64));
            }
            let mut failed = removed.retain(&others, removed.len() - self.panicked.len());
            cx.settle_columns(&mut failed, Outcome::Failed(Reason::Panicked));
        }
        cx.settle_columns(&mut removed, outcome);
    }

    fn kept_before(&self, place: usize) -> usize {
        let whole: u32 = self.kept[..place / 64]
            .iter()
            .map(|word| word.count_ones())
            .sum();
        let part = self.kept[place / 64] & ((1 << (place % 64)) - 1);
        (whole + part.count_ones()) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_stays_and_what_panicked_is_told_apart(
            verdicts in proptest::collection::vec(0..3_u8, 0..300),
        ) {
            let mut sieve = Sieve::default();
            let mut values: Vec<(usize, u8)> = verdicts.iter().copied().enumerate().collect();
            let judge = |verdict: u8| match verdict {
                0 => false,
                1 => true,
                _ => std::panic::resume_unwind(Box::new("as planned")),
            };
            sieve.run(&mut values, |(_, verdict)| judge(*verdict));
            let place_of = |wanted: u8| {
                values.iter().filter(move |(_, verdict)| *verdict == wanted).map(|(place, _)| *place)
            };
            prop_assert_eq!(&sieve.panicked, &place_of(2).collect::<Vec<_>>());
            prop_assert_eq!(sieve.left(), place_of(1).count());
            for (place, _) in &values {
                let before = place_of(1).filter(|kept| kept < place).count();
                prop_assert_eq!(sieve.kept_before(*place), before);
            }
            let kept: Vec<usize> = place_of(1).collect();
            let mut out = Vec::new();
            sieve.run_into(&mut values, &mut out, |(place, verdict)| judge(verdict).then_some(place));
            prop_assert_eq!(out, kept);
        }
    }
}
