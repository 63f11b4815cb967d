//! The two words of a handle that spare the lock, bit by bit.

/// `starts`: whether calls are let through without the lock, for which generation and bucket (their
/// lower bits), and how many were.
pub(super) mod starts {
    pub(in super::super) const COUNT_MASK: u64 = (1 << 12) - 1;
    const BUCKET_BITS: u64 = 24;
    const GENERATION_BITS: u64 = 27;
    /// Nobody is let through without the lock.
    pub(in super::super) const NONE: u64 = 0;

    pub(in super::super) fn none_yet(generation: u64, bucket: u64) -> u64 {
        let generation = generation & ((1 << GENERATION_BITS) - 1);
        let bucket = bucket & ((1 << BUCKET_BITS) - 1);
        1 << 63 | generation << 36 | bucket << 12
    }

    /// Whether one more may be let through whose time is in that bucket.
    pub(in super::super) fn admits(word: u64, bucket: u64) -> bool {
        admits_many(word, bucket, 1)
    }

    /// Whether so many more may.
    pub(in super::super) fn admits_many(word: u64, bucket: u64, calls: u64) -> bool {
        let bucket = bucket & ((1 << BUCKET_BITS) - 1);
        word >> 63 == 1
            && word >> 12 & ((1 << BUCKET_BITS) - 1) == bucket
            && calls <= COUNT_MASK - (word & COUNT_MASK)
    }

    /// Whether calls are let through without the lock.
    pub(in super::super) fn is_open_to_all(word: u64) -> bool {
        word >> 63 == 1
    }

    pub(in super::super) fn generation(word: u64) -> u64 {
        word >> 36 & ((1 << GENERATION_BITS) - 1)
    }

    /// The whole number of a generation of which the lower bits are known, not long before `latest`.
    pub(in super::super) fn whole(low: u64, latest: u64) -> u64 {
        let mask = (1 << GENERATION_BITS) - 1;
        latest - (latest.wrapping_sub(low) & mask).min(latest)
    }
}

/// `gate`: the state in the lower 3 bits, and until when it refuses; 0 while it may not.
pub(super) mod gate {
    use super::super::BreakerState;
    use crate::time::Time;

    pub(in super::super) const NONE: u64 = 0;
    const NS_MOST: u64 = u64::MAX >> 3;

    pub(in super::super) fn refuses(state: BreakerState, until: Time) -> u64 {
        until.as_nanos().min(NS_MOST) << 3 | state as u64
    }

    /// The state for which a call at that time is refused.
    pub(in super::super) fn refusing(word: u64, now: Time) -> Option<(BreakerState, Time)> {
        let until = Time::from_nanos(word >> 3);
        if word == NONE || now >= until {
            return None;
        }
        let state = BreakerState::ALL.get((word & 7) as usize).copied();
        state.map(|state| (state, until))
    }
}
