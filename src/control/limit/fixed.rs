//! A limit that somebody has chosen.

use super::{Limit, LimitSnapshot};
use crate::control::bounded::Bounded;
use crate::control::{History, Invalid, Sample};
use crate::time::Time;

/// A limit that samples do not change. It can be changed by hand while it is in use.
///
/// ```
/// use forebay::control::limit::{Fixed, Limit};
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let mut limit = Fixed::new(8)?;
/// assert!(!limit.throttles(8));
/// assert!(limit.throttles(9));
/// limit.set(Time::ZERO, 2)?;
/// assert_eq!(limit.limit(), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Fixed {
    value: Bounded,
    drops: u64,
}

impl Fixed {
    /// So many calls at once: 1 to 1 000 000.
    ///
    /// # Errors
    /// `Invalid` if it is not within that range.
    pub fn new(limit: usize) -> Result<Fixed, Invalid> {
        Fixed::check(limit)?;
        Ok(Fixed {
            value: Bounded::new("limit", limit, 1, 1_000_000),
            drops: 0,
        })
    }

    fn check(limit: usize) -> Result<(), Invalid> {
        Invalid::unless(
            (1..=1_000_000).contains(&limit),
            "limit",
            limit,
            "1 to 1000000",
        )
    }

    /// Changes it.
    ///
    /// # Errors
    /// `Invalid` if it is not within 1 to 1 000 000; the limit stays as it was then.
    pub fn set(&mut self, now: Time, limit: usize) -> Result<(), Invalid> {
        Fixed::check(limit)?;
        self.value.set(now, limit as f64, "set by hand");
        Ok(())
    }
}

impl Limit for Fixed {
    fn on_sample(&mut self, _: Time, sample: &Sample) {
        self.drops += sample.drops as u64;
    }

    fn limit(&self) -> usize {
        self.value.get()
    }

    fn adjustments(&self) -> &History {
        self.value.history()
    }

    fn snapshot(&self) -> LimitSnapshot {
        LimitSnapshot {
            algorithm: "fixed",
            limit: self.value.get(),
            least: self.value.get(),
            most: self.value.get(),
            base: None,
            recent: None,
            queue: None,
            rounds: 0,
            drops: self.drops,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_by_hand_alone() {
        let mut limit = Fixed::new(3).unwrap();
        limit.on_sample(
            Time::ZERO,
            &Sample {
                count: 900,
                drops: 900,
                ..Sample::default()
            },
        );
        assert_eq!((limit.limit(), limit.snapshot().drops), (3, 900));
        limit.set(Time::ZERO, 7).unwrap();
        assert_eq!(
            limit.adjustments().last().next().unwrap().because,
            "set by hand"
        );
        let refused = limit.set(Time::ZERO, 0).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`limit` is 0, which is not within 1 to 1000000"
        );
        assert_eq!(limit.limit(), 7);
    }
}
