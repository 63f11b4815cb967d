//! What was given back or given up, and how soon whoever offered it could know.

use serde::Serialize;

use super::{quantile, round};
use crate::scenario::Rank;
use crate::trace::{Fate, NEVER, Record};

/// From the offer until an element was given back or given up, of all of which no work was begun and
/// that were not cancelled; null where there are none. In simulated time what is refused at the offer
/// takes no time.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct TimeToReject {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

pub(super) fn time_to_reject(records: &[Record], rank: Rank, from: u64) -> TimeToReject {
    let mut times: Vec<u64> = records
        .iter()
        .filter(|record| {
            record.arrival.rank == rank
                && record.arrival.at_ns >= from
                && record.started == NEVER
                && matches!(record.fate, Fate::Refused | Fate::Lost)
        })
        .map(|record| record.ended.saturating_sub(record.offered))
        .collect();
    let us = |ns: Option<u64>| ns.map(|ns| round(ns as f64 / 1e3, 1));
    TimeToReject {
        p50: us(quantile(&mut times, 0.5)),
        p99: us(quantile(&mut times, 0.99)),
    }
}

/// Elements that were refused, or dropped while the run went on.
pub(super) fn given_up(records: &[Record]) -> u64 {
    let given_up = |record: &&Record| matches!(record.fate, Fate::Refused | Fate::Lost);
    records.iter().filter(given_up).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::unbegun as record;

    #[test]
    fn time_to_reject_is_from_the_offer_to_the_end_of_what_was_not_begun() {
        let mut begun = record(Rank::High, 900_000, Fate::Lost);
        begun.started = 10;
        let records = [
            record(Rank::High, 0, Fate::Refused),
            record(Rank::High, 4_000, Fate::Lost),
            record(Rank::High, 7_000, Fate::Done),
            record(Rank::Low, 9_000, Fate::Lost),
            begun,
        ];
        let told = time_to_reject(&records, Rank::High, 0);
        assert_eq!((told.p50, told.p99), (Some(0.0), Some(4.0)));
        assert_eq!(time_to_reject(&records, Rank::Medium, 0).p50, None);
    }
}
