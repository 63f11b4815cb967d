//! Whether an element that comes now would be served in time.

use std::time::Duration;

use crate::time::Time;

/// What an element that comes now has to expect.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    /// Elements that can be served a second; 0 while nobody knows.
    pub capacity_per_s: f64,
    /// How long one is served.
    pub service: Duration,
}

impl Forecast {
    /// How long it waits behind so many that are served before it: those of its class and above.
    #[must_use]
    pub fn wait(&self, ahead: usize) -> Duration {
        if self.capacity_per_s <= 0.0 {
            return Duration::ZERO;
        }
        let wait_s = ahead as f64 / self.capacity_per_s;
        Duration::try_from_secs_f64(wait_s).unwrap_or(Duration::MAX)
    }

    /// Whether it is expired on arrival: its wait and its service would end after its deadline. To
    /// serve it would be in vain, and at the cost of one that is still in time.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::control::Forecast;
    /// use forebay::time::Time;
    ///
    /// let forecast = Forecast { capacity_per_s: 1000.0, service: Duration::from_millis(1) };
    /// let deadline = Time::ZERO + Duration::from_millis(10);
    /// assert!(!forecast.is_too_late(Time::ZERO, 9, deadline));
    /// assert!(forecast.is_too_late(Time::ZERO, 10, deadline));
    /// ```
    #[must_use]
    pub fn is_too_late(&self, now: Time, ahead: usize, deadline: Time) -> bool {
        now + self.wait(ahead) + self.service > deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_deadline_nothing_is_too_late() {
        let slow = Forecast {
            capacity_per_s: 1e-9,
            service: Duration::MAX,
        };
        assert!(!slow.is_too_late(Time::ZERO, usize::MAX, Time::MAX));
    }

    #[test]
    fn as_long_as_nobody_knows_the_capacity_only_what_is_late_already_is() {
        let unknown = Forecast {
            capacity_per_s: 0.0,
            service: Duration::ZERO,
        };
        let now = Time::from_nanos(5);
        assert!(!unknown.is_too_late(now, 1000, Time::from_nanos(5)));
        assert!(unknown.is_too_late(now, 0, Time::from_nanos(4)));
    }
}
