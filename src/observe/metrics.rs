//! Snapshots as metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::{Key, Label, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::class::Class;
use crate::ledger::StageCounts;
use crate::outcome::Kind;
use crate::position::Lag;
use crate::runtime::{Snapshot, SourceReport};
use crate::sync::{Mutex, lock};

const COUNTED: &[(&str, &str)] = &[
    (
        "forebay_stage_elements_entered_total",
        "elements that came in",
    ),
    ("forebay_stage_elements_left_total", "elements handed on"),
    (
        "forebay_stage_elements_settled_total",
        "elements that ended there",
    ),
    (
        "forebay_stage_alerts_total",
        "emergencies, and dead letters somebody should look at",
    ),
    (
        "forebay_destination_elements_total",
        "what became of elements, by what they were meant for",
    ),
    (
        "forebay_source_elements_total",
        "what became of a source's elements",
    ),
];

const MEASURED: &[(&str, Unit, &str)] = &[
    (
        "forebay_stage_held_elements",
        Unit::Count,
        "elements inside",
    ),
    ("forebay_stage_held_bytes", Unit::Bytes, "bytes inside"),
    (
        "forebay_source_unsettled",
        Unit::Count,
        "elements of a source that are inside",
    ),
    (
        "forebay_lag_elements",
        Unit::Count,
        "elements behind the end",
    ),
    (
        "forebay_lag_end",
        Unit::Count,
        "the position behind the last element",
    ),
    (
        "forebay_lag_committed",
        Unit::Count,
        "the position that is committed",
    ),
    (
        "forebay_lag_processed",
        Unit::Count,
        "the first position that is not settled",
    ),
    (
        "forebay_lag_queued",
        Unit::Count,
        "elements taken in and not handed over",
    ),
    (
        "forebay_lag_in_flight",
        Unit::Count,
        "elements handed over and not settled",
    ),
    (
        "forebay_lag_oldest_seconds",
        Unit::Seconds,
        "how long the oldest of them has been inside",
    ),
];

/// Gives the snapshots of a run to the [`metrics`](::metrics) facade.
///
/// Whoever installed a recorder there (an exporter to Prometheus, for example) has these, all labelled with
/// the `pipeline`'s name:
///
/// | name | kind | labels | what it is |
/// | --- | --- | --- | --- |
/// | `forebay_stage_elements_entered_total` | counter | `stage` | elements that came in |
/// | `forebay_stage_elements_left_total` | counter | `stage` | elements handed on |
/// | `forebay_stage_elements_settled_total` | counter | `stage`, `class`, `outcome`, `reason` | elements that ended there |
/// | `forebay_stage_held_elements` | gauge | `stage` | elements inside now |
/// | `forebay_stage_held_bytes` | gauge | `stage` | their bytes, of a stage that weighs them |
/// | `forebay_stage_alerts_total` | counter | `stage` | emergencies, and dead letters somebody should look at; stages that share an admission tell the same |
/// | `forebay_destination_elements_total` | counter | `stage`, `destination`, `outcome` | what became of elements by what they were meant for: of `to_kafka`, the topic |
/// | `forebay_source_elements_total` | counter | `source`, `outcome` | what became of a source's elements |
/// | `forebay_source_unsettled` | gauge | `source` | its elements that are inside |
/// | `forebay_lag_elements` | gauge | `source`, `sequence` | elements behind the end: of a Kafka source, `sequence` is topic and partition |
/// | `forebay_lag_end`, `_committed`, `_processed` | gauge | `source`, `sequence` | the positions: the end, what is committed, what is settled |
/// | `forebay_lag_queued`, `_in_flight` | gauge | `source`, `sequence` | elements taken in, and handed over |
/// | `forebay_lag_oldest_seconds` | gauge | `source`, `sequence` | how long the oldest that is handed over has been inside; 0: none is |
///
/// A position or lag that is not known is left out. Of a partition that went to somebody else nothing is told any
/// more but that its lag and what is inside of it are 0 here: sums over the members of a group stay right.
///
/// One of these is for one run: it tells a recorder by how much the run's counters grew. The next run of the same
/// name has one of its own, and the recorder's counters go on from where they are.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use forebay::observe::Metrics;
/// use forebay::source;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let metrics = Metrics::of("orders");
/// let mut running = source::iter(0..100_u64).ignore().named("archive").run()?;
/// let mut ticks = tokio::time::interval(Duration::from_secs(5));
/// loop {
///     tokio::select! {
///         biased;
///         ended = running.join() => break ended?,
///         _ = ticks.tick() => metrics.tell(&running.snapshot()),
///     }
/// }
/// metrics.tell(&running.snapshot());
/// # Ok(()) }) }
/// ```
#[derive(Debug)]
pub struct Metrics {
    pipeline: Label,
    told: Mutex<Told>,
}

/// What was told last.
#[derive(Default, Debug)]
struct Told {
    counts: BTreeMap<Key, u64>,
    /// Source and sequence.
    lags: BTreeSet<(String, String)>,
}

impl Metrics {
    /// Metrics labelled with that name of a pipeline.
    #[must_use]
    pub fn of(pipeline: impl Into<String>) -> Metrics {
        Metrics {
            pipeline: Label::new("pipeline", pipeline.into()),
            told: Mutex::default(),
        }
    }

    /// Gives a snapshot to the recorder, which has to be installed before the first call. It matters not how
    /// often this is called.
    pub fn tell(&self, snapshot: &Snapshot) {
        let mut told = lock(&self.told);
        for stage in &snapshot.stages {
            self.tell_stage(&mut told, &stage.name, &stage.counts);
        }
        let mut lags = BTreeSet::new();
        for source in &snapshot.sources {
            self.tell_source(&mut told, source);
            let of = |lag: &Lag| (source.name.clone(), lag.of.clone());
            lags.extend(source.lag.iter().map(of));
        }
        for (source, sequence) in told.lags.difference(&lags) {
            let labels = || self.labels([("source", source), ("sequence", sequence)]);
            gauge!("forebay_lag_elements", labels()).set(0.0);
            self.tell_inside(source, sequence, [0.0; 3]);
        }
        told.lags = lags;
    }

    /// Tells the installed recorder what each of the metrics is: once, after it was installed.
    pub fn describe() {
        for (name, what) in COUNTED {
            describe_counter!(*name, Unit::Count, *what);
        }
        for (name, unit, what) in MEASURED {
            describe_gauge!(*name, *unit, *what);
        }
    }

    fn labels<const N: usize>(&self, more: [(&'static str, &str); N]) -> Vec<Label> {
        let more = more.map(|(name, value)| Label::new(name, value.to_owned()));
        std::iter::once(self.pipeline.clone()).chain(more).collect()
    }

    /// By how much it grew.
    fn count<const N: usize>(
        &self,
        told: &mut Told,
        name: &'static str,
        labels: [(&'static str, &str); N],
        count: u64,
    ) {
        let labels = self.labels(labels);
        let last = told
            .counts
            .entry(Key::from_parts(name, labels.clone()))
            .or_default();
        let grown = count.saturating_sub(*last);
        // A failure that becomes a dead letter, or an older snapshot: what was told stays told.
        *last = count.max(*last);
        counter!(name, labels).increment(grown);
    }

    fn tell_stage(&self, told: &mut Told, stage: &str, counts: &StageCounts) {
        for (name, count) in [
            ("forebay_stage_elements_entered_total", counts.entered),
            ("forebay_stage_elements_left_total", counts.left),
            ("forebay_stage_alerts_total", counts.alerts),
        ] {
            self.count(told, name, [("stage", stage)], count);
        }
        let labels = || self.labels([("stage", stage)]);
        gauge!("forebay_stage_held_elements", labels()).set(counts.held as f64);
        gauge!("forebay_stage_held_bytes", labels()).set(counts.held_bytes as f64);
        for settlement in counts.settlements() {
            let class = settlement.class.map_or("unclassified", Class::name);
            let labels = [
                ("stage", stage),
                ("class", class),
                ("outcome", settlement.outcome.kind().name()),
                ("reason", settlement.outcome.reason().name()),
            ];
            let name = "forebay_stage_elements_settled_total";
            self.count(told, name, labels, settlement.count);
        }
        for ((destination, kind), count) in &counts.destinations {
            let labels = [
                ("stage", stage),
                ("destination", destination),
                ("outcome", kind.name()),
            ];
            let name = "forebay_destination_elements_total";
            self.count(told, name, labels, *count);
        }
    }

    fn tell_source(&self, told: &mut Told, source: &SourceReport) {
        if source.tracked {
            for kind in Kind::ALL {
                let labels = [("source", source.name.as_str()), ("outcome", kind.name())];
                let count = source.counts.outcome(kind);
                self.count(told, "forebay_source_elements_total", labels, count);
            }
            let labels = self.labels([("source", &source.name)]);
            gauge!("forebay_source_unsettled", labels).set(source.counts.unsettled() as f64);
        }
        for lag in &source.lag {
            self.tell_lag(&source.name, lag);
        }
    }

    fn tell_lag(&self, source: &str, lag: &Lag) {
        let labels = || self.labels([("source", source), ("sequence", &lag.of)]);
        if let Some(elements) = lag.elements() {
            gauge!("forebay_lag_elements", labels()).set(elements as f64);
        }
        if let Some(end) = lag.end {
            gauge!("forebay_lag_end", labels()).set(end as f64);
        }
        if let Some(committed) = lag.committed {
            gauge!("forebay_lag_committed", labels()).set(committed as f64);
        }
        if let Some(processed) = lag.processed {
            gauge!("forebay_lag_processed", labels()).set(processed as f64);
        }
        let oldest = lag.oldest_age.unwrap_or(Duration::ZERO).as_secs_f64();
        let inside = [lag.queued as f64, lag.in_flight as f64, oldest];
        self.tell_inside(source, &lag.of, inside);
    }

    /// Queued, in flight, and the age of the oldest.
    fn tell_inside(&self, source: &str, sequence: &str, inside: [f64; 3]) {
        let labels = || self.labels([("source", source), ("sequence", sequence)]);
        let [queued, in_flight, oldest] = inside;
        gauge!("forebay_lag_queued", labels()).set(queued);
        gauge!("forebay_lag_in_flight", labels()).set(in_flight);
        gauge!("forebay_lag_oldest_seconds", labels()).set(oldest);
    }
}
