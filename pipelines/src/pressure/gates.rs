//! What a run was to show, and whether it did.

use serde::Serialize;

use crate::measure::Figures;
use crate::scenario::Scenario;

/// One gate.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) limit: f64,
    /// Null where there was nothing to measure; the gate is not met then.
    pub(crate) value: Option<f64>,
    pub(crate) met: bool,
    /// The true value is at most that: less cannot be told.
    #[serde(skip)]
    pub(crate) is_bound: bool,
}

impl Gate {
    /// The value as it is shown.
    pub(crate) fn shown(&self) -> String {
        let bound = if self.is_bound { "<= " } else { "" };
        let value = self.value.map(|value| format!("{bound}{value}"));
        value.unwrap_or_else(|| "-".to_owned())
    }
}

fn at_most(name: &str, limit: f64, value: Option<f64>) -> Gate {
    Gate {
        name: name.to_owned(),
        limit,
        value,
        met: value.is_some_and(|value| value <= limit),
        is_bound: false,
    }
}

fn at_least(name: &str, limit: f64, value: Option<f64>) -> Gate {
    Gate {
        name: name.to_owned(),
        limit,
        value,
        met: value.is_some_and(|value| value >= limit),
        is_bound: false,
    }
}

/// The gates of a scenario at a level, and always the producers' schedule.
pub(crate) fn judge(scenario: &Scenario, level: Option<f64>, run: &Figures) -> Vec<Gate> {
    let more = &run.more;
    let mut gates = vec![at_most(
        "lag_p99_us_max",
        scenario.measure.lag_p99_us_max,
        Some(more.lag_p99_us),
    )];
    for expect in scenario.expect.at_level(level) {
        let ratio = more
            .high_p99_us
            .zip(more.reference_p99_us)
            .map(|(p99, reference)| p99 / reference);
        let count = |value: u64| Some(value as f64);
        let aging = run.aging_grants as f64 / more.starts.max(1) as f64;
        let upper = [
            ("high_loss_max", expect.high_loss_max, Some(more.high_loss)),
            ("high_p99_us_max", expect.high_p99_us_max, more.high_p99_us),
            ("high_p99_ratio_max", expect.high_p99_ratio_max, ratio),
            (
                "inversions_max",
                expect.inversions_max.map(|max| max as f64),
                count(run.inversions),
            ),
            (
                "convergence_ms_max",
                expect.convergence_ms_max,
                run.convergence_ms,
            ),
            ("recovery_ms_max", expect.recovery_ms_max, run.recovery_ms),
            (
                "trip_calls_max",
                expect.trip_calls_max.map(|max| max as f64),
                more.trip_calls.and_then(count),
            ),
            ("trip_ms_max", expect.trip_ms_max, run.breaker.trip_ms),
            ("close_ms_max", expect.close_ms_max, run.breaker.close_ms),
            (
                "false_trips_max",
                expect.false_trips_max.map(|max| max as f64),
                count(run.breaker.false_trips),
            ),
            (
                "in_flight_bytes_max",
                expect.in_flight_bytes_max.map(|max| max as f64),
                count(run.peak_in_flight_bytes),
            ),
            ("aging_share_max", expect.aging_share_max, Some(aging)),
            (
                "peak_rss_kib_max",
                expect.peak_rss_kib_max.map(|max| max as f64),
                run.peak_rss_kib.and_then(count),
            ),
        ];
        if let Some(limit) = expect.goodput_min {
            gates.push(at_least("goodput_min", limit, Some(run.goodput)));
        }
        for (name, limit, value) in upper {
            gates.extend(limit.map(|limit| at_most(name, limit, value)));
        }
        if expect.in_flight_within_bound {
            let bound = more.bound_bytes.unwrap_or_default();
            gates.push(at_most(
                "in_flight_within_bound",
                bound as f64,
                count(run.peak_in_flight_bytes),
            ));
        }
    }
    for (name, settled) in [
        ("convergence_ms_max", run.settling.convergence),
        ("recovery_ms_max", run.settling.recovery),
    ] {
        let is_bound = settled.is_some_and(|settled| settled.is_below_resolution());
        let named = gates.iter_mut().filter(|gate| gate.name == name);
        named.for_each(|gate| gate.is_bound = is_bound);
    }
    gates
}
