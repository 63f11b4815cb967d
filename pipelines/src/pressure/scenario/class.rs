//! The three classes, as scenarios name them.

use forebay::class::Class;
use serde::{Deserialize, Serialize};

/// How dear an element is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rank {
    High,
    Medium,
    Low,
}

impl Rank {
    pub(crate) const ALL: [Rank; 3] = [Rank::High, Rank::Medium, Rank::Low];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn class(self) -> Class {
        match self {
            Rank::High => Class::HIGH,
            Rank::Medium => Class::MEDIUM,
            Rank::Low => Class::LOW,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Rank::High => "high",
            Rank::Medium => "medium",
            Rank::Low => "low",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Rank> {
        Rank::ALL.into_iter().find(|rank| rank.name() == name)
    }
}

/// A figure for each class.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByClass<T> {
    pub(crate) high: T,
    pub(crate) medium: T,
    pub(crate) low: T,
}

impl<T> ByClass<T> {
    pub(crate) fn of(&self, rank: Rank) -> &T {
        match rank {
            Rank::High => &self.high,
            Rank::Medium => &self.medium,
            Rank::Low => &self.low,
        }
    }

    pub(crate) fn make(mut f: impl FnMut(Rank) -> T) -> ByClass<T> {
        ByClass {
            high: f(Rank::High),
            medium: f(Rank::Medium),
            low: f(Rank::Low),
        }
    }
}
