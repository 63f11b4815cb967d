//! What a run came to: one JSON object, or the same for reading.

use std::fmt::Write as _;
use std::time::Duration;

use forebay::class::Class;
use forebay::outcome::Kind;
use forebay::position::{ClassCounts, SourceCounts};
use forebay::runtime::Snapshot;
use serde::Serialize;

use crate::http_log::Stats;

/// What became of elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Counters {
    #[serde(rename = "in")]
    entered: u64,
    delivered: u64,
    filtered: u64,
    shed: u64,
    expired: u64,
    dead_lettered: u64,
    cancelled: u64,
    failed: u64,
    in_flight: u64,
}

impl Counters {
    fn of(outcome: impl Fn(Kind) -> u64, in_flight: u64, entered: u64) -> Counters {
        Counters {
            entered,
            delivered: outcome(Kind::Delivered),
            filtered: outcome(Kind::Filtered),
            shed: outcome(Kind::Shed),
            expired: outcome(Kind::Expired),
            dead_lettered: outcome(Kind::DeadLettered),
            cancelled: outcome(Kind::Cancelled),
            failed: outcome(Kind::Failed),
            in_flight,
        }
    }

    fn total(counts: &SourceCounts) -> Counters {
        Counters::of(
            |kind| counts.outcome(kind),
            counts.unsettled(),
            counts.entered,
        )
    }

    fn class(counts: &ClassCounts) -> Counters {
        Counters::of(
            |kind| counts.outcomes[kind as usize],
            counts.unsettled,
            counts.total(),
        )
    }

    fn figures(&self) -> [u64; 9] {
        let Counters {
            entered,
            delivered,
            filtered,
            shed,
            expired,
            dead_lettered,
            cancelled,
            failed,
            in_flight,
        } = *self;
        [
            entered,
            delivered,
            filtered,
            shed,
            expired,
            dead_lettered,
            cancelled,
            failed,
            in_flight,
        ]
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct LatencyUs {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Received {
    distinct: u64,
    duplicates: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Classes {
    high: Counters,
    medium: Counters,
    low: Counters,
    unclassified: Counters,
}

/// The result of a run, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    total: Counters,
    pub(crate) balanced: bool,
    elements_per_s: f64,
    latency_us: LatencyUs,
    received_by_server: Option<Received>,
    classes: Classes,
    /// What became of a load that exceeds what can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overload: Option<crate::overload::Outcome>,
    /// The topic in between.
    #[cfg(feature = "kafka")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kafka: Option<crate::orders::over_kafka::Outcome>,
    /// What does not add up, in words.
    #[serde(skip)]
    pub(crate) wrong: Vec<String>,
    #[serde(skip)]
    took: Duration,
    #[serde(skip)]
    stages: String,
}

impl Report {
    /// `server` is what the service was sent; `fresh` says that it was sent this run's posts alone,
    /// so that it must have had each delivered order.
    pub(crate) fn new(
        snapshot: &Snapshot,
        took: Duration,
        server: Option<Stats>,
        fresh: bool,
    ) -> Report {
        let counts = snapshot.total();
        let total = Counters::total(&counts);
        let class = |index: usize| Counters::class(&counts.classes[index]);
        let classes = Classes {
            high: class(Class::HIGH.index()),
            medium: class(Class::MEDIUM.index()),
            low: class(Class::LOW.index()),
            unclassified: class(Class::COUNT),
        };
        let mut wrong: Vec<String> = match snapshot.check() {
            Ok(()) => Vec::new(),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        };
        let distinct = server.map_or(0, |stats| stats.distinct);
        if fresh && distinct < total.delivered {
            wrong.push(format!(
                "{} orders delivered, but the service had {distinct}",
                total.delivered
            ));
        }
        let latency = snapshot.latency();
        let ended = total.entered - total.in_flight.min(total.entered);
        Report {
            total,
            balanced: wrong.is_empty(),
            elements_per_s: (ended as f64 / took.as_secs_f64().max(1e-9)).round(),
            latency_us: LatencyUs {
                p50: latency.quantile_us(0.5),
                p99: latency.quantile_us(0.99),
                p999: latency.quantile_us(0.999),
                max: latency.max_us(),
            },
            received_by_server: server.map(|stats| Received {
                distinct: stats.distinct,
                duplicates: stats.duplicates,
            }),
            classes,
            overload: None,
            #[cfg(feature = "kafka")]
            kafka: None,
            wrong,
            took,
            stages: by_stage(snapshot),
        }
    }

    /// Something else that does not add up.
    #[cfg(feature = "kafka")]
    pub(crate) fn refute(&mut self, what: String) {
        self.wrong.push(what);
        self.balanced = false;
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn delivered(&self) -> u64 {
        self.total.delivered
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn dead_lettered(&self) -> u64 {
        self.total.dead_lettered
    }

    /// Different orders that the service had.
    #[cfg(feature = "kafka")]
    pub(crate) fn distinct(&self) -> Option<u64> {
        self.received_by_server.map(|received| received.distinct)
    }

    /// The report for reading.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.stages);
        let heads = [
            "in",
            "delivered",
            "filtered",
            "shed",
            "expired",
            "dead-lettered",
            "cancelled",
            "failed",
            "in flight",
        ];
        let _ = write!(text, "{:<14}", "by class");
        for head in heads {
            let _ = write!(text, "{head:>14}");
        }
        let Classes {
            high,
            medium,
            low,
            unclassified,
        } = &self.classes;
        let rows = [
            ("high", high),
            ("medium", medium),
            ("low", low),
            ("unclassified", unclassified),
            ("total", &self.total),
        ];
        for (name, counters) in rows {
            let _ = write!(text, "\n{name:<14}");
            for figure in counters.figures() {
                let _ = write!(text, "{figure:>14}");
            }
        }
        let latency = &self.latency_us;
        let _ = write!(
            text,
            "\n\nlatency        p50 {}, p99 {}, p99.9 {}, max {}\nthroughput     {} elements/s, {:.2} s",
            spent(latency.p50),
            spent(latency.p99),
            spent(latency.p999),
            spent(latency.max),
            self.elements_per_s,
            self.took.as_secs_f64(),
        );
        if let Some(received) = self.received_by_server {
            let _ = write!(
                text,
                "\nservice        {} orders, {} duplicates",
                received.distinct, received.duplicates
            );
        }
        if let Some(overload) = &self.overload {
            let _ = write!(text, "\n{overload}");
        }
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            let _ = write!(text, "\n{kafka}");
        }
        let verdict = if self.balanced {
            "every order is accounted for"
        } else {
            "NOT BALANCED"
        };
        let _ = write!(text, "\nbalance        {verdict}");
        for what in &self.wrong {
            let _ = write!(text, "\n               {what}");
        }
        text
    }
}

/// Microseconds for reading.
fn spent(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// A line for each stage: what came, what went, what ended there and how.
fn by_stage(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{:<14}{:>10}{:>10}{:>8}{:>8}   ended here\n",
        "by stage", "in", "out", "held", "peak"
    );
    for stage in &snapshot.stages {
        let counts = &stage.counts;
        let _ = write!(
            text,
            "{:<14}{:>10}{:>10}{:>8}{:>8}   ",
            stage.name,
            counts.entered + counts.made,
            counts.left,
            counts.held,
            counts.held_peak
        );
        let ended: Vec<String> = counts
            .settlements()
            .map(|settled| {
                let class = settled.class.map_or("unclassified", Class::name);
                format!("{} {class} {}", settled.count, settled.outcome)
            })
            .collect();
        let _ = writeln!(
            text,
            "{}",
            if ended.is_empty() {
                "-".to_owned()
            } else {
                ended.join(", ")
            }
        );
    }
    text
}
