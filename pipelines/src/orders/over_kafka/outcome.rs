//! What the topic saw, as `--json` prints it.

use std::fmt;

use serde::Serialize;

use crate::report::Report;

/// What the topic saw.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(super) role: &'static str,
    pub(super) cluster: String,
    pub(super) topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    pub(super) partitions: usize,
    /// Events that the group has not committed; none where nobody asks, or the brokers do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lag: Option<u64>,
    /// The account of the log side, where this process is both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<Box<Report>>,
}

/// Of a cluster that nobody else can reach: what was paid was logged.
pub(super) fn compare(report: &mut Report, logged: &Report) {
    let (paid, given_up) = (report.delivered(), logged.dead_lettered());
    let distinct = report.distinct().unwrap_or(0);
    if distinct + given_up < paid {
        let what = format!(
            "{paid} events in the topic, but the service had {distinct} and {given_up} were given up"
        );
        report.refute(what);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = self.partitions;
        write!(
            f,
            "topic          {} of {partitions} partitions, at {}",
            self.topic, self.cluster
        )?;
        if let (Some(group), Some(lag)) = (&self.group, self.lag) {
            write!(f, "\ngroup          {group}, {lag} events behind")?;
        }
        match &self.log {
            Some(log) => write!(f, "\n\nlog side\n{}", log.text()),
            None => Ok(()),
        }
    }
}
