//! A consumer that knows about pressure, on a real topic: under a slow handler HIGH goes first and LOW is put
//! aside, and however it ends, no position has passed what was put aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::batch_size::UnderPressure;
use forebay::control::limit::Fixed;
use forebay::control::{
    BatchHandle, ConsumerReading, Consumption, DeferralSettings, LimitHandle, PressureHandle,
    PressureSettings, PrioritySettings, Reading, Thresholds, WhenNoRoom,
};
use forebay::kafka::{self, Admin, Connection, ConsumerSettings, GroupLag, Record};
use forebay::operator::Calls;
use forebay::time;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::support::{bootstrap, committed, producer, topic, until};

const PARTITIONS: u64 = 2;
const RECORDS: u64 = 1200;
const SLOTS: usize = 10;
const GROUP: &str = "row-a7";
/// Records that may be inside: a quarter of them, which is more than all LOW, may be put aside.
const WINDOW: usize = 4096;

fn priority(number: u64) -> &'static str {
    ["high", "medium", "low", "low"][(number % 4) as usize]
}

/// The class that the header names.
fn class(record: &Record) -> Class {
    match record.header("priority") {
        Some(b"high") => Class::HIGH,
        Some(b"low") => Class::LOW,
        _ => Class::MEDIUM,
    }
}

fn write_all(topic: &str) {
    let producer = producer();
    for number in 0..RECORDS {
        let text = number.to_string();
        let headers = OwnedHeaders::new().insert(Header {
            key: "priority",
            value: Some(priority(number)),
        });
        // By fours to each partition, so that both have all classes.
        let record = BaseRecord::to(topic)
            .partition((number / 4 % PARTITIONS) as i32)
            .key(&text)
            .payload(&text)
            .headers(headers);
        assert!(producer.send(record).is_ok());
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// What a process was told to do.
struct Task {
    bootstrap: String,
    topic: String,
    /// Where it writes a line for each record it has processed.
    log: PathBuf,
    handler: Duration,
}

const TASK: &str = "FOREBAY_ROW_A7";

impl Task {
    fn given() -> Option<Task> {
        let given = std::env::var(TASK).ok()?;
        let mut parts = given.split(' ');
        let mut next = || parts.next().unwrap().to_owned();
        Some(Task {
            bootstrap: next(),
            topic: next(),
            log: next().into(),
            handler: Duration::from_millis(next().parse().unwrap()),
        })
    }

    /// A process of its own, which ends when it is killed.
    fn start(topic: &str, log: &Path, handler_ms: u64) -> Process {
        let (bootstrap, log) = (bootstrap(), log.display());
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--nocapture",
                "--exact",
                "row_a7::the_consumer",
            ])
            .env(TASK, format!("{bootstrap} {topic} {log} {handler_ms}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Process(child.unwrap())
    }
}

/// Killed at the latest when this test ends, however it does.
struct Process(Child);

impl Process {
    fn is_alive(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "the consumer ended: {ended:?}");
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the test below"]
async fn the_consumer() {
    let task = Task::given().unwrap();
    let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
    let size = BatchHandle::under(UnderPressure::a7(), &pressure);
    let slots = LimitHandle::new(Fixed::new(SLOTS).unwrap());
    let forever = WhenNoRoom::Wait(Duration::MAX);
    let settings = PrioritySettings::items(1000)
        .never_evict(Class::MEDIUM)
        .when_no_room(Class::HIGH, forever)
        .when_no_room(Class::MEDIUM, forever)
        .when_no_room(Class::LOW, WhenNoRoom::Defer);
    let aside = DeferralSettings::items(WINDOW / 4)
        .ttl(Duration::from_secs(600))
        .rate(1e6, 1000);
    let buffer = ClassBuffer::new(settings).defer(aside).under(&pressure);
    let view = buffer.view();
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&task.log)
        .unwrap();
    let reads = ConsumerSettings::new(Connection::to(&task.bootstrap), GROUP)
        .topics([&task.topic])
        .commit_every(Duration::from_millis(20))
        .set("session.timeout.ms", 6000)
        .set("heartbeat.interval.ms", 200);
    let (_handle, records) = kafka::source(reads);
    let (limit, handler) = (slots.clone(), task.handler);
    let pipeline = records
        .window(WINDOW)
        .classify(class)
        .buffer_by_class(buffer)
        .batch(&size)
        .inspect(move |_| {
            let standing = slots.snapshot();
            let reading = ConsumerReading {
                free_slots: SLOTS.saturating_sub(standing.leased),
                average: standing.limit.recent.unwrap_or_default(),
                memory: 0.5,
                cpu: 0.5,
            };
            // A handler that takes longer than it should is what the row calls pressure.
            let is_slow = handler > Duration::ZERO;
            let consumption = match Thresholds::a7().consumption(&reading) {
                Consumption::Parallel { .. } if is_slow => Consumption::Sequential {
                    defer_from: Class::LOW,
                },
                other => other,
            };
            let at_once = match consumption {
                Consumption::Parallel { .. } => SLOTS,
                Consumption::Sequential { .. } => 1,
            };
            slots.replace(Fixed::new(at_once).unwrap());
            let slow = f64::from(u8::from(is_slow));
            pressure.read(time::now(), Reading::SlowCalls(slow));
        })
        .map_concat(|batch| batch)
        .map_async(Calls::under(&limit), move |record| async move {
            time::sleep(handler).await;
            record
        })
        .for_each(move |record| {
            let deferral = view.snapshot().and_then(|snapshot| snapshot.deferral);
            let aside = deferral.map_or(0, |deferral| deferral.items);
            let class = class(&record).name();
            let (partition, offset) = (record.partition(), record.offset());
            // One write, before the record is settled: what counts as processed is in the file.
            let line = format!("{partition} {offset} {class} {aside}\n");
            log.write_all(line.as_bytes()).unwrap();
        });
    pipeline.run().unwrap().join().await.unwrap();
}

/// A record that was processed.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Processed {
    at: (i32, i64),
    class: String,
    aside: u64,
}

fn processed(log: &Path) -> Vec<Processed> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        Processed {
            at: (parts[0].parse().unwrap(), parts[1].parse().unwrap()),
            class: parts[2].to_owned(),
            aside: parts[3].parse().unwrap(),
        }
    };
    whole.lines().map(parse).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_a7_high_goes_first_low_is_put_aside_and_no_position_passes_it_whatever_happens() {
    let topic = topic("row-a7", PARTITIONS as i32).await;
    let name = topic.clone();
    tokio::task::spawn_blocking(move || write_all(&name))
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("processed");

    // Slow: it is killed while LOW is put aside.
    let mut slow = Task::start(&topic, &log, 10);
    until("most of HIGH and MEDIUM", || {
        slow.is_alive();
        processed(&log).len() > 450
    })
    .await;
    slow.kill();
    let before = processed(&log);
    let of = |class: &str| before.iter().filter(|one| one.class == class).count();
    let (high, medium, low) = (of("high"), of("medium"), of("low"));
    let aside = before.iter().map(|one| one.aside).max().unwrap();
    eprintln!("killed after {high} HIGH, {medium} MEDIUM, {low} LOW; {aside} LOW aside at most");
    assert!(aside > 100, "LOW was not put aside");
    // The first batch was taken before there was any pressure.
    let later: Vec<&Processed> = before.iter().skip(100).collect();
    let late_low = later.iter().filter(|one| one.class == "low").count();
    assert!(late_low * 10 < later.len(), "{late_low} LOW under pressure");
    let last_high = before.iter().rposition(|one| one.class == "high").unwrap();
    let medium_then = before[..last_high]
        .iter()
        .filter(|one| one.class == "medium");
    assert!(medium_then.count() < high, "MEDIUM went before HIGH");

    // No position is behind a record that was not processed.
    let group = topic.clone();
    let positions =
        tokio::task::spawn_blocking(move || committed(GROUP, &group, PARTITIONS as i32))
            .await
            .unwrap();
    let done: BTreeSet<(i32, i64)> = before.iter().map(|one| one.at).collect();
    for (partition, next) in (0..).zip(&positions) {
        for offset in 0..*next {
            assert!(
                done.contains(&(partition, offset)),
                "{partition}@{offset} was passed: {positions:?}"
            );
        }
    }

    // Fast: all that was put aside or inside comes again, and is processed.
    let mut fast = Task::start(&topic, &log, 0);
    let all = || {
        let done = processed(&log);
        done.iter().map(|one| one.at).collect::<BTreeSet<_>>()
    };
    until("every record", || {
        fast.is_alive();
        all().len() as u64 == RECORDS
    })
    .await;
    let admin = Admin::of(&Connection::to(bootstrap())).unwrap();
    let mut left = u64::MAX;
    while left > 0 {
        let lag = admin.lag(GROUP, &topic).await.unwrap();
        left = lag.iter().map(GroupLag::records).sum();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fast.kill();
    let mut times: BTreeMap<(i32, i64), u32> = BTreeMap::new();
    for one in processed(&log) {
        *times.entry(one.at).or_default() += 1;
    }
    let repeated = times.iter().filter(|(_, times)| **times > 1);
    let repeated: Vec<(i32, i64)> = repeated.map(|(at, _)| *at).collect();
    eprintln!("{} records came twice", repeated.len());
    // What was committed did not come again, and nothing came three times.
    for (partition, offset) in &repeated {
        assert!(*offset >= positions[*partition as usize], "{repeated:?}");
    }
    assert!(times.values().all(|times| *times <= 2));
}
