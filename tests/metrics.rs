//! What a run tells, as an exporter shows it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::float_cmp, missing_docs)]

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::class::Class;
use forebay::error::Stop;
use forebay::observe::Metrics;
use forebay::operator::{Context, Demand, Held, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::position::Lag;
use forebay::source;
use forebay::topology::NodeSpec;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

/// A sink with two destinations: odd numbers cannot be written to theirs.
struct Tables(Arc<str>, Arc<str>);

impl Sink<u64> for Tables {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(16))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        for element in chunk.drain() {
            let (table, outcome) = match element.value % 2 {
                0 => (&self.0, Outcome::Delivered),
                _ => (&self.1, Outcome::Failed(Reason::Error)),
            };
            cx.count_destination(table, outcome.kind(), 1);
            cx.settle(element.meta, outcome);
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

fn told(recorder: &PrometheusRecorder, metrics: &Metrics, snapshot: &forebay::runtime::Snapshot) {
    metrics::with_local_recorder(recorder, || {
        Metrics::describe();
        metrics.tell(snapshot);
    });
}

#[tokio::test]
async fn an_exporter_shows_what_came_went_and_ended() {
    let mut running = source::iter(0..100_u64)
        .classify(|n| if *n < 10 { Class::HIGH } else { Class::LOW })
        .filter(|n| *n >= 5)
        .to_stage(
            NodeSpec::new("tables"),
            Tables(Arc::from("even"), Arc::from("odd")),
        )
        .named("orders")
        .run()
        .unwrap();
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 47);

    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = Metrics::of("shop");
    told(&recorder, &metrics, &snapshot);
    // Counters are what was counted: it matters not how often they are told.
    told(&recorder, &metrics, &snapshot);
    let page = recorder.handle().render();
    for line in [
        r#"forebay_stage_elements_entered_total{pipeline="shop",stage="orders"} 95"#,
        r#"forebay_stage_elements_settled_total{pipeline="shop",stage="orders",class="high",outcome="delivered",reason="plain"} 2"#,
        r#"forebay_stage_elements_settled_total{pipeline="shop",stage="orders",class="low",outcome="failed",reason="error"} 45"#,
        r#"forebay_destination_elements_total{pipeline="shop",stage="orders",destination="even",outcome="delivered"} 47"#,
        r#"forebay_destination_elements_total{pipeline="shop",stage="orders",destination="odd",outcome="failed"} 48"#,
        r#"forebay_stage_held_elements{pipeline="shop",stage="orders"} 0"#,
        "# HELP forebay_stage_held_elements elements inside",
        "# TYPE forebay_stage_elements_entered_total counter",
    ] {
        assert!(page.lines().any(|told| told == line), "{line}\n{page}");
    }
    assert!(page.contains(r#"outcome="filtered"} 5"#), "{page}");
}

fn value(recorder: &PrometheusRecorder, series: &str) -> f64 {
    let page = recorder.handle().render();
    let line = page.lines().find(|line| line.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_run_that_follows_another_goes_on_counting() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let series =
        r#"forebay_source_elements_total{pipeline="shop",source="iter",outcome="delivered"}"#;
    for (count, in_all) in [(100, 100.0), (30, 130.0), (70, 200.0)] {
        let mut running = source::iter(0..count).ignore().run().unwrap();
        running.join().await.unwrap();
        told(&recorder, &Metrics::of("shop"), &running.snapshot());
        assert!((value(&recorder, series) - in_all).abs() < 0.5);
    }
}

#[tokio::test]
async fn nothing_is_told_to_be_inside_of_what_others_have_now() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = Metrics::of("shop");
    let mut running = source::iter(0..10_u64).ignore().run().unwrap();
    running.join().await.unwrap();
    let mut snapshot = running.snapshot();
    let lag = |of: &str| Lag {
        of: of.to_owned(),
        end: Some(50),
        committed: Some(10),
        processed: Some(20),
        queued: 7,
        in_flight: 3,
        oldest_age: Some(Duration::from_secs(2)),
    };
    snapshot.sources[0].lag = vec![lag("orders-0"), lag("orders-1")];
    told(&recorder, &metrics, &snapshot);
    let of = |name: &str, sequence: &str| {
        let labels = format!(r#"{{pipeline="shop",source="iter",sequence="{sequence}"}}"#);
        value(&recorder, &format!("forebay_lag_{name}{labels}"))
    };
    let inside = |sequence: &str| {
        ["elements", "queued", "in_flight", "oldest_seconds"].map(|name| of(name, sequence))
    };
    assert_eq!(inside("orders-0"), [30.0, 7.0, 3.0, 2.0]);
    snapshot.sources[0].lag.remove(0);
    told(&recorder, &metrics, &snapshot);
    assert_eq!(inside("orders-0"), [0.0; 4]);
    assert_eq!(inside("orders-1"), [30.0, 7.0, 3.0, 2.0]);
}

#[tokio::test]
async fn what_was_told_is_not_told_again() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = Metrics::of("shop");
    let mut running = source::iter(0..10_u64).ignore().run().unwrap();
    running.join().await.unwrap();
    let mut snapshot = running.snapshot();
    let series = r#"forebay_stage_elements_entered_total{pipeline="shop",stage="ignore"}"#;
    // An older snapshot comes after a newer one.
    for (entered, in_all) in [(100, 100.0), (90, 100.0), (110, 110.0)] {
        let stage = snapshot
            .stages
            .iter_mut()
            .find(|stage| stage.name == "ignore");
        stage.unwrap().counts.entered = entered;
        told(&recorder, &metrics, &snapshot);
        assert_eq!(value(&recorder, series), in_all);
    }
}
