//! How elements ended, by class, and whether it adds up.

use std::ops::Range;

use forebay::outcome::Kind;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::fairness::jain;
use super::rejections::{TimeToReject, time_to_reject};
use super::{quantile, round};
use crate::run::Ran;
use crate::scenario::{ByClass, Rank};
use crate::trace::{Fate, NEVER, Record};

/// From the intended start to the end of the work, of all elements that were done, late ones
/// included; null where there are none.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// The figures of one class.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct ClassFigures {
    pub(crate) offered: u64,
    pub(crate) in_deadline: u64,
    pub(crate) late: u64,
    pub(crate) shed: u64,
    pub(crate) expired: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    pub(crate) deferrals: u64,
    pub(crate) in_flight: u64,
    pub(crate) latency_us: Latency,
    pub(crate) time_to_reject_us: TimeToReject,
    /// Jain's index of the producers' shares in time of what each offered: 1 if all fare alike, 1 / n
    /// if one of n gets all; null with one producer, or if nothing was done in time.
    pub(crate) jain: Option<f64>,
}

impl ClassFigures {
    fn ends(&self) -> u64 {
        self.in_deadline
            + self.late
            + self.shed
            + self.expired
            + self.dead_lettered
            + self.cancelled
            + self.failed
            + self.in_flight
    }
}

pub(super) struct Counted {
    pub(super) classes: ByClass<ClassFigures>,
    pub(super) imbalance: Option<String>,
}

/// Counts the whole run; latencies are those of elements meant to start from `from` on.
/// Who offered is told by an element's number: each of so many producers offers every n-th.
pub(super) fn count(ran: &Ran, from: u64, producers: usize) -> Counted {
    let mut wrong: Vec<String> = ran.imbalance.iter().cloned().collect();
    let classes = ByClass::make(|rank| ClassFigures {
        time_to_reject_us: time_to_reject(&ran.records, rank, from),
        jain: jain(&ran.records, rank, producers),
        ..class(ran, rank, from, &mut wrong)
    });
    Counted {
        classes,
        imbalance: (!wrong.is_empty()).then(|| wrong.join("; ")),
    }
}

fn class(ran: &Ran, rank: Rank, from: u64, wrong: &mut Vec<String>) -> ClassFigures {
    let mut figures = ClassFigures::default();
    let mut histogram = Histogram::<u64>::new(3).ok();
    let (mut refused, mut lost, mut cancelled) = (0, 0, 0);
    for record in ran
        .records
        .iter()
        .filter(|record| record.arrival.rank == rank)
    {
        if record.fate != Fate::Ahead {
            figures.offered += 1;
        }
        match record.fate {
            Fate::Ahead => {}
            Fate::Inside => figures.in_flight += 1,
            Fate::Refused => refused += 1,
            Fate::Lost => lost += 1,
            Fate::Cancelled => cancelled += 1,
            Fate::Failed => figures.failed += 1,
            Fate::Done => {
                let latency = record.ended - record.arrival.at_ns;
                if latency <= record.deadline_ns {
                    figures.in_deadline += 1;
                } else {
                    figures.late += 1;
                }
                if record.arrival.at_ns >= from
                    && let Some(histogram) = &mut histogram
                {
                    // Cannot fail: the histogram resizes itself.
                    let _ = histogram.record(latency);
                }
            }
        }
    }
    if let Some(deferrals) = &ran.last.deferrals {
        figures.deferrals = *deferrals.of(rank);
    }
    match &ran.account {
        // A baseline gives no reason: what it refuses or drops it sheds.
        None => {
            figures.shed = refused + lost;
            figures.cancelled = cancelled;
        }
        // The system's labels, held against the trace's counts.
        Some(account) => {
            let says = |kind: Kind| account.of(rank)[kind as usize];
            let done = figures.in_deadline + figures.late;
            let turned_away = ran.last.turned_away.as_ref();
            let turned_away = turned_away.map_or(0, |by_class| *by_class.of(rank));
            let pairs = [
                ("done", done, says(Kind::Delivered) + says(Kind::Filtered)),
                ("failed", figures.failed, says(Kind::Failed)),
                (
                    "lost",
                    refused + lost + cancelled,
                    turned_away
                        + says(Kind::Shed)
                        + says(Kind::Expired)
                        + says(Kind::DeadLettered)
                        + says(Kind::Cancelled),
                ),
            ];
            for (what, traced, said) in pairs {
                if traced != said {
                    let class = rank.name();
                    wrong.push(format!(
                        "{class}: {traced} {what} by the trace, {said} by the pipeline's account"
                    ));
                }
            }
            figures.shed = turned_away + says(Kind::Shed);
            figures.expired = says(Kind::Expired);
            figures.dead_lettered = says(Kind::DeadLettered);
            figures.cancelled = says(Kind::Cancelled);
        }
    }
    if figures.offered != figures.ends() {
        wrong.push(format!(
            "{}: {} offered, {} accounted for",
            rank.name(),
            figures.offered,
            figures.ends()
        ));
    }
    if let Some(histogram) = histogram.filter(|histogram| !histogram.is_empty()) {
        let us = |ns: u64| Some(round(ns as f64 / 1e3, 1));
        figures.latency_us = Latency {
            p50: us(histogram.value_at_quantile(0.5)),
            p99: us(histogram.value_at_quantile(0.99)),
            p999: us(histogram.value_at_quantile(0.999)),
            max: us(histogram.max()),
        };
    }
    figures
}

/// The part of HIGH that was lost, of what was meant to start in the window: refused, dropped,
/// cancelled, failed, or not begun before its deadline. (A call that took too long was begun in time;
/// a system cannot do better.)
pub(super) fn high_loss(records: &[Record], window: &Range<u64>) -> f64 {
    let high = records.iter().filter(|record| {
        record.arrival.rank == Rank::High
            && record.arrival.at_ns >= window.start
            && record.fate != Fate::Ahead
    });
    let (mut offered, mut lost) = (0_u64, 0_u64);
    for record in high {
        offered += 1;
        let deadline = record.arrival.at_ns.saturating_add(record.deadline_ns);
        // What still waits at the end of the run was not begun until then.
        let begun = record.started.min(window.end);
        lost += u64::from(match record.fate {
            Fate::Refused | Fate::Lost | Fate::Cancelled | Fate::Failed => true,
            _ => begun > deadline,
        });
    }
    lost as f64 / offered.max(1) as f64
}

/// HIGH's latency, 99th percentile, over all that was offered from `from` on: what was not done never
/// ended, so that a system does not look fast for what it loses. Infinite if more than 1 % were not.
pub(super) fn high_p99_of_offered_us(records: &[Record], from: u64) -> Option<f64> {
    let mut latencies: Vec<u64> = records
        .iter()
        .filter(|record| record.arrival.rank == Rank::High && record.arrival.at_ns >= from)
        .filter_map(|record| match record.fate {
            Fate::Done => Some(record.ended - record.arrival.at_ns),
            Fate::Refused | Fate::Lost | Fate::Cancelled | Fate::Failed => Some(NEVER),
            // What is still inside may yet be done.
            Fate::Ahead | Fate::Inside => None,
        })
        .collect();
    let p99 = quantile(&mut latencies, 0.99)?;
    Some(if p99 == NEVER {
        f64::INFINITY
    } else {
        p99 as f64 / 1e3
    })
}

pub(super) fn completions(records: &[Record], window: &Range<u64>) -> u64 {
    let done = |record: &&Record| record.fate == Fate::Done && window.contains(&record.ended);
    records.iter().filter(done).count() as u64
}

/// The most bytes that were inside at once: taken in, and neither done nor dropped.
pub(super) fn peak_bytes(records: &[Record]) -> u64 {
    let mut events: Vec<(u64, bool, u64)> = Vec::new();
    for record in records {
        if matches!(record.fate, Fate::Ahead | Fate::Refused) {
            continue;
        }
        let bytes = record.arrival.bytes;
        events.push((record.offered, true, bytes));
        if record.ended != NEVER {
            events.push((record.ended, false, bytes));
        }
    }
    // At one instant, what leaves leaves first.
    events.sort_unstable();
    let (mut inside, mut peak) = (0_u64, 0_u64);
    for (_, enters, bytes) in events {
        if enters {
            inside += bytes;
            peak = peak.max(inside);
        } else {
            inside = inside.saturating_sub(bytes);
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schedule::Arrival;
    use crate::system::Observation;

    fn record(rank: Rank, at_ns: u64, ended: u64, fate: Fate) -> Record {
        Record {
            arrival: Arrival {
                at_ns,
                service_ns: 1,
                bytes: 10,
                rank,
                tries: 0,
            },
            deadline_ns: 100,
            offered: at_ns,
            started: NEVER,
            ended,
            fate,
        }
    }

    fn ran(records: Vec<Record>, account: Option<[(Kind, u64); 2]>) -> Ran {
        Ran {
            records,
            capacity_per_s: 1.0,
            mean_service_ns: 1.0,
            samples: Vec::new(),
            last: Observation::default(),
            account: account.map(|kinds| {
                ByClass::make(|rank| {
                    let mut outcomes = [0; Kind::COUNT];
                    if rank == Rank::High {
                        for (kind, count) in kinds {
                            outcomes[kind as usize] = count;
                        }
                    }
                    outcomes
                })
            }),
            imbalance: None,
            bound_bytes: None,
            refusal_ns: 0,
            peak_rss_kib: None,
        }
    }

    fn high() -> Vec<Record> {
        vec![
            record(Rank::High, 0, 50, Fate::Done),
            record(Rank::High, 0, 101, Fate::Done),
            record(Rank::High, 10, 10, Fate::Refused),
            record(Rank::High, 20, 30, Fate::Lost),
            record(Rank::High, 20, NEVER, Fate::Inside),
            record(Rank::High, 90, NEVER, Fate::Ahead),
        ]
    }

    #[test]
    fn each_element_counts_once() {
        let counted = count(&ran(high(), None), 0, 1);
        assert_eq!(counted.imbalance, None);
        let high = counted.classes.high;
        assert_eq!(high.offered, 5);
        assert_eq!(
            (high.in_deadline, high.late, high.shed, high.in_flight),
            (1, 1, 2, 1)
        );
    }

    #[test]
    fn high_is_lost_that_is_not_begun_in_time() {
        let started = |started: u64, fate: Fate| Record {
            started,
            ..record(Rank::High, 0, 150, fate)
        };
        for (record, lost) in [
            (started(100, Fate::Done), 0.0),
            (started(101, Fate::Done), 1.0),
            (started(100, Fate::Failed), 1.0),
            (started(50, Fate::Cancelled), 1.0),
            (started(NEVER, Fate::Refused), 1.0),
            (started(NEVER, Fate::Inside), 1.0),
        ] {
            assert!(
                (high_loss(&[record], &(0..200)) - lost).abs() < 1e-9,
                "{record:?}"
            );
        }
        let p99 = |lost: usize| {
            let mut records = vec![record(Rank::High, 0, 2000, Fate::Done); 200];
            records.extend(vec![record(Rank::High, 0, 10, Fate::Refused); lost]);
            high_p99_of_offered_us(&records, 0)
        };
        assert_eq!(p99(1), Some(2.0));
        assert_eq!(p99(4), Some(f64::INFINITY), "more than one in a hundred");
        let waits = started(NEVER, Fate::Inside);
        assert!(high_loss(&[waits], &(0..80)) < 1e-9, "there is still time");
    }

    #[test]
    fn an_account_that_differs_from_the_trace_does_not_balance() {
        let true_account = [(Kind::Delivered, 2), (Kind::Shed, 2)];
        assert_eq!(
            count(&ran(high(), Some(true_account)), 0, 1).imbalance,
            None
        );
        for (lie, named) in [
            (
                [(Kind::Delivered, 3), (Kind::Shed, 2)],
                "2 done by the trace, 3",
            ),
            (
                [(Kind::Delivered, 2), (Kind::Expired, 1)],
                "2 lost by the trace, 1",
            ),
            (
                [(Kind::Delivered, 2), (Kind::Failed, 2)],
                "0 failed by the trace, 2",
            ),
        ] {
            let told = count(&ran(high(), Some(lie)), 0, 1).imbalance.unwrap();
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn the_peak_is_of_what_is_inside_at_once() {
        assert_eq!(
            peak_bytes(&high()),
            40,
            "two done late, one lost, one still inside"
        );
        let one_after_the_other =
            [(0, 10), (10, 20)].map(|(at, end)| record(Rank::Low, at, end, Fate::Done));
        assert_eq!(peak_bytes(&one_after_the_other), 10);
    }
}
