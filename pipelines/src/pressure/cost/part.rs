//! What runs in processes of its own: the producer, the pipeline that is measured, and the same in
//! simulated time for who counts instructions.

use std::future::Future;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use forebay::flow::Flow;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::{self, Time};
use futures_util::stream;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use super::stack::{Element, Which, pipeline};
use crate::measure::quantile;
use crate::spin::spin;

/// A part of a comparison.
#[derive(Args, Debug)]
pub(crate) struct Part {
    /// Which part
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Writes elements to standard output at their time, and to standard error how late it was
    Produce {
        batch: u64,
        every_ns: u64,
        batches: u64,
    },
    /// Runs a pipeline on what standard input has, and prints what that cost
    Measure {
        which: Which,
        service_ns: u64,
        turns: u64,
        threads: usize,
    },
    /// Runs a pipeline on so many elements in simulated time
    Simulate {
        which: Which,
        batch: u64,
        every_ns: u64,
        batches: u64,
        service_ns: u64,
    },
}

/// What the producer says at its end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Produced {
    pub(super) sent: u64,
    /// How late batches were written, 99th percentile.
    pub(super) lag_p99_us: f64,
}

/// What a run cost.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) completed: u64,
    /// Of the process, in user and in system mode, while the pipeline ran.
    pub(super) cpu_ns: u64,
}

impl Part {
    pub(crate) fn run(self) -> Result<(), String> {
        match self.what {
            What::Produce {
                batch,
                every_ns,
                batches,
            } => {
                let produced = produce(batch, every_ns, batches).map_err(told)?;
                eprintln!("{}", serde_json::to_string(&produced).map_err(told)?);
            }
            What::Measure {
                which,
                service_ns,
                turns,
                threads,
            } => {
                let cost = measure(which, service_ns, turns, threads)?;
                let line = serde_json::to_string(&cost).map_err(told)?;
                writeln!(io::stdout(), "{line}").map_err(told)?;
            }
            What::Simulate {
                which,
                batch,
                every_ns,
                batches,
                service_ns,
            } => simulate(which, batch, every_ns, batches, service_ns)?,
        }
        Ok(())
    }
}

pub(super) fn told(error: impl ToString) -> String {
    error.to_string()
}

/// Open loop: each batch at its time, whatever became of those before.
fn produce(batch: u64, every_ns: u64, batches: u64) -> io::Result<Produced> {
    let mut out = io::stdout().lock();
    let mut bytes = Vec::new();
    let mut lags = Vec::with_capacity(batches as usize);
    let start = Instant::now();
    for number in 0..batches {
        let due = Duration::from_nanos(number * every_ns);
        loop {
            match due.checked_sub(start.elapsed()) {
                Some(left) if !left.is_zero() => thread::sleep(left),
                _ => break,
            }
        }
        bytes.clear();
        for element in number * batch..(number + 1) * batch {
            bytes.extend(element.to_le_bytes());
        }
        out.write_all(&bytes)?;
        out.flush()?;
        lags.push(start.elapsed().saturating_sub(due).as_nanos() as u64);
    }
    Ok(Produced {
        sent: batch * batches,
        lag_p99_us: quantile(&mut lags, 0.99).unwrap_or_default() as f64 / 1e3,
    })
}

/// The elements that a pipe has, as they come.
fn elements(mut pipe: pipe::Receiver) -> Flow<Element> {
    const SIZE: usize = size_of::<Element>();
    let mut bytes = [0; 512 * SIZE];
    let (mut at, mut filled) = (0, 0);
    source::stream(stream::poll_fn(move |task| {
        while filled - at < SIZE {
            bytes.copy_within(at..filled, 0);
            (at, filled) = (0, filled - at);
            let mut room = ReadBuf::new(&mut bytes[filled..]);
            if ready!(Pin::new(&mut pipe).poll_read(task, &mut room)).is_err()
                || room.filled().is_empty()
            {
                return Poll::Ready(None);
            }
            filled += room.filled().len();
        }
        let mut element = [0; SIZE];
        element.copy_from_slice(&bytes[at..at + SIZE]);
        at += SIZE;
        Poll::Ready(Some(Element::from_le_bytes(element)))
    }))
}

fn used_ns() -> Result<u64, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(told)?;
    let ns = |time: nix::sys::time::TimeVal| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1_000
    };
    Ok(ns(usage.user_time()) + ns(usage.system_time()))
}

fn measure(which: Which, service_ns: u64, turns: u64, threads: usize) -> Result<Cost, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(told)?;
    let _entered = runtime.enter();
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(told)?;
    let input = pipe::Receiver::from_owned_fd(input).map_err(told)?;
    let (service, serve) = (Duration::from_nanos(service_ns), move || spin(turns));
    let (pipeline, completed) =
        pipeline(which, elements(input), serve, service, time::now()).map_err(told)?;
    let before_ns = used_ns()?;
    let mut running = pipeline.run().map_err(told)?;
    runtime.block_on(running.join()).map_err(told)?;
    let cpu_ns = used_ns()? - before_ns;
    if let Err(wrong) = running.snapshot().check() {
        return Err(format!("the accounts do not balance: {wrong:?}"));
    }
    Ok(Cost {
        completed: completed.count(),
        cpu_ns,
    })
}

/// Elements at the same times on the simulated clock.
fn paced(batch: u64, every_ns: u64, batches: u64) -> Flow<Element> {
    let mut next: Element = 0;
    let mut timer = Box::pin(time::sleep_until(Time::ZERO));
    source::stream(stream::poll_fn(move |task| {
        if next == batch * batches {
            return Poll::Ready(None);
        }
        if next.is_multiple_of(batch) {
            let due = Time::from_nanos(next / batch * every_ns);
            if timer.deadline() != due {
                timer.reset(due);
            }
            ready!(timer.as_mut().poll(task));
        }
        next += 1;
        Poll::Ready(Some(next - 1))
    }))
}

fn simulate(
    which: Which,
    batch: u64,
    every_ns: u64,
    batches: u64,
    service_ns: u64,
) -> Result<(), String> {
    let service = Duration::from_nanos(service_ns);
    let serve = move || time::work(service);
    let source = paced(batch, every_ns, batches);
    let (pipeline, completed) =
        pipeline(which, source, serve, service, Time::ZERO).map_err(told)?;
    Simulation::new(1).run(pipeline).map_err(told)?;
    if completed.count() != batch * batches {
        let lost = batch * batches - completed.count();
        return Err(format!("{lost} elements were not completed"));
    }
    Ok(())
}
