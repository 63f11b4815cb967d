//! A run on the wall clock: producers on threads of their own, the system on a tokio runtime.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay::error::RunError;
use forebay::time;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::cores::{Cores, Side};
use crate::producer::Producer;
use crate::random::Random;
use crate::run::{Played, SAMPLES, Sample, Stage};
use crate::scenario::{Scenario, Times, Work};
use crate::trace::Trace;
use crate::{spin, status};

/// How often and how long the capacity is measured: where work keeps a processor, in short stretches, of
/// which some are not interrupted even on a busy machine.
const BUSY_STRETCHES: usize = 120;
const BUSY_STRETCH: Duration = Duration::from_millis(5);
/// The same for work that waits.
const ASLEEP_STRETCHES: usize = 10;
const ASLEEP_STRETCH: Duration = Duration::from_millis(30);
/// Producers look at the clock at least that often.
const NAP: Duration = Duration::from_micros(100);
/// Runs start that long after all is ready.
const HEADSTART: Duration = Duration::from_millis(20);

/// What the workers do a second without any engine: the same work, one after the other. The best of
/// several stretches, because others on the machine take from each, and none gives.
pub(crate) fn closed_loop(scenario: &Scenario, times: &Times, seed: u64) -> Result<f64, String> {
    let mut random = Random::new(seed, "closed loop");
    let mut best = 0.0_f64;
    let stretches = match scenario.work {
        Work::Busy => BUSY_STRETCHES,
        Work::Asleep => ASLEEP_STRETCHES,
    };
    for _ in 0..stretches {
        let speed = match scenario.work {
            Work::Busy => busy_stretch(times, &mut random),
            Work::Asleep => asleep_stretch(scenario.workers, times, &mut random)?,
        };
        best = best.max(speed);
    }
    Ok(best * 1e9 / times.mean_ns())
}

/// How much work one worker does in a nanosecond, in nanoseconds. (Against what was drawn rather than
/// against the count: its scatter is no capacity.)
fn busy_stretch(times: &Times, random: &mut Random) -> f64 {
    // Not within the stretch.
    spin::turns(1.0);
    let start = Instant::now();
    let mut intended = 0.0;
    while start.elapsed() < BUSY_STRETCH {
        let service = times.draw_call(random);
        intended += service as f64;
        spin::work(service);
    }
    intended / start.elapsed().as_nanos() as f64
}

/// The same for workers that wait, all together.
fn asleep_stretch(workers: usize, times: &Times, random: &mut Random) -> Result<f64, String> {
    let runtime = runtime(Cores::Any)?;
    let each = (ASLEEP_STRETCH.as_nanos() as f64 / times.mean_ns())
        .ceil()
        .max(20.0) as usize;
    let drawn: Vec<Vec<u64>> = (0..workers)
        .map(|_| (0..each).map(|_| times.draw_call(random)).collect())
        .collect();
    Ok(runtime.block_on(async {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for services in drawn {
            tasks.spawn(async move {
                for service in &services {
                    time::sleep(Duration::from_nanos(*service)).await;
                }
                let intended: u64 = services.iter().sum();
                intended as f64 / start.elapsed().as_nanos() as f64
            });
        }
        // Each against its own time: those that drew less are done earlier.
        tasks.join_all().await.iter().sum()
    }))
}

/// Where a system runs.
pub(crate) fn runtime(cores: Cores) -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || {
            // Whether it can be done was seen before.
            let _ = cores.pin(Side::System);
        })
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// Says why threads cannot be kept to their processors, if they cannot.
fn can_pin(cores: Cores) -> Result<(), String> {
    // Each on a thread of its own: what it is kept to it cannot leave again.
    let tried = |side| thread::spawn(move || cores.pin(side)).join();
    [Side::System, Side::Producers]
        .into_iter()
        .try_for_each(|side| tried(side).unwrap_or(Ok(())))
}

/// Offers each element at its time, until the load is over.
pub(crate) fn produce(mut producer: Producer, trace: &Trace, duration_ns: u64) {
    while let Some(at) = producer.next_at().filter(|at| *at < duration_ns) {
        let now = trace.now();
        if at > now {
            thread::sleep(Duration::from_nanos(at - now).min(NAP));
            continue;
        }
        producer.act(now);
    }
}

fn reset_peak_rss() {
    // Where that cannot be done the figure is the highest of all runs so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Runs to the end of the load, then finishes what is inside, for so long at most.
pub(crate) fn play(stage: Stage) -> Result<Played, String> {
    let cores = stage.cores;
    can_pin(cores)?;
    let runtime = runtime(cores)?;
    let Stage {
        trace,
        system,
        work,
        producers,
        duration_ns,
        drain_ns,
        progress,
        ..
    } = stage;
    let drain = Duration::from_nanos(drain_ns);
    let _entered = runtime.enter();
    let mut tasks = JoinSet::new();
    let mut running = None;
    trace.begin(time::now() + HEADSTART);
    reset_peak_rss();
    let before_kib = status::kib("VmRSS");
    for task in work.tasks {
        tasks.spawn(task);
    }
    if let Some(pipeline) = work.pipeline {
        running = Some(pipeline.run().map_err(|refused| refused.to_string())?);
    }
    let over = Arc::new(AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let _ = cores.pin(Side::Producers);
            let mut samples: Vec<Sample> = Vec::new();
            while !over.load(Ordering::Acquire) && samples.len() < SAMPLES as usize {
                let due = duration_ns * samples.len() as u64 / SAMPLES;
                if trace.now() < due {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                progress.store(samples.len() as u64 * 1000 / SAMPLES, Ordering::Relaxed);
                samples.push(Stage::sample(&*system, &trace));
            }
            samples
        });
        thread::sleep(HEADSTART);
        let threads: Vec<_> = producers
            .into_iter()
            .map(|producer| {
                let trace = &trace;
                scope.spawn(move || {
                    let _ = cores.pin(Side::Producers);
                    produce(producer, trace, duration_ns);
                })
            })
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
        while trace.now() < duration_ns {
            thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Release);
        watch.join().unwrap_or_default()
    });
    system.close();
    let snapshot = runtime.block_on(async {
        let left = async {
            let joined = match &mut running {
                Some(running) => running.join().await,
                None => Ok(()),
            };
            while tasks.join_next().await.is_some() {}
            joined
        };
        let finished = time::timeout(drain, left).await;
        trace.close();
        tasks.shutdown().await;
        if let Some(running) = &mut running {
            match finished {
                Ok(result) => result?,
                // What is left is cancelled.
                Err(_) => drop(running.drain(Duration::ZERO).await?),
            }
        }
        Ok(running.map(|running| running.snapshot()))
    });
    // The harness's own memory for the load is there before the run.
    let peak_rss_kib = status::kib("VmHWM")
        .zip(before_kib)
        .map(|(peak, before)| peak.saturating_sub(before));
    Ok(Played {
        samples,
        snapshot: snapshot.map_err(|error: RunError| error.to_string())?,
        peak_rss_kib,
    })
}
