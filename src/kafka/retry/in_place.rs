//! Trying again on the spot, with growing delays, and then the dead letters.

use std::time::Duration;

use crate::control::{Invalid, Retry};
use crate::flow::DeadLetters;
use crate::kafka::dead_letters::DeadLetterTopic;
use crate::kafka::error::Error;
use crate::kafka::producer::ProducerSettings;
use crate::operator::Concurrency;

/// Trying a record again where it stands: the next delay is longer by a factor each time, up to the longest,
/// and after the last try the record goes to the dead letters. So many are in work at once; one that waits for
/// its next try keeps its place among them.
///
/// | setting | range | [`b3`](RetryInPlace::b3) |
/// | --- | --- | --- |
/// | [`retries`](RetryInPlace::retries) | 0 and more | 3: four tries in all |
/// | [`back_off`](RetryInPlace::back_off) | the first delay at most the longest | 1 s, doubled each time, at most 10 s: 1, 2, 4 s |
/// | [`jitter`](RetryInPlace::jitter) | 0 to 1 | 0: exactly these |
/// | [`concurrency`](RetryInPlace::concurrency) | 1 and more | 3 |
/// | [`dead_letters`](RetryInPlace::dead_letters) | what stands behind the topic's name | `.DLQ` |
///
/// While a record waits its receipt is not settled, and the position stays before it: what is tried again is
/// nowhere but here, and comes again after a crash. Records of a partition that come after it go on as far as
/// the others in work, no further; for delays of minutes use [`RetryTopics`](super::RetryTopics).
///
/// # Example
/// ```no_run
/// use forebay::kafka::{self, Connection, ConsumerSettings, ProducerSettings, RetryInPlace};
///
/// # async fn bill(_: kafka::Record) -> Result<(), std::io::Error> { Ok(()) }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = || Connection::to("localhost:9092");
/// let again = RetryInPlace::b3();
/// let letters = again.letters(&ProducerSettings::reliable(cluster()), 16)?;
/// let (_handle, flow) = kafka::source(ConsumerSettings::new(cluster(), "billing").topics(["orders"]));
/// flow.try_map_async(again.calls(), bill)
///     .retry(again.policy()?)
///     .or_dead_letter(&letters)
///     .for_each(drop)
///     .block_on()?;
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct RetryInPlace {
    retries: u32,
    first: Duration,
    longest: Duration,
    jitter: f64,
    concurrency: usize,
    dead_letters: String,
}

impl RetryInPlace {
    /// Again after 1, 2 and 4 s, at most 10 s apart, 3 times, 3 records at once, then `<topic>.DLQ`
    /// (row B3).
    #[must_use]
    pub fn b3() -> RetryInPlace {
        RetryInPlace {
            retries: 3,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            jitter: 0.0,
            concurrency: 3,
            dead_letters: ".DLQ".to_owned(),
        }
    }

    /// How often a record is tried again after its first try.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The first delay, which is doubled each time, and the longest.
    #[must_use]
    pub fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// Which share of each delay is random, so that those that failed together do not come back together.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// How many records are in work at once, those that wait included.
    #[must_use]
    pub fn concurrency(mut self, records: usize) -> Self {
        self.concurrency = records;
        self
    }

    /// What stands behind the name of a topic in that of its dead letters.
    #[must_use]
    pub fn dead_letters(mut self, suffix: impl Into<String>) -> Self {
        self.dead_letters = suffix.into();
        self
    }

    /// What a stage tries again by.
    ///
    /// # Errors
    /// The setting that cannot be.
    pub fn policy(&self) -> Result<Retry, Invalid> {
        let retry = Retry::tries(self.retries.saturating_add(1))
            .backoff(self.first, self.longest)
            .jitter(self.jitter);
        retry.check()?;
        Ok(retry)
    }

    /// How many a stage works on at once.
    #[must_use]
    pub fn calls(&self) -> Concurrency {
        Concurrency::limit(self.concurrency.max(1))
    }

    /// Where a stage gives up to, behind a queue of at most `capacity`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be.
    pub fn letters(
        &self,
        writes: &ProducerSettings,
        capacity: usize,
    ) -> Result<DeadLetters, Error> {
        let topic = DeadLetterTopic::beside(writes, self.dead_letters.as_str())?;
        Ok(DeadLetters::new(capacity, topic))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::{Next, Retrying};
    use crate::time::Time;

    /// The delays before each try but the first.
    fn delays(settings: &RetryInPlace) -> Vec<Duration> {
        let mut policy = Retrying::new(&settings.policy().unwrap(), Time::ZERO);
        let tries = 1..=100;
        let delays = tries.map_while(|tries| match policy.on_failure(Time::ZERO, tries) {
            Next::At(at) => Some(at.since(Time::ZERO)),
            Next::GiveUp => None,
        });
        delays.collect()
    }

    #[test]
    fn row_b3_the_delays_by_value() {
        let seconds = Duration::from_secs;
        let b3 = RetryInPlace::b3();
        assert_eq!(delays(&b3), [1, 2, 4].map(seconds));
        // No delay is longer than 10 s, however often it is tried.
        assert_eq!(
            delays(&b3.clone().retries(6)),
            [1, 2, 4, 8, 10, 10].map(seconds)
        );
        assert_eq!(delays(&b3.clone().retries(0)), []);
        assert_eq!(b3.calls(), Concurrency::limit(3));
        assert_eq!(b3.dead_letters, ".DLQ");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let b3 = RetryInPlace::b3;
        assert!(b3().jitter(1.5).policy().is_err());
        assert!(
            b3().back_off(Duration::from_secs(11), Duration::from_secs(10))
                .policy()
                .is_err()
        );
    }
}
