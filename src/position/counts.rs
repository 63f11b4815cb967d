//! What became of a source's elements, by class.

use crate::class::Class;
use crate::outcome::Kind;

/// The figures of one class (or of the elements that ended before they had one).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassCounts {
    /// Settled elements by kind of outcome, in the order of [`Kind::ALL`].
    pub outcomes: [u64; Kind::COUNT],
    /// Elements measured to be still inside: their bits are unset.
    pub unsettled: u64,
}

impl ClassCounts {
    /// All elements of the class.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.outcomes.iter().sum::<u64>() + self.unsettled
    }
}

/// The account of one source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceCounts {
    /// Elements handed over, re-reads after a rewind included.
    pub entered: u64,
    /// Of those, the ones that had been handed over before a rewind.
    pub replayed: u64,
    /// Elements a resumed run did not read again because they were settled: not in `entered`.
    pub resumed: u64,
    /// Settlements of an element that was settled already: a bug of a stage.
    pub doubled: u64,
    /// How often the source went back. What was on its way then counts as cancelled here, however a
    /// stage settles it afterwards.
    pub rewinds: u64,
    /// Of the dead-lettered elements, those the source diverted: a stage had settled them otherwise.
    pub diverted: u64,
    /// By class index; the last entry holds the elements that ended unclassified.
    pub classes: [ClassCounts; Class::COUNT + 1],
}

impl SourceCounts {
    /// Elements with that kind of outcome, over all classes.
    #[must_use]
    pub fn outcome(&self, kind: Kind) -> u64 {
        self.classes
            .iter()
            .map(|class| class.outcomes[kind as usize])
            .sum()
    }

    /// Elements measured to be still inside, over all classes.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.classes.iter().map(|class| class.unsettled).sum()
    }

    /// Whether every element that entered is accounted for, once.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.doubled == 0
            && self.entered == self.classes.iter().map(ClassCounts::total).sum::<u64>()
    }

    /// Adds another account to this one.
    pub fn add(&mut self, other: &SourceCounts) {
        self.entered += other.entered;
        self.replayed += other.replayed;
        self.resumed += other.resumed;
        self.doubled += other.doubled;
        self.rewinds += other.rewinds;
        self.diverted += other.diverted;
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.unsettled += theirs.unsettled;
            for (a, b) in mine.outcomes.iter_mut().zip(theirs.outcomes) {
                *a += b;
            }
        }
    }
}
