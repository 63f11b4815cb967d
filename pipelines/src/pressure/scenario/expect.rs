//! What a run has to show.

use serde::{Deserialize, Serialize};

/// The gates of a scenario; what is absent is not asked.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Expect {
    /// In `at`: the total level of a sweep these gates are for.
    pub(crate) level: Option<f64>,
    pub(crate) goodput_min: Option<f64>,
    pub(crate) high_loss_max: Option<f64>,
    pub(crate) high_p99_us_max: Option<f64>,
    pub(crate) high_p99_ratio_max: Option<f64>,
    pub(crate) inversions_max: Option<u64>,
    pub(crate) convergence_ms_max: Option<f64>,
    pub(crate) recovery_ms_max: Option<f64>,
    pub(crate) trip_calls_max: Option<u64>,
    pub(crate) trip_ms_max: Option<f64>,
    pub(crate) close_ms_max: Option<f64>,
    pub(crate) false_trips_max: Option<u64>,
    pub(crate) in_flight_bytes_max: Option<u64>,
    pub(crate) in_flight_within_bound: bool,
    pub(crate) aging_share_max: Option<f64>,
    pub(crate) peak_rss_kib_max: Option<u64>,
    /// Gates for single levels of a sweep, besides those above.
    pub(crate) at: Vec<Expect>,
}

impl Expect {
    /// `goodput_most`: what is done in time can be more than the capacity if a call can be for several.
    pub(crate) fn check(&self, sweep: &[f64], goodput_most: f64) -> Result<(), String> {
        if self.level.is_some() {
            return Err("expect.level: only in expect.at".to_owned());
        }
        self.check_limits("expect", goodput_most)?;
        for (number, at) in self.at.iter().enumerate() {
            let field = format!("expect.at[{number}]");
            if !at.at.is_empty() {
                return Err(format!("{field}.at: not within itself"));
            }
            match at.level {
                None => return Err(format!("{field}.level: it is missing")),
                Some(level) if !sweep.contains(&level) => {
                    return Err(format!("{field}.level = {level}: not in load.sweep"));
                }
                Some(_) => at.check_limits(&field, goodput_most)?,
            }
        }
        Ok(())
    }

    fn check_limits(&self, field: &str, goodput_most: f64) -> Result<(), String> {
        let figures = [
            ("goodput_min", self.goodput_min),
            ("high_loss_max", self.high_loss_max),
            ("high_p99_us_max", self.high_p99_us_max),
            ("high_p99_ratio_max", self.high_p99_ratio_max),
            ("convergence_ms_max", self.convergence_ms_max),
            ("recovery_ms_max", self.recovery_ms_max),
            ("trip_ms_max", self.trip_ms_max),
            ("close_ms_max", self.close_ms_max),
            ("aging_share_max", self.aging_share_max),
        ];
        for (name, value) in figures {
            if let Some(value) = value
                && !(0.0..=1e9).contains(&value)
            {
                return Err(format!("{field}.{name} = {value}: from 0 to 1000000000"));
            }
        }
        let shares = [
            ("goodput_min", self.goodput_min, goodput_most),
            ("high_loss_max", self.high_loss_max, 1.0),
        ];
        for (name, value, most) in shares {
            if let Some(value) = value.filter(|value| *value > most) {
                return Err(format!("{field}.{name} = {value}: from 0 to {most}"));
            }
        }
        Ok(())
    }

    /// The gates that hold at that level of a sweep: the general ones, and those for it alone.
    pub(crate) fn at_level(&self, level: Option<f64>) -> Vec<&Expect> {
        let special = self
            .at
            .iter()
            .filter(|at| level.is_some() && at.level == level);
        std::iter::once(self).chain(special).collect()
    }

    /// Whether a gate compares with the same system at half the capacity.
    pub(crate) fn needs_reference(&self, level: Option<f64>) -> bool {
        let gates = self.at_level(level);
        gates.iter().any(|gates| gates.high_p99_ratio_max.is_some())
    }
}
