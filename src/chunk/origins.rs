//! The column of origins: those of neighbours that were read together are one cell.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use super::column::{Cell, Cells, Repeat};
use super::origin::{Origin, Originals};
use crate::class::Class;

/// Origins of neighbours.
#[derive(Clone)]
pub(crate) enum Origins {
    /// All have the same, or none.
    Same(Repeat<Option<Origin>>),
    /// Places of a batch, each once and in order.
    Of(Page),
}

/// Places of a batch: 64 neighbours of it, and which of them.
#[derive(Clone)]
pub(crate) struct Page {
    batch: Arc<dyn Originals>,
    base: u32,
    mask: u64,
}

impl Page {
    fn with(&self, mask: u64) -> Option<Page> {
        (mask != 0).then(|| Page {
            batch: Arc::clone(&self.batch),
            base: self.base,
            mask,
        })
    }

    fn places(&self) -> impl Iterator<Item = u32> + use<> {
        let (base, mut mask) = (self.base, self.mask);
        std::iter::from_fn(move || {
            let bit = (mask != 0).then(|| mask.trailing_zeros())?;
            mask &= mask - 1;
            Some(base + bit)
        })
    }

    /// Whether all of these come after all of those, in the same 64 places.
    fn follows(&self, before: &Page) -> bool {
        self.base == before.base
            && self.mask.trailing_zeros() >= u64::BITS - before.mask.leading_zeros()
            && ptr::addr_eq(Arc::as_ptr(&self.batch), Arc::as_ptr(&before.batch))
    }
}

impl Origins {
    pub(super) fn one(origin: Option<Origin>) -> Origins {
        match origin.map(Origin::into_place) {
            Some(Ok((batch, place))) => Origins::Of(Page {
                batch,
                base: place & !63,
                mask: 1 << (place & 63),
            }),
            Some(Err(origin)) => Origins::Same(Repeat {
                value: Some(origin),
                count: 1,
            }),
            None => Origins::filler(1),
        }
    }

    /// Places of a batch as cells.
    pub(super) fn range(
        batch: &Arc<dyn Originals>,
        range: Range<u32>,
    ) -> impl Iterator<Item = Origins> {
        let Range { start: mut at, end } = range;
        std::iter::from_fn(move || {
            let base = at & !63;
            let count = end.checked_sub(at)?.min(64 - (at & 63));
            // None left: 64 places less are no mask.
            let ones = u64::MAX.checked_shr(64 - count)?;
            let mask = ones << (at & 63);
            at += count;
            let batch = Arc::clone(batch);
            Some(Origins::Of(Page { batch, base, mask }))
        })
    }

    pub(super) fn into_single(self) -> Option<Origin> {
        match self {
            Origins::Same(all) => all.value,
            Origins::Of(page) => {
                let place = page.base + page.mask.trailing_zeros();
                Some(Origin::of(page.batch, place))
            }
        }
    }

    /// Each element's.
    pub(super) fn each(&self) -> Vec<Option<Origin>> {
        match self {
            Origins::Same(all) => vec![all.value.clone(); all.count],
            Origins::Of(page) => page
                .places()
                .map(|place| Some(Origin::of(Arc::clone(&page.batch), place)))
                .collect(),
        }
    }

    /// Bytes of payload, and how many neighbours have as many.
    pub(super) fn lens(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        let (same, page) = match self {
            Origins::Same(all) => {
                let len = all.value.as_ref().map_or(0, Origin::len);
                (Some((len as u64, all.count)), None)
            }
            Origins::Of(page) => (None, Some(page)),
        };
        let each = page.into_iter().flat_map(|page| {
            let len = |place| page.batch.payload_len(place) as u64;
            page.places().map(move |place| (len(place), 1))
        });
        same.into_iter().chain(each)
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origins({})", self.count())
    }
}

impl Cell for Option<Origin> {
    fn absent() -> Self {
        None
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(mine), Some(theirs)) => mine.is(theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        }
    }
}

impl Cells for Origins {
    fn count(&self) -> usize {
        match self {
            Origins::Same(all) => all.count(),
            Origins::Of(page) => page.mask.count_ones() as usize,
        }
    }

    fn filler(count: usize) -> Self {
        Origins::Same(Repeat::filler(count))
    }

    fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Origins::Same(mine), Origins::Same(next)) => mine.join(next).map(Origins::Same),
            (Origins::Of(mine), Origins::Of(next)) if next.follows(mine) => {
                mine.mask |= next.mask;
                None
            }
            (_, next) => Some(next),
        }
    }

    fn split_front(&mut self, count: usize) -> Self {
        match self {
            Origins::Same(all) => Origins::Same(all.split_front(count)),
            Origins::Of(page) => {
                let mut rest = page.mask;
                for _ in 0..count {
                    rest &= rest.wrapping_sub(1);
                }
                let front = page.with(page.mask & !rest);
                page.mask = rest;
                front.map_or_else(|| Origins::filler(0), Origins::Of)
            }
        }
    }

    fn partition(self, mut keep: impl FnMut(usize) -> bool) -> (Option<Self>, Option<Self>) {
        match self {
            Origins::Same(all) => {
                let (kept, rest) = all.partition(keep);
                (kept.map(Origins::Same), rest.map(Origins::Same))
            }
            Origins::Of(page) => {
                let mut kept = 0;
                for (number, place) in page.places().enumerate() {
                    if keep(number) {
                        kept |= 1 << (place & 63);
                    }
                }
                let rest = page.with(page.mask & !kept);
                (page.with(kept).map(Origins::Of), rest.map(Origins::Of))
            }
        }
    }

    fn deal(self, classes: &[u8], mut to: impl FnMut(usize, Self)) {
        match self {
            Origins::Same(all) => all.deal(classes, |class, part| to(class, Origins::Same(part))),
            Origins::Of(page) => {
                let mut masks = [0; Class::COUNT];
                for (place, class) in page.places().zip(classes) {
                    masks[usize::from(*class)] |= 1 << (place & 63);
                }
                for (class, mask) in masks.into_iter().enumerate() {
                    if let Some(part) = page.with(mask) {
                        to(class, Origins::Of(part));
                    }
                }
            }
        }
    }

    fn move_first(&mut self, onto: &mut Self) -> bool {
        match (self, onto) {
            (Origins::Same(mine), Origins::Same(onto)) => mine.move_first(onto),
            (Origins::Of(mine), Origins::Of(onto)) if mine.mask != 0 && mine.follows(onto) => {
                let first = mine.mask & mine.mask.wrapping_neg();
                mine.mask ^= first;
                onto.mask |= first;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::column::Column;
    use super::super::origin::Record;
    use super::*;

    struct Numbers;

    impl Originals for Numbers {
        fn record(&self, place: u32) -> Record {
            Record {
                offset: u64::from(place),
                ..Record::default()
            }
        }

        fn payload_len(&self, place: u32) -> usize {
            place as usize
        }
    }

    fn column(batch: &Arc<dyn Originals>, from: u32, to: u32) -> Column<Origins> {
        let mut column = Column::default();
        let mut len = 0;
        for cells in Origins::range(batch, from..to) {
            let count = cells.count();
            column.push(len, cells);
            len += count;
        }
        column
    }

    fn offsets(column: &Column<Origins>) -> Vec<Option<u64>> {
        let each = column.runs().flat_map(Origins::each);
        each.map(|origin| origin.map(|origin| origin.records()[0].offset))
            .collect()
    }

    #[test]
    fn a_batch_is_a_cell_for_each_64_places_however_it_is_cut() {
        let batch: Arc<dyn Originals> = Arc::new(Numbers);
        for (from, to) in [(0, 1), (0, 64), (5, 64), (60, 70), (3, 200), (7, 7)] {
            let mut all = column(&batch, from, to);
            let expected: Vec<_> = (from..to).map(|n| Some(u64::from(n))).collect();
            assert_eq!(offsets(&all), expected);
            assert_eq!(
                all.runs().count(),
                (from / 64..to.div_ceil(64)).count() * usize::from(from < to)
            );
            let mut front = Column::default();
            let count = (to - from) as usize / 3;
            all.move_front(count, &mut front, 0);
            assert_eq!(offsets(&front), expected[..count]);
            assert_eq!(offsets(&all), expected[count..]);
        }
    }

    #[test]
    fn some_of_a_batch_are_parted_joined_and_dealt_in_order() {
        let batch: Arc<dyn Originals> = Arc::new(Numbers);
        let all = column(&batch, 10, 20)
            .take_runs()
            .into_iter()
            .next()
            .unwrap();
        let (even, odd) = all.clone().partition(|number| number % 2 == 0);
        let (mut even, odd) = (even.unwrap(), odd.unwrap());
        let single = |cells: &Origins| -> Vec<u64> {
            let each = cells.each().into_iter().flatten();
            each.map(|origin| origin.records()[0].offset).collect()
        };
        assert_eq!(single(&even), [10, 12, 14, 16, 18]);
        assert_eq!(single(&odd), [11, 13, 15, 17, 19]);
        assert!(even.join(odd).is_some(), "that would be another order");
        let last = Origins::one(Some(Origin::of(Arc::clone(&batch), 19)));
        assert!(even.join(last).is_none());
        assert_eq!(even.count(), 6);
        let mut parts = vec![Vec::new(); 3];
        all.deal(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0], |class, part| {
            parts[class] = single(&part);
        });
        assert_eq!(
            parts,
            [vec![10, 13, 16, 19], vec![11, 14, 17], vec![12, 15, 18]]
        );
    }

    #[test]
    fn one_origin_of_several_elements_is_repeated_and_another_batch_is_another_cell() {
        let (one, other): (Arc<dyn Originals>, Arc<dyn Originals>) =
            (Arc::new(Numbers), Arc::new(Numbers));
        let origin = |batch: &Arc<dyn Originals>, place| {
            Origins::one(Some(Origin::of(Arc::clone(batch), place)))
        };
        let mut column = Column::default();
        let cells = [
            origin(&one, 3),
            origin(&one, 3),
            origin(&one, 4),
            origin(&other, 5),
            Origins::one(None),
        ];
        for (len, cells) in cells.into_iter().enumerate() {
            column.push(len, cells);
        }
        assert_eq!(offsets(&column), [Some(3), Some(3), Some(4), Some(5), None]);
        let lens: Vec<_> = column.runs().flat_map(Origins::lens).collect();
        assert_eq!(lens, [(3, 1), (3, 1), (4, 1), (5, 1), (0, 1)]);
        let last = column.pop_back().unwrap();
        assert!(last.into_single().is_none());
    }
}
