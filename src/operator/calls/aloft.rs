//! When the calls in flight began.

use std::collections::VecDeque;

use crate::time::Time;

/// The calls in flight by when they began: those of one reading of the clock are one entry. As many
/// entries as twice the calls, and a few.
#[derive(Default, Debug)]
pub(super) struct Aloft {
    began: VecDeque<(Time, usize)>,
    calls: usize,
}

impl Aloft {
    /// So many began then: not before those it has.
    pub(super) fn begin(&mut self, at: Time, calls: usize) {
        if calls == 0 {
            return;
        }
        self.calls += calls;
        match self.began.back_mut() {
            Some((last, count)) if *last == at => *count += calls,
            _ => self.began.push_back((at, calls)),
        }
    }

    /// One that began then has ended.
    pub(super) fn end(&mut self, at: Time) {
        let index = self.began.partition_point(|(began, _)| *began < at);
        let Some((_, count)) = self.began.get_mut(index) else {
            return;
        };
        *count = count.saturating_sub(1);
        self.calls = self.calls.saturating_sub(1);
        while self.began.front().is_some_and(|(_, count)| *count == 0) {
            self.began.pop_front();
        }
        // One that hangs keeps the front: what ended behind it must not pile up.
        if self.began.len() > 2 * self.calls + 8 {
            self.began.retain(|(_, count)| *count > 0);
        }
    }

    /// When the oldest began.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.began.front().map(|(began, _)| *began)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of the calls.
        #[test]
        fn the_oldest_call_is_known_and_those_that_ended_do_not_pile_up(
            steps in proptest::collection::vec((0..3_u64, 0..3_usize, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut aloft = Aloft::default();
            let mut model: Vec<u64> = Vec::new();
            let mut now = 0;
            for (after, begin, which) in steps {
                now += after;
                aloft.begin(Time::from_nanos(now), begin);
                model.extend(std::iter::repeat_n(now, begin));
                if begin == 0 && !model.is_empty() {
                    let ended = model.remove(which.index(model.len()));
                    aloft.end(Time::from_nanos(ended));
                }
                prop_assert_eq!(aloft.calls, model.len());
                prop_assert_eq!(aloft.oldest(), model.iter().min().map(|at| Time::from_nanos(*at)));
                prop_assert!(aloft.began.len() <= 2 * model.len() + 9);
            }
        }
    }
}
