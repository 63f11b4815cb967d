//! How far a source is behind.

use std::fmt;
use std::time::Duration;

/// How far a sequence of a source is behind, such as a partition of a topic. Positions are of the source's own
/// kind; the difference of two is a number of elements, gaps that its store leaves counted as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lag {
    /// Which sequence.
    pub of: String,
    /// Behind its last element, as far as is known.
    pub end: Option<i64>,
    /// What was committed last.
    pub committed: Option<i64>,
    /// The first element that is not settled, or the one behind the last.
    pub processed: Option<i64>,
    /// Elements taken in and not handed over.
    pub queued: u64,
    /// Elements handed over, from the first that is not settled.
    pub in_flight: u64,
    /// How long the oldest of them has been inside.
    pub oldest_age: Option<Duration>,
}

impl Lag {
    /// Elements from the first that is not settled to the end; none where one of both is not known.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        let (end, processed) = (self.end?, self.processed?);
        Some(u64::try_from(end - processed).unwrap_or(0))
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |position: Option<i64>| {
            position.map_or_else(|| "?".to_owned(), |position| position.to_string())
        };
        let (end, committed) = (or_unknown(self.end), or_unknown(self.committed));
        let processed = or_unknown(self.processed);
        write!(
            f,
            "{}: end {end}, processed {processed}, committed {committed}, {} queued, {} in flight",
            self.of, self.queued, self.in_flight
        )?;
        match self.oldest_age {
            Some(age) => write!(f, ", the oldest for {age:.1?}"),
            None => Ok(()),
        }
    }
}
