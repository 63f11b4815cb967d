//! Which letters are meant.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::letter::{Letter, LetterState};

/// Which dead letters are meant: those that fit all that is said. Without anything said, all that are
/// pending.
///
/// # Example
/// ```
/// use forebay::kafka::LetterFilter;
///
/// let mine = LetterFilter::new().original_topic("orders").error_class("Timeout").since_ms(1_700_000_000_000);
/// assert!(!mine.is_open());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LetterFilter {
    states: States,
    topic: Option<String>,
    original_partition: Option<i32>,
    original_offsets: Option<RangeInclusive<i64>>,
    pub(super) partition: Option<i32>,
    pub(super) offsets: Option<RangeInclusive<i64>>,
    class: Option<String>,
    key: Option<Bytes>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

/// Letters in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum States {
    /// Those of which nothing has become yet.
    #[default]
    Pending,
    /// Those that were replayed.
    Replayed,
    /// Those that were given up.
    Discarded,
    /// All.
    Any,
}

impl LetterFilter {
    /// All that are pending.
    #[must_use]
    pub fn new() -> LetterFilter {
        LetterFilter::default()
    }

    /// Letters in that state. Default: pending.
    #[must_use]
    pub fn states(mut self, states: States) -> Self {
        self.states = states;
        self
    }

    /// Of records that came from that topic.
    #[must_use]
    pub fn original_topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Of records that came from that partition of their topic.
    #[must_use]
    pub fn original_partition(mut self, partition: i32) -> Self {
        self.original_partition = Some(partition);
        self
    }

    /// Of records with these offsets in their topic.
    #[must_use]
    pub fn original_offsets(mut self, offsets: RangeInclusive<i64>) -> Self {
        self.original_offsets = Some(offsets);
        self
    }

    /// In that partition of the dead-letter topic.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With these offsets in the dead-letter topic.
    #[must_use]
    pub fn offsets(mut self, offsets: RangeInclusive<i64>) -> Self {
        self.offsets = Some(offsets);
        self
    }

    /// With an error of that class: its whole name, or what stands behind the last `::` or `.` in it.
    #[must_use]
    pub fn error_class(mut self, class: impl Into<String>) -> Self {
        self.class = Some(class.into());
        self
    }

    /// With exactly that key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Put aside then or later: milliseconds since 1970. One that does not say when goes by its own time.
    #[must_use]
    pub fn since_ms(mut self, at: i64) -> Self {
        self.since_ms = Some(at);
        self
    }

    /// Put aside before then: milliseconds since 1970.
    #[must_use]
    pub fn until_ms(mut self, at: i64) -> Self {
        self.until_ms = Some(at);
        self
    }

    /// Whether it leaves out nothing but by state.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let states = self.states;
        *self == LetterFilter::new().states(states)
    }

    /// Whether that letter is meant.
    #[must_use]
    pub fn fits(&self, letter: &Letter) -> bool {
        let told = &letter.provenance;
        let at_ms = letter.put_aside_ms();
        self.takes(&letter.state)
            && fits(self.topic.as_ref(), |topic| {
                told.topic.as_ref() == Some(topic)
            })
            && fits(self.original_partition.as_ref(), |partition| {
                told.partition.as_ref() == Some(partition)
            })
            && fits(self.original_offsets.as_ref(), |offsets| {
                told.offset.is_some_and(|offset| offsets.contains(&offset))
            })
            && fits(self.partition.as_ref(), |partition| {
                letter.partition == *partition
            })
            && fits(self.offsets.as_ref(), |offsets| {
                offsets.contains(&letter.offset)
            })
            && fits(self.class.as_ref(), |class| {
                let own = told.error_class.as_deref();
                own.is_some_and(|own| own == class || last_of(own) == class)
            })
            && fits(self.key.as_ref(), |key| letter.key.as_ref() == Some(key))
            && fits(self.since_ms.as_ref(), |since| {
                at_ms.is_some_and(|at| at >= *since)
            })
            && fits(self.until_ms.as_ref(), |until| {
                at_ms.is_some_and(|at| at < *until)
            })
    }

    fn takes(&self, state: &LetterState) -> bool {
        match self.states {
            States::Any => true,
            States::Pending => *state == LetterState::Pending,
            States::Replayed => matches!(state, LetterState::Replayed { .. }),
            States::Discarded => matches!(state, LetterState::Discarded { .. }),
        }
    }
}

/// What is not asked for fits.
fn fits<V>(asked: Option<&V>, holds: impl FnOnce(&V) -> bool) -> bool {
    asked.is_none_or(holds)
}

/// What stands behind the last `::` or `.` of a type's name.
fn last_of(class: &str) -> &str {
    let end = class.find('<').unwrap_or(class.len());
    let begins = class[..end].rfind([':', '.']).map_or(0, |at| at + 1);
    &class[begins..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::dead_letters::Provenance;

    fn letter() -> Letter {
        Letter {
            partition: 1,
            offset: 40,
            timestamp_ms: Some(5000),
            key: Some(Bytes::from_static(b"\xffk")),
            value: None,
            headers: Vec::new(),
            provenance: Provenance {
                topic: Some("orders".to_owned()),
                partition: Some(2),
                offset: Some(700),
                error_class: Some("shop::stock::NoStock".to_owned()),
                error_timestamp_ms: Some(4000),
                ..Provenance::default()
            },
            state: LetterState::Pending,
        }
    }

    #[test]
    fn each_part_of_a_filter_leaves_out_what_does_not_fit() {
        let new = LetterFilter::new;
        for (fitting, other) in [
            (
                new().original_topic("orders"),
                new().original_topic("order"),
            ),
            (new().original_partition(2), new().original_partition(1)),
            (
                new().original_offsets(700..=700),
                new().original_offsets(0..=699),
            ),
            (new().partition(1), new().partition(2)),
            (new().offsets(40..=41), new().offsets(41..=99)),
            (new().error_class("NoStock"), new().error_class("Stock")),
            (
                new().error_class("shop::stock::NoStock"),
                new().error_class("stock::NoStock"),
            ),
            (new().key(&b"\xffk"[..]), new().key("k")),
            (new().since_ms(4000), new().since_ms(4001)),
            (new().until_ms(4001), new().until_ms(4000)),
            (new().states(States::Any), new().states(States::Replayed)),
        ] {
            assert!(fitting.fits(&letter()), "{fitting:?}");
            assert!(!other.fits(&letter()), "{other:?}");
            assert!(new().fits(&letter()));
        }
        assert!(new().is_open() && new().states(States::Any).is_open());
        assert!(!new().key("k").is_open());
    }

    #[test]
    fn a_letter_that_says_nothing_fits_what_it_has() {
        let mut bare = letter();
        bare.provenance = Provenance::default();
        let new = LetterFilter::new;
        assert!(new().since_ms(5000).fits(&bare));
        assert!(!new().original_topic("orders").fits(&bare));
        assert!(!new().error_class("NoStock").fits(&bare));
        bare.state = LetterState::Discarded { at_ms: 1 };
        assert!(!new().fits(&bare));
        assert!(new().states(States::Discarded).fits(&bare));
    }

    #[test]
    fn the_last_part_of_a_class() {
        for (class, last) in [
            ("shop::NoStock", "NoStock"),
            ("java.lang.Error", "Error"),
            ("plain", "plain"),
            ("a::Box<dyn b::Error>", "Box<dyn b::Error>"),
        ] {
            assert_eq!(last_of(class), last);
        }
    }
}
