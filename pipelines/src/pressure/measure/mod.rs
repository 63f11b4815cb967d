//! From what was recorded to figures. Everything here reads the harness's own trace; what a system
//! says of itself is taken for its controllers and for how its losses are labelled, and checked
//! against the trace.

mod breaker;
mod counts;
mod fairness;
mod inversions;
mod rejections;
mod series;
mod settling;

pub(crate) use breaker::Breaker;
pub(crate) use counts::ClassFigures;
pub(crate) use series::{Bin, Series};
pub(crate) use settling::Settled;

use crate::gates::{self, Gate};
use crate::run::Ran;
use crate::scenario::{ByClass, Scenario};
use crate::trace::{Fate, NEVER};

use serde::Serialize;

/// For tests: an element of no retry, offered at once, of which no work was begun.
#[cfg(test)]
fn unbegun(rank: crate::scenario::Rank, ended: u64, fate: Fate) -> crate::trace::Record {
    crate::trace::Record {
        arrival: crate::schedule::Arrival {
            at_ns: 0,
            service_ns: 1,
            bytes: 10,
            rank,
            tries: 0,
        },
        deadline_ns: 100,
        offered: 0,
        started: NEVER,
        ended,
        fate,
    }
}

/// An adjustment of a controller, as it is printed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Adjusted {
    pub(crate) at_ms: f64,
    pub(crate) what: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) because: String,
}

/// The figures of one run: one object a line in `--json`. A figure that does not apply is null.
///
/// Counts by class are of the whole run, for only those can balance; goodput, latency, inversions
/// and HIGH's loss leave the first part out.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) mode: &'static str,
    pub(crate) system: String,
    pub(crate) capacity_per_s: f64,
    pub(crate) goodput: f64,
    /// What the workers were charged for each refusal; 0 on the wall clock, where it costs what it
    /// costs.
    pub(crate) refusal_ns: u64,
    pub(crate) balanced: bool,
    pub(crate) inversions: u64,
    pub(crate) aging_grants: u64,
    /// How far the process's memory rose in the run above what the harness had before it; on the
    /// wall clock alone.
    pub(crate) peak_rss_kib: Option<u64>,
    pub(crate) peak_in_flight_bytes: u64,
    /// At most that long; how well it is known is in `settling`.
    pub(crate) recovery_ms: Option<f64>,
    pub(crate) convergence_ms: Option<f64>,
    pub(crate) settling: Settling,
    pub(crate) breaker: Breaker,
    pub(crate) adjustments: Vec<Adjusted>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) classes: ByClass<ClassFigures>,
    /// What does not add up.
    #[serde(skip)]
    pub(crate) imbalance: Option<String>,
    /// Beside the printed ones: what gates, comparisons and plots need.
    #[serde(skip)]
    pub(crate) more: More,
}

/// How long it took to settle, and how well that is known.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Settling {
    pub(crate) convergence: Option<Settled>,
    pub(crate) recovery: Option<Settled>,
}

/// Figures that are not printed in a line of JSON.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct More {
    /// The part of HIGH, first part left out, that was not begun in time.
    pub(crate) high_loss: f64,
    pub(crate) high_p99_us: Option<f64>,
    /// The same over all that was offered, of which what is lost never ends.
    pub(crate) high_p99_of_offered_us: Option<f64>,
    /// HIGH's p99 of the same system and seed at half the capacity.
    pub(crate) reference_p99_us: Option<f64>,
    /// How late offers were, 99th percentile.
    pub(crate) lag_p99_us: f64,
    pub(crate) starts: u64,
    pub(crate) completions: u64,
    /// Elements a second that were given back or dropped, over the whole run.
    pub(crate) refused_per_s: f64,
    pub(crate) bound_bytes: Option<u64>,
    pub(crate) trip_calls: Option<u64>,
    pub(crate) series: Series,
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// The value below which that part of the values is; they are put in order.
pub(crate) fn quantile(values: &mut [u64], part: f64) -> Option<u64> {
    values.sort_unstable();
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The figures of a run. `name` is the scenario's, with its level.
pub(crate) fn figures(
    scenario: &Scenario,
    level: Option<f64>,
    name: String,
    system: &str,
    seed: u64,
    ran: &Ran,
    reference_p99_us: Option<f64>,
) -> Figures {
    let duration_ns = scenario.duration_ms * 1_000_000;
    let from = (duration_ns as f64 * scenario.measure.leave_out) as u64;
    let window = from..duration_ns;
    let span_s = (duration_ns - from) as f64 / 1e9;
    let counted = counts::count(ran, from, scenario.producers);
    let in_time = ran.records.iter().filter(|record| {
        record.fate == Fate::Done
            && window.contains(&record.ended)
            && record.ended - record.arrival.at_ns <= record.deadline_ns
    });
    let goodput = in_time.count() as f64 / (ran.capacity_per_s * span_s);
    let grace_ns = (scenario.measure.inversion_grace_us * 1e3) as u64;
    let found = inversions::count(&ran.records, &window, grace_ns);
    let aging_grants = ran.last.aging_grants;
    let trips = breaker::trips(scenario, ran);
    let mut lags: Vec<u64> = ran
        .records
        .iter()
        .filter(|record| record.offered != NEVER)
        .map(|record| record.offered.saturating_sub(record.arrival.at_ns))
        .collect();
    let high_p99_us = counted.classes.high.latency_us.p99;
    let adjustments = ran.last.adjustments.iter().map(|adjustment| Adjusted {
        at_ms: adjustment.at.as_nanos() as f64 / 1e6,
        what: adjustment.what.to_owned(),
        from: adjustment.from,
        to: adjustment.to,
        because: adjustment.because.to_owned(),
    });
    let settling = Settling {
        convergence: settling::convergence(scenario, ran),
        recovery: settling::recovery(scenario, ran, from),
    };
    let mut figures = Figures {
        scenario: name,
        seed,
        mode: scenario.mode.name(),
        system: system.to_owned(),
        capacity_per_s: round(ran.capacity_per_s, 3),
        goodput: round(goodput, 6),
        refusal_ns: ran.refusal_ns,
        balanced: counted.imbalance.is_none(),
        // Starts that were granted by declaration violate nothing.
        inversions: found.starts.saturating_sub(aging_grants) + found.losses,
        aging_grants,
        peak_rss_kib: ran.peak_rss_kib,
        peak_in_flight_bytes: counts::peak_bytes(&ran.records),
        recovery_ms: settling.recovery.map(|settled| settled.ms),
        convergence_ms: settling.convergence.map(|settled| settled.ms),
        settling,
        breaker: trips.breaker,
        adjustments: adjustments.collect(),
        gates: Vec::new(),
        classes: counted.classes,
        imbalance: counted.imbalance,
        more: More {
            high_loss: counts::high_loss(&ran.records, &window),
            high_p99_us,
            high_p99_of_offered_us: counts::high_p99_of_offered_us(&ran.records, from),
            reference_p99_us,
            lag_p99_us: quantile(&mut lags, 0.99).unwrap_or_default() as f64 / 1e3,
            starts: found.checked,
            completions: counts::completions(&ran.records, &window),
            refused_per_s: rejections::given_up(&ran.records) as f64 * 1e9 / duration_ns as f64,
            bound_bytes: ran.bound_bytes,
            trip_calls: trips.calls,
            series: series::series(ran, duration_ns),
        },
    };
    figures.gates = gates::judge(scenario, level, &figures);
    figures
}
