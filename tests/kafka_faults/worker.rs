//! A worker: a process that reads a topic as a member of a group and writes what it makes of it to another.
//!
//! It ends when it is killed, when its input says `drain`, when its input is closed, or when its pipeline
//! fails.

use std::io::{BufRead, Write};
use std::time::Duration;

use forebay::flow::Pipeline;
use forebay::kafka::{
    self, Connection, ConsumerSettings, Error, ProducerRecord, ProducerSettings, Record,
    TransactionSettings,
};
use forebay::operator::Answer;
use forebay::topology::Guarantee;

use crate::job::{Job, VARIABLE};
use crate::log::Log;

/// How a worker ended.
pub(crate) const DRAINED: i32 = 0;
pub(crate) const FAILED: i32 = 2;
pub(crate) const FENCED: i32 = 3;
/// Whoever started it is gone.
pub(crate) const LEFT_ALONE: i32 = 4;
/// Its account does not balance.
pub(crate) const UNBALANCED: i32 = 5;
/// It did not drain in time.
pub(crate) const STUCK: i32 = 6;

const DRAIN: Duration = Duration::from_secs(60);

/// No test, but what the tests start; without its variable it does nothing.
#[test]
#[ignore = "it is started by the tests"]
fn worker() {
    let Ok(line) = std::env::var(VARIABLE) else {
        return;
    };
    let job = Job::parse(&line);
    Log::install();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let code = runtime.block_on(work(&job));
    std::process::exit(code);
}

async fn work(job: &Job) -> i32 {
    let mut running = pipeline(job).run().unwrap();
    let (told, drain) = tokio::sync::oneshot::channel();
    // A thread of its own: reading the input cannot be given up.
    std::thread::spawn(move || listen(told));
    let ended = tokio::select! {
        biased;
        _ = drain => running.drain(DRAIN).await.map(|drained| drained.still_running),
        ended = running.join() => ended.map(|()| Vec::new()),
    };
    let snapshot = running.snapshot();
    println!("rewinds={}", snapshot.total().rewinds);
    let code = match ended {
        Ok(still_running) if !still_running.is_empty() => {
            println!("still running: {still_running:?}");
            STUCK
        }
        Ok(_) => match snapshot.check() {
            Ok(()) => DRAINED,
            Err(found) => {
                println!("{found:?}");
                UNBALANCED
            }
        },
        Err(error) => {
            println!("{error}");
            match error.downcast_ref() {
                Some(Error::Fenced(_)) => FENCED,
                _ => FAILED,
            }
        }
    };
    if code != DRAINED {
        println!("{snapshot}");
    }
    let _ = std::io::stdout().flush();
    code
}

/// Waits for the word; ends the process if whoever could say it is gone.
fn listen(told: tokio::sync::oneshot::Sender<()>) {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(LEFT_ALONE);
    }
    let _ = told.send(());
    // Also while it drains.
    while std::io::stdin().lock().read_line(&mut line).unwrap_or(0) > 0 {}
    std::process::exit(LEFT_ALONE);
}

fn pipeline(job: &Job) -> Pipeline<()> {
    let connection = || Connection::to(&job.bootstrap).client_id(format!("worker-{}", job.number));
    let mut reads = ConsumerSettings::new(connection(), &job.group)
        .topics([&job.from])
        .commit_every(job.commit_every)
        .set("session.timeout.ms", job.session.as_millis())
        .set("heartbeat.interval.ms", job.session.as_millis() / 10);
    if job.in_transactions {
        reads = reads.in_transactions(job.window, 2000);
    }
    let (_handle, flow) = kafka::source(reads);
    let flow = flow.window(4096).on_unresolved(if job.in_transactions {
        Answer::Rewind
    } else {
        Answer::Stop
    });
    let (by, to, longest) = (job.number, job.to.clone(), job.work);
    let flow = flow.map_async(256, move |record| {
        let to = to.clone();
        async move {
            tokio::time::sleep(work_at(&record, longest)).await;
            made(&record, to, by)
        }
    });
    let mut writes = ProducerSettings::new(connection()).linger(Duration::from_millis(5));
    if let Ok(debug) = std::env::var("FOREBAY_KAFKA_DEBUG") {
        writes = writes.set("debug", debug);
    }
    if job.in_transactions {
        let id = format!("{}-{}", job.group, job.place);
        let writes = writes.delivery_timeout(job.delivery_timeout);
        let settings = TransactionSettings::new(writes, id).timeout(job.transaction_timeout);
        return flow
            .to_kafka_in_transactions(settings)
            .guarantee(Guarantee::ExactlyOnce);
    }
    flow.to_kafka(writes).guarantee(Guarantee::AtLeastOnce)
}

/// How long a record is worked at: any time up to the longest, by its offset.
fn work_at(record: &Record, longest: Duration) -> Duration {
    let part = (record.offset() as u32).wrapping_mul(2_654_435_769) >> 16;
    longest * part / (1 << 16)
}

/// The number it brought, where it came from, and who made it.
fn made(record: &Record, to: String, by: u64) -> ProducerRecord {
    let number = std::str::from_utf8(record.value().unwrap()).unwrap();
    let (partition, offset) = (record.partition(), record.offset());
    let value = format!("{number} {partition} {offset} {by}");
    let key = record.key_bytes().unwrap();
    ProducerRecord::to(to).key(key).value(value)
}
