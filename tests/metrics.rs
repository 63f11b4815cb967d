//! What a run tells, as an exporter shows it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use forebay::chunk::Chunk;
use forebay::class::Class;
use forebay::error::Stop;
use forebay::observe::Metrics;
use forebay::operator::{Context, Demand, Held, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::source;
use forebay::topology::NodeSpec;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use std::task::Poll;

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
            cx.written(table, outcome.kind(), 1);
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
        r#"forebay_stage_elements_held{pipeline="shop",stage="orders"} 0"#,
        "# HELP forebay_stage_elements_held elements inside",
        "# TYPE forebay_stage_elements_entered_total counter",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert!(page.contains(r#"outcome="filtered"} 5"#), "{page}");
}
