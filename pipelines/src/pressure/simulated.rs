//! A run in simulated time: offers, workers, pipeline and samples in one simulation, from the seed.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::testkit::Simulation;
use forebay::time;
use futures_util::StreamExt;
use futures_util::future::{join, select};
use futures_util::stream::FuturesUnordered;

use crate::run::{Played, SAMPLES, Sample, Stage};
use crate::system::Task;

/// Runs to the end of the load, then finishes what is inside, for so long at most.
pub(crate) fn play(stage: Stage) -> Result<Played, String> {
    let Stage {
        trace,
        system,
        work,
        mut producers,
        duration_ns,
        drain_ns,
        seed,
        progress,
        ..
    } = stage;
    let simulation = Simulation::new(seed);
    trace.begin(simulation.now());
    let offers = {
        let (trace, system) = (Arc::clone(&trace), Arc::clone(&system));
        async move {
            for producer in &mut producers {
                while let Some(at) = producer.next_at().filter(|at| *at < duration_ns) {
                    time::sleep_until(trace.clock(at)).await;
                    producer.act(trace.now());
                }
            }
            time::sleep_until(trace.clock(duration_ns)).await;
            system.close();
        }
    };
    let samples = Arc::new(Mutex::new(Vec::new()));
    let watch = {
        let (trace, system, samples) = (
            Arc::clone(&trace),
            Arc::clone(&system),
            Arc::clone(&samples),
        );
        async move {
            for number in 0..SAMPLES {
                time::sleep_until(trace.clock(duration_ns * number / SAMPLES)).await;
                progress.store(number * 1000 / SAMPLES, Ordering::Relaxed);
                let sample = Stage::sample(&*system, &trace);
                samples
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(sample);
            }
        }
    };
    let load = join(offers, watch);
    let told = |error: forebay::error::RunError| error.to_string();
    let mut tasks: FuturesUnordered<Task> = work.tasks.into_iter().collect();
    let mut run = None;
    if let Some(pipeline) = work.pipeline {
        let started = simulation.start(pipeline);
        run = Some(started.map_err(|refused| refused.to_string())?);
    }
    let drain = Duration::from_nanos(drain_ns);
    let closing = Arc::clone(&trace);
    simulation
        .block_on(async move {
            beside(&mut tasks, load).await;
            let left = async { while tasks.next().await.is_some() {} };
            if time::timeout(drain, left).await.is_err() {
                closing.close();
            }
        })
        .map_err(told)?;
    let mut snapshot = None;
    if let Some(mut run) = run {
        let left = trace.clock(duration_ns + drain_ns).since(simulation.now());
        run.advance(left);
        trace.close();
        run.drain(Duration::ZERO).map_err(told)?;
        snapshot = Some(run.snapshot());
    }
    drop(simulation);
    let samples: Vec<Sample> =
        std::mem::take(&mut *samples.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Played {
        samples,
        snapshot,
        peak_rss_kib: None,
    })
}

/// Runs tasks beside a future, to the end of the latter.
async fn beside<F: Future>(tasks: &mut FuturesUnordered<Task>, until: F) {
    let all = pin!(async {
        while tasks.next().await.is_some() {}
        std::future::pending::<()>().await;
    });
    select(pin!(until), all).await;
}
