//! How an element ended.
//!
//! Every element that enters a pipeline ends in exactly one [`Outcome`]. When an element was split,
//! the *worst* outcome of its parts stands, in the order of [`Kind`]:
//! filtered < delivered < dead-lettered < shed < expired < cancelled < failed.

use std::fmt;

/// The seven ways to end, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Left out on purpose: a filter, a skip, a branch that ended.
    Filtered = 0,
    /// Reached its sink, and the sink said so.
    Delivered = 1,
    /// Given, with its reason, to a dead-letter destination that accepted it.
    DeadLettered = 2,
    /// Given up under load, or knowingly discarded.
    Shed = 3,
    /// Its deadline passed before it was served.
    Expired = 4,
    /// Left behind by an end already under way.
    Cancelled = 5,
    /// Could not be processed, or was abandoned.
    Failed = 6,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 7;
    /// All kinds, from best to worst.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::Filtered,
        Kind::Delivered,
        Kind::DeadLettered,
        Kind::Shed,
        Kind::Expired,
        Kind::Cancelled,
        Kind::Failed,
    ];

    /// The name reports use, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Filtered => "filtered",
            Kind::Delivered => "delivered",
            Kind::DeadLettered => "dead_lettered",
            Kind::Shed => "shed",
            Kind::Expired => "expired",
            Kind::Cancelled => "cancelled",
            Kind::Failed => "failed",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why an element ended as it did: the key under which stages count.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];
            /// How many reasons there are.
            pub const COUNT: usize = Reason::ALL.len();

            /// The name reports use, in snake case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// Nothing more to say.
    Plain = "plain",
    /// A predicate said no.
    Predicate = "predicate",
    /// A branch or an input ended on purpose while its source goes on.
    Ended = "ended",
    /// Made no output: an empty expansion.
    Empty = "empty",
    /// A full buffer gave up its oldest element.
    DropHead = "drop_head",
    /// A full buffer gave up its youngest element.
    DropTail = "drop_tail",
    /// A full buffer refused the arriving element.
    DropNew = "drop_new",
    /// A full buffer gave up all it held.
    DropBuffer = "drop_buffer",
    /// A full buffer was told to fail.
    Overflow = "overflow",
    /// Discarded knowingly after its failure.
    Discarded = "discarded",
    /// A stage downstream wanted no more: `take`, or a consumer that left.
    NotWanted = "not_wanted",
    /// A kill switch was thrown.
    Killed = "killed",
    /// The run was aborted.
    Aborted = "aborted",
    /// The run was told to drain and its deadline passed.
    DrainDeadline = "drain_deadline",
    /// The source went back and will read it again.
    Rewound = "rewound",
    /// The source lost its claim on the element.
    Revoked = "revoked",
    /// User code panicked on it.
    Panicked = "panicked",
    /// User code returned an error for it.
    Error = "error",
    /// It took longer than allowed.
    TimedOut = "timed_out",
    /// Its tries were used up.
    RetriesExhausted = "retries_exhausted",
    /// Put aside to be tried again later.
    RetryLater = "retry_later",
    /// Nobody settled its receipt: a bug in a stage.
    Abandoned = "abandoned",
    /// The run ended on an error elsewhere.
    RunFailed = "run_failed",
    /// The worst end among the parts of a split element.
    Part = "part",
    /// Its deadline passed.
    Deadline = "deadline",
    /// A bound on keys, bytes or tries was reached.
    Limit = "limit",
    /// It made way for an element of a higher class.
    Evicted = "evicted",
    /// There was no room for its class.
    NoRoom = "no_room",
    /// It waited too long in a queue that did not get shorter.
    QueueDelay = "queue_delay",
    /// Admission refused it: more is offered than can be done.
    Overload = "overload",
    /// A throttle let no more pass.
    Throttled = "throttled",
    /// A circuit breaker was open.
    BreakerOpen = "breaker_open",
    /// A dead-letter destination failed to take it.
    DeadLetterFailed = "dead_letter_failed",
}

/// How one element ended, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Left out on purpose.
    Filtered(Reason),
    /// Reached its sink.
    Delivered,
    /// Accepted by a dead-letter destination.
    DeadLettered(Reason),
    /// Given up under load, or knowingly discarded.
    Shed(Reason),
    /// Too late to be of use.
    Expired,
    /// Left behind by an end already under way.
    Cancelled(Reason),
    /// Could not be processed, or was abandoned.
    Failed(Reason),
}

impl Outcome {
    /// Which of the seven ends this is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Outcome::Filtered(_) => Kind::Filtered,
            Outcome::Delivered => Kind::Delivered,
            Outcome::DeadLettered(_) => Kind::DeadLettered,
            Outcome::Shed(_) => Kind::Shed,
            Outcome::Expired => Kind::Expired,
            Outcome::Cancelled(_) => Kind::Cancelled,
            Outcome::Failed(_) => Kind::Failed,
        }
    }

    /// Why.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Outcome::Delivered => Reason::Plain,
            Outcome::Expired => Reason::Deadline,
            Outcome::Filtered(reason)
            | Outcome::DeadLettered(reason)
            | Outcome::Shed(reason)
            | Outcome::Cancelled(reason)
            | Outcome::Failed(reason) => reason,
        }
    }

    /// The outcome of that kind with that reason; the reason of `Delivered` and `Expired` is fixed.
    #[must_use]
    pub const fn of(kind: Kind, reason: Reason) -> Outcome {
        match kind {
            Kind::Filtered => Outcome::Filtered(reason),
            Kind::Delivered => Outcome::Delivered,
            Kind::DeadLettered => Outcome::DeadLettered(reason),
            Kind::Shed => Outcome::Shed(reason),
            Kind::Expired => Outcome::Expired,
            Kind::Cancelled => Outcome::Cancelled(reason),
            Kind::Failed => Outcome::Failed(reason),
        }
    }

    /// The one that stands when an element ended in both ways.
    #[must_use]
    pub fn worst(self, other: Outcome) -> Outcome {
        if other.kind() > self.kind() {
            other
        } else {
            self
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Reason::Plain => f.write_str(self.kind().name()),
            reason => write!(f, "{} ({})", self.kind().name(), reason.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_of_two_parts_stands_whatever_their_order() {
        let ends = Kind::ALL.map(|kind| Outcome::of(kind, Reason::Plain));
        for (i, a) in ends.iter().enumerate() {
            for (j, b) in ends.iter().enumerate() {
                assert_eq!(a.worst(*b).kind(), Kind::ALL[i.max(j)]);
            }
        }
        assert!(Kind::Filtered < Kind::Delivered && Kind::Cancelled < Kind::Failed);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
        assert_eq!(
            Outcome::Shed(Reason::DropHead).to_string(),
            "shed (drop_head)"
        );
    }
}
