//! The decision about one element: a load and a compare.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::class::Class;

/// How many steps a class is divided into.
const STEPS: u32 = 128;

/// Which offers are admitted: all that come before a threshold in the order of (class, dither).
///
/// Shared by all who ask; [`Admission`](super::Admission) sets it once a window. Asking takes a
/// relaxed load and a compare, before anything is allocated or timed, because what a refusal costs
/// bounds the goodput: at ten times the capacity, nine refusals are paid for by each element served.
///
/// # Example
/// ```
/// use forebay::class::Class;
/// use forebay::control::Gate;
///
/// let gate = Gate::open();
/// assert!(gate.admits(Class::LOW, 127));
/// gate.set(Gate::before(Class::LOW, 0.5));
/// assert!(gate.admits(Class::MEDIUM, 127));
/// let admitted = (0..1000).filter(|n| gate.admits(Class::LOW, Gate::dither(*n))).count();
/// assert!((495..=505).contains(&admitted), "half of LOW");
/// ```
#[derive(Debug)]
pub struct Gate(AtomicU32);

impl Default for Gate {
    fn default() -> Self {
        Gate::open()
    }
}

impl Gate {
    /// The threshold that admits everything.
    pub const ALL: u32 = Class::COUNT as u32 * STEPS;

    /// Admits everything.
    #[must_use]
    pub const fn open() -> Gate {
        Gate(AtomicU32::new(Gate::ALL))
    }

    /// Whether an offer of that class is admitted. `dither` spreads the offers of a class, evenly from
    /// 0 to 127 (higher bits do not count): [`Gate::dither`] of a running number, or of the hash of a
    /// key where all of a user's offers should fare alike.
    #[must_use]
    #[inline]
    pub fn admits(&self, class: Class, dither: u8) -> bool {
        let rank = class.index() as u32 * STEPS + u32::from(dither) % STEPS;
        rank < self.0.load(Ordering::Relaxed)
    }

    /// Spreads numbers evenly: of any so many in a row nearly the same share is below any threshold
    /// (multiples of the golden ratio).
    #[must_use]
    #[inline]
    pub const fn dither(number: u64) -> u8 {
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8
    }

    /// The threshold that admits all classes above that one, and a share of it, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_sign_loss)] // the share is clamped
    pub fn before(class: Class, share: f64) -> u32 {
        let steps = f64::from(STEPS) * share.clamp(0.0, 1.0);
        class.index() as u32 * STEPS + steps.round() as u32
    }

    /// The threshold now.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the threshold: 0 admits nothing, [`Gate::ALL`] everything.
    pub fn set(&self, threshold: u32) {
        self.0.store(threshold.min(Gate::ALL), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_run_of_numbers_is_spread_evenly() {
        let gate = Gate::open();
        for share in [0.1, 0.25, 0.5, 0.9] {
            gate.set(Gate::before(Class::LOW, share));
            for from in [0, 12_345, u64::MAX - 100] {
                let admitted = (0..256_u64)
                    .map(|n| Gate::dither(from.wrapping_add(n)))
                    .filter(|dither| gate.admits(Class::LOW, *dither))
                    .count() as f64;
                assert!(
                    (admitted / 256.0 - share).abs() < 0.02,
                    "{admitted} of {share}"
                );
            }
        }
    }

    #[test]
    fn a_lower_class_is_refused_before_any_of_a_higher_one() {
        let gate = Gate::open();
        for threshold in 0..=Gate::ALL {
            gate.set(threshold);
            let admitted = |class| (0..128).filter(|n| gate.admits(class, *n)).count();
            let counts = [Class::HIGH, Class::MEDIUM, Class::LOW].map(admitted);
            assert!(counts[0] == 128 || counts[1] == 0);
            assert!(counts[1] == 128 || counts[2] == 0);
        }
        gate.set(u32::MAX);
        assert_eq!(gate.threshold(), Gate::ALL);
    }
}
