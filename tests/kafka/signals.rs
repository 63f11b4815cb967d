//! What a process does when it is told to end: the first signal drains, commits and leaves the group; the
//! second gives up what is inside, and commits nothing of it.
//!
//! The process is this test binary again, of which it runs one test alone.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use forebay::error::RunError;
use forebay::kafka::{self, Connection, ConsumerSettings};
use forebay::topology::Guarantee;

use crate::support::{
    Seen, bootstrap, committed, connection, drain, number, run, topic, until, write,
};

const AT: &str = "FOREBAY_TEST_AT";
const TOPIC: &str = "FOREBAY_TEST_TOPIC";
/// From this offset on records are never done.
const STUCK_FROM: &str = "FOREBAY_TEST_STUCK_FROM";
const DEADLINE: Duration = Duration::from_secs(30);

fn settings(connection: Connection, topic: &str) -> ConsumerSettings {
    // Whoever goes without a word is missed for so long.
    ConsumerSettings::new(connection, topic)
        .topics([topic])
        .commit_every(Duration::from_secs(3600))
        .set("session.timeout.ms", 45_000)
        .set("heartbeat.interval.ms", 500)
}

#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the process that the other tests start"]
async fn the_process() {
    let from = |name| std::env::var(name).unwrap();
    let stuck_from: i64 = from(STUCK_FROM).parse().unwrap();
    let (_handle, flow) = kafka::source(settings(Connection::to(from(AT)), &from(TOPIC)));
    let mut running = run(flow
        .map_async_unordered(256, move |record| async move {
            if record.offset() >= stuck_from {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            println!("\ndone {} {}", record.partition(), record.offset());
        })
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce));
    let began = Instant::now();
    match running.join_or_signal(DEADLINE).await {
        Ok(drained) => println!("\ndrained {:?}", drained.still_running),
        Err(RunError::Aborted) => println!("\naborted"),
        Err(error) => println!("\n{error}"),
    }
    running.snapshot().check().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
}

/// That process, and what it says.
struct Process {
    child: Child,
    done: Arc<Mutex<BTreeSet<(i32, i64)>>>,
    reader: Option<thread::JoinHandle<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever the test came to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(topic: &str, stuck_from: i64) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "signals::the_process",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(AT, bootstrap())
            .env(TOPIC, topic)
            .env(STUCK_FROM, stuck_from.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let done: Arc<Mutex<BTreeSet<(i32, i64)>>> = Arc::default();
        let notes = Arc::clone(&done);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = thread::spawn(move || {
            let mut rest = Vec::new();
            for line in lines {
                let line = line.unwrap();
                let mut words = line.split(' ');
                if words.next() == Some("done") {
                    let mut next = || words.next().unwrap().parse::<i64>().unwrap();
                    let (partition, offset) = (next() as i32, next());
                    notes.lock().unwrap().insert((partition, offset));
                } else {
                    rest.push(line);
                }
            }
            rest
        });
        Process {
            child,
            done,
            reader: Some(reader),
        }
    }

    fn done(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// What it said at last, once it has ended.
    fn end(mut self) -> (BTreeSet<(i32, i64)>, Vec<String>) {
        let status = self.child.wait().unwrap();
        let said = self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "{said:?}");
        let done = self.done.lock().unwrap().clone();
        (done, said)
    }
}

/// Another member gets all partitions at once: nobody waits for the one that left.
async fn reads_the_rest(topic: &str, rest: u64) {
    let seen = Seen::default();
    let hears = seen.clone();
    let (handle, flow) = kafka::source(settings(connection(), topic));
    let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
    let began = Instant::now();
    until("the partitions", || handle.assignment().len() == 2).await;
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_secs(30),
        "{waited:?}: it did not leave"
    );
    until("the rest", || seen.len() == rest).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_commits_and_leaves() {
    let topic = topic("terminated", 2).await;
    write(&topic, 2, 0..20_000);
    let process = Process::start(&topic, i64::MAX);
    until("some to be done", || process.done() > 300).await;
    process.terminate();
    let began = Instant::now();
    let (done, said) = tokio::task::spawn_blocking(|| process.end()).await.unwrap();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(said.iter().any(|line| line == "drained []"), "{said:?}");
    assert!(done.len() < 20_000, "all was done before the signal");
    // What is committed is what was done, to the last record: nothing comes again, and nothing is missing.
    let committed = committed(&topic, &topic, 2);
    for (partition, committed) in committed.iter().enumerate() {
        let of_one = done.iter().filter(|(own, _)| *own == partition as i32);
        let offsets: Vec<i64> = of_one.map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, (0..*committed).collect::<Vec<_>>());
    }
    let total: i64 = committed.iter().sum();
    reads_the_rest(&topic, 20_000 - total as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_gives_up_and_commits_nothing_that_is_not_done() {
    let topic = topic("given-up", 2).await;
    write(&topic, 2, 0..200);
    let process = Process::start(&topic, 40);
    until("what can be done", || process.done() == 80).await;
    process.terminate();
    tokio::time::sleep(Duration::from_secs(1)).await;
    process.terminate();
    let began = Instant::now();
    let (done, said) = tokio::task::spawn_blocking(|| process.end()).await.unwrap();
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(said.iter().any(|line| line == "aborted"), "{said:?}");
    assert_eq!(done.len(), 80);
    let committed = committed(&topic, &topic, 2);
    assert!(committed.iter().all(|at| *at <= 40), "{committed:?}");
    let total: i64 = committed.iter().sum();
    reads_the_rest(&topic, 200 - total as u64).await;
}
