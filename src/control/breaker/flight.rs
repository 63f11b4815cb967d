//! How many calls are in flight, and how many of them for longer than a given age.
//!
//! Starts are counted in buckets of time. A bucket whose calls are all old enough is added to the
//! aged ones and leaves the ring. So a call counts as aged by one bucket late at most, never too
//! early, whatever the number of calls; a start and an end are O(1), and a bucket is visited once.

use std::time::Duration;

use crate::time::Time;

/// A bucket is this wide at most (8.4 ms), as long as the ring may have enough of them.
const SHIFT_MOST: u32 = 23;

#[derive(Clone, Debug)]
pub(super) struct Flight {
    age_ns: u64,
    /// A bucket is 2 to the power of that nanoseconds wide: a shift is cheaper than a division.
    shift: u32,
    /// A ring over the buckets from `first` on.
    young: Box<[u32]>,
    /// The oldest bucket in the ring: all calls before it are aged.
    first: u64,
    /// No bucket between `first` and this one has a call.
    oldest: u64,
    young_sum: usize,
    aged: usize,
}

impl Flight {
    /// Tells calls older than that from others.
    pub(super) fn new(age: Duration) -> Flight {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX).max(1);
        // At most a hundredth of the age, and as few as that if the age is long.
        let fine = (age_ns / 100).max(1).ilog2();
        let coarse = (age_ns / 1000).max(1).next_power_of_two().ilog2();
        let shift = fine.min(coarse.max(SHIFT_MOST));
        Flight {
            age_ns,
            shift,
            young: vec![0; (age_ns >> shift) as usize + 3].into(),
            first: 0,
            oldest: 0,
            young_sum: 0,
            aged: 0,
        }
    }

    pub(super) fn shift(&self) -> u32 {
        self.shift
    }

    fn bucket(&self, at: Time) -> u64 {
        at.as_nanos() >> self.shift
    }

    fn place(&mut self, bucket: u64) -> Option<&mut u32> {
        let length = self.young.len() as u64;
        self.young.get_mut((bucket % length) as usize)
    }

    /// Lets those age whose time it is.
    pub(super) fn advance(&mut self, now: Time) {
        let first = now.as_nanos().saturating_sub(self.age_ns) >> self.shift;
        while self.first < first && self.young_sum > 0 {
            let bucket = self.first;
            let aged = self.place(bucket).map_or(0, std::mem::take) as usize;
            self.young_sum -= aged;
            self.aged += aged;
            self.first += 1;
        }
        self.first = self.first.max(first);
        self.oldest = self.oldest.max(self.first);
    }

    /// So many calls were started at a time that is not before that of the last `advance`, or not
    /// long before.
    pub(super) fn start(&mut self, at: Time, calls: usize) {
        self.advance(at);
        let bucket = self.bucket(at);
        if bucket < self.first {
            self.aged += calls;
            return;
        }
        if self.young_sum == 0 {
            self.oldest = bucket;
        }
        self.oldest = self.oldest.min(bucket);
        self.young_sum += calls;
        if let Some(count) = self.place(bucket) {
            *count += calls as u32;
        }
    }

    /// So many calls that were started then are no longer in flight.
    pub(super) fn end(&mut self, started: Time, calls: usize) {
        let bucket = self.bucket(started);
        if bucket < self.first {
            self.aged = self.aged.saturating_sub(calls);
            return;
        }
        if let Some(count) = self.place(bucket) {
            let ended = calls.min(*count as usize);
            *count -= ended as u32;
            self.young_sum -= ended;
        }
    }

    pub(super) fn aged(&self) -> usize {
        self.aged
    }

    pub(super) fn in_flight(&self) -> usize {
        self.aged + self.young_sum
    }

    /// When the next call will have aged, if none ends before.
    pub(super) fn next_aged_at(&mut self) -> Option<Time> {
        if self.young_sum == 0 {
            return None;
        }
        while self.place(self.oldest).is_some_and(|count| *count == 0) {
            self.oldest += 1;
        }
        Some(self.aged_after(self.oldest))
    }

    /// When a call that starts then will have aged.
    pub(super) fn aged_at(&self, started: Time) -> Time {
        self.aged_after(self.bucket(started))
    }

    fn aged_after(&self, bucket: u64) -> Time {
        let end_ns = (bucket + 1).saturating_mul(1 << self.shift);
        Time::from_nanos(end_ns.saturating_add(self.age_ns))
    }

    /// Forgets all calls and says how many there were.
    pub(super) fn clear(&mut self) -> usize {
        let calls = self.in_flight();
        self.young.fill(0);
        self.young_sum = 0;
        self.aged = 0;
        calls
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of the calls: none is aged too early, none later than by a bucket, and the
        /// time that is promised for the next is right.
        #[test]
        fn calls_age_when_they_should(
            age in 1..3_000_u64,
            steps in proptest::collection::vec((0..400_u64, 0..3_u8, any::<prop::sample::Index>()), 1..120),
        ) {
            let mut flight = Flight::new(Duration::from_nanos(age));
            let width = 1 << flight.shift();
            let mut model: Vec<u64> = Vec::new();
            let mut now = 0;
            for (after, step, which) in steps {
                now += after;
                flight.advance(Time::from_nanos(now));
                match step {
                    0 => {
                        flight.start(Time::from_nanos(now), 1);
                        model.push(now);
                    }
                    1 if !model.is_empty() => {
                        flight.end(Time::from_nanos(model.swap_remove(which.index(model.len()))), 1);
                    }
                    _ => {}
                }
                let older = |than: u64| model.iter().filter(|start| now - **start >= than).count();
                prop_assert_eq!(flight.in_flight(), model.len());
                prop_assert!(flight.aged() <= older(age), "too early");
                prop_assert!(flight.aged() >= older(age + width), "too late");
                let young = model.len() - flight.aged();
                let next = flight.next_aged_at();
                prop_assert_eq!(next.is_some(), young > 0);
                if let Some(next) = next {
                    let mut then = flight.clone();
                    then.advance(Time::from_nanos(next.as_nanos() - 1));
                    prop_assert_eq!(then.aged(), flight.aged(), "sooner than promised");
                    then.advance(next);
                    prop_assert!(then.aged() > flight.aged(), "not when promised");
                }
            }
        }
    }

    #[test]
    fn a_bucket_is_no_wider_than_a_hundredth_of_the_age() {
        for ms in [1, 100, 1000, 60_000, 86_400_000] {
            let flight = Flight::new(Duration::from_millis(ms));
            assert!(1 << flight.shift() <= ms * 10_000, "{ms} ms");
            assert!(flight.young.len() <= 1004, "{ms} ms");
        }
    }
}
