//! Whether the producers of a class fare alike.

use super::round;
use crate::scenario::Rank;
use crate::trace::{Fate, Record};

/// Jain's index of the shares that were done in time of what each producer offered the first time.
pub(super) fn jain(records: &[Record], rank: Rank, producers: usize) -> Option<f64> {
    let mut offered = vec![0_u64; producers];
    let mut in_time = vec![0_u64; producers];
    for (number, record) in records.iter().enumerate() {
        let counts = record.arrival.rank == rank && record.arrival.tries == 0;
        if !counts || record.fate == Fate::Ahead {
            continue;
        }
        let producer = number % producers;
        offered[producer] += 1;
        let done =
            record.fate == Fate::Done && record.ended - record.arrival.at_ns <= record.deadline_ns;
        in_time[producer] += u64::from(done);
    }
    let shares: Vec<f64> = offered
        .iter()
        .zip(&in_time)
        .filter(|(offered, _)| **offered > 0)
        .map(|(offered, in_time)| *in_time as f64 / *offered as f64)
        .collect();
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    (shares.len() > 1 && sum > 0.0).then(|| round(sum * sum / (shares.len() as f64 * squares), 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::unbegun as record;
    use crate::trace::Fate::{Done, Refused};

    #[test]
    fn producers_that_fare_alike_have_an_index_of_one() {
        let of = |fates: [Fate; 4]| {
            let records = fates.map(|fate| record(Rank::Low, 50, fate));
            jain(&records, Rank::Low, 2)
        };
        assert_eq!(of([Done, Done, Refused, Refused]), Some(1.0));
        assert_eq!(of([Done, Refused, Done, Refused]), Some(0.5));
        assert_eq!(of([Refused; 4]), None);
        assert_eq!(jain(&[record(Rank::Low, 50, Done)], Rank::Low, 1), None);
    }
}
