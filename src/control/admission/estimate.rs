//! A rate known from counts.

/// How many counts make a rate well known: it moves half-way to a window that has so many.
const MEMORY: f64 = 100.0;
/// How many times its standard deviation a count must be off to be taken for a change of the rate.
const STEP: f64 = 3.0;

/// A rate that smooths out the noise of small counts and follows a step at once.
///
/// A window's count `n` moves it by `n / (n + 100)` of the difference: small counts are noise for the
/// most part, large ones are not. A count that is further from the expected one than 3 standard
/// deviations of a Poisson count is no noise: it replaces what was known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    per_s: f64,
    is_known: bool,
}

impl Estimate {
    pub(super) fn per_s(&self) -> f64 {
        self.per_s
    }

    /// It is not less than that.
    pub(super) fn at_least(&mut self, per_s: f64) {
        self.per_s = self.per_s.max(per_s);
    }

    /// So many were counted in that time.
    pub(super) fn count(&mut self, count: u64, span_s: f64) {
        if span_s <= 0.0 {
            return;
        }
        let count = count as f64;
        let sample = count / span_s;
        let expected = self.per_s * span_s;
        let is_step = (count - expected).abs() > STEP * expected.max(count).max(1.0).sqrt();
        if !self.is_known || is_step {
            self.per_s = sample;
            self.is_known = true;
            return;
        }
        // At least one, or a rate near nothing would never become nothing.
        let seen = expected.max(count).max(1.0);
        self.per_s += (sample - self.per_s) * seen / (seen + MEMORY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_smoothed_and_a_step_is_followed_at_once() {
        let mut rate = Estimate::default();
        rate.count(100, 0.01);
        for count in [110, 92, 104, 95] {
            rate.count(count, 0.01);
            assert!((rate.per_s() - 10_000.0).abs() < 600.0, "{rate:?}");
        }
        rate.count(1000, 0.01);
        assert!((rate.per_s() - 100_000.0).abs() < 1.0);
        rate.count(20, 0.01);
        assert!((rate.per_s() - 2000.0).abs() < 1.0);
    }

    #[test]
    fn nothing_counted_for_long_is_nothing_in_the_end() {
        let mut rate = Estimate::default();
        rate.count(5, 0.01);
        for _ in 0..1600 {
            rate.count(0, 0.01);
        }
        assert!(rate.per_s() < 5.0, "{rate:?}");
    }
}
