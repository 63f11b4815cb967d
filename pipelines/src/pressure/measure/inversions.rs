//! Violations of the order of classes, from the trace of offers and starts.
//!
//! An inversion is a start of an element while one of a higher class, offered at an earlier instant,
//! waits; or the loss of one, before its deadline, while one of a lower class waits.

use std::ops::Range;

use crate::scenario::Rank;
use crate::trace::{Fate, NEVER, Record};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Inversions {
    /// At starts.
    pub(super) starts: u64,
    /// At losses.
    pub(super) losses: u64,
    /// All starts looked at.
    pub(super) checked: u64,
}

/// In the order in which events of one instant count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Leaves,
    Starts,
    IsLost,
    Waits,
}

/// Counts those within the window. Who was offered less than `grace_ns` before counts as not there.
pub(super) fn count(records: &[Record], window: &Range<u64>, grace_ns: u64) -> Inversions {
    let mut events: Vec<(u64, Event, usize)> = Vec::new();
    for record in records {
        let rank = record.arrival.rank.index();
        let lost = matches!(record.fate, Fate::Refused | Fate::Lost) && record.started == NEVER;
        // A loss past the deadline is an expiry, which violates no order.
        if lost && record.ended < record.arrival.at_ns.saturating_add(record.deadline_ns) {
            events.push((record.ended, Event::IsLost, rank));
        }
        if matches!(record.fate, Fate::Ahead | Fate::Refused) {
            continue;
        }
        if record.started != NEVER {
            events.push((record.started, Event::Starts, rank));
        }
        let leaves = record.started.min(record.ended);
        let waits = record.offered.saturating_add(grace_ns);
        if waits < leaves {
            events.push((waits, Event::Waits, rank));
            events.push((leaves, Event::Leaves, rank));
        }
    }
    events.sort_unstable();
    let mut waiting = [0_u64; Rank::ALL.len()];
    let mut found = Inversions::default();
    for (at, event, rank) in events {
        match event {
            Event::Leaves => waiting[rank] -= 1,
            Event::Waits => waiting[rank] += 1,
            Event::Starts | Event::IsLost if !window.contains(&at) => {}
            Event::Starts => {
                found.checked += 1;
                found.starts += u64::from(waiting[..rank].iter().any(|count| *count > 0));
            }
            Event::IsLost => {
                found.losses += u64::from(waiting[rank + 1..].iter().any(|count| *count > 0));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Arrival;

    fn record(rank: Rank, offered: u64, started: u64, ended: u64, fate: Fate) -> Record {
        Record {
            arrival: Arrival {
                at_ns: offered,
                service_ns: 1,
                bytes: 1,
                rank,
                tries: 0,
            },
            deadline_ns: 100,
            offered,
            started,
            ended,
            fate,
        }
    }

    #[test]
    fn a_low_start_before_a_waiting_high_is_one_and_the_other_way_round_is_none() {
        let low = record(Rank::Low, 0, 10, 20, Fate::Done);
        let high = record(Rank::High, 5, 15, 20, Fate::Done);
        let found = count(&[low, high], &(0..100), 0);
        assert_eq!((found.starts, found.losses, found.checked), (1, 0, 2));
        assert_eq!(
            count(&[low, high], &(0..100), 7).starts,
            0,
            "within the grace"
        );
        let at_once = record(Rank::High, 10, 15, 20, Fate::Done);
        assert_eq!(
            count(&[low, at_once], &(0..100), 0).starts,
            0,
            "not there before"
        );
        let served = record(Rank::High, 5, 10, 20, Fate::Done);
        assert_eq!(
            count(&[low, served], &(0..100), 0).starts,
            0,
            "started at once"
        );
        assert_eq!(count(&[low, high], &(50..100), 0).checked, 0, "left out");
    }

    #[test]
    fn a_high_lost_while_a_low_waits_is_one_unless_it_had_expired() {
        let low = record(Rank::Low, 0, 50, 60, Fate::Done);
        for (fate, ended, wanted) in [
            (Fate::Refused, 5, 1),
            (Fate::Lost, 20, 1),
            (Fate::Lost, 55, 0),
            (Fate::Cancelled, 20, 0),
        ] {
            let high = record(Rank::High, 5, NEVER, ended, fate);
            assert_eq!(
                count(&[low, high], &(0..100), 0).losses,
                wanted,
                "{fate:?} {ended}"
            );
        }
        let mut late = record(Rank::High, 5, NEVER, 20, Fate::Lost);
        late.deadline_ns = 10;
        assert_eq!(count(&[low, late], &(0..100), 0).losses, 0);
    }
}
