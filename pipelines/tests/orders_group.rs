//! Several processes of one group share the partitions of a topic, on a real broker.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;
mod support;

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use broker::Broker;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use support::{Service, finish, finish_child, forebay, lines, orders_file};

const LONG: Duration = Duration::from_mins(5);
const PARTITIONS: &str = "6";

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

/// One for all tests. It ends with this process, however that ends.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

fn side(role: &str, broker: &Broker) -> Command {
    let mut command = forebay();
    command.args(["orders", "--json", "--kafka", &broker.bootstrap]);
    command.args(["--role", role, "--partitions", PARTITIONS]);
    command
}

fn log_side(broker: &Broker, service: &Service, dir: &Path, name: &str) -> Child {
    let mut command = side("log", broker);
    command.args(["--http", &service.url, "--delivered"]);
    command.arg(dir.join(format!("{name}.ndjson")));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn paying_side(broker: &Broker, dir: &Path) -> Command {
    let mut command = side("pay", broker);
    command.arg("--dead-letters").arg(dir.join("dead.ndjson"));
    command
}

fn distinct(service: &Service) -> usize {
    support::times(&service.received()).len()
}

/// Waits until the service has had that many different orders.
fn wait_for(service: &Service, orders: usize) {
    let started = Instant::now();
    while distinct(service) < orders {
        let had = distinct(service);
        assert!(started.elapsed() < LONG, "{had} of {orders} orders");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Has a side end, and takes its account.
fn ended(child: Child) -> Value {
    support::signal(&child, "-TERM");
    let result = support::json(&finish_child(child, LONG));
    assert_eq!(result["balanced"], true, "{result}");
    result
}

#[test]
fn three_processes_share_the_partitions_and_lose_nothing_while_one_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker();
    let service = Service::start(dir.path(), &["--slow-ms", "20"]);
    let members: Vec<Child> = ["first", "second", "third"]
        .iter()
        .map(|name| log_side(broker, &service, dir.path(), name))
        .collect();
    let mut paying = paying_side(broker, dir.path());
    paying.args(["--rate", "6000"]);
    let paying = std::thread::spawn(move || support::json(&finish(paying, LONG)));
    let good = lines(&orders_file());
    let good: HashSet<String> = good
        .into_iter()
        .filter(|line| !line.dead)
        .map(|line| line.order)
        .collect();
    // Once all of them have work one goes, and its share to the others.
    wait_for(&service, 30_000);
    let mut members = members.into_iter();
    let left = ended(members.next().unwrap());
    let paid = paying.join().unwrap();
    assert_eq!(paid["balanced"], true, "{paid}");
    assert_eq!(number(&paid, "delivered"), good.len() as u64);
    wait_for(&service, good.len());
    // The last of them is told what the group has left.
    let stayed: Vec<Value> = members.map(ended).collect();
    let last = stayed.last().unwrap();
    assert_eq!(number(&last["kafka"], "lag"), 0, "{last}");

    let mut delivered = 0;
    for member in stayed.iter().chain([&left]) {
        println!(
            "{} events in, {} delivered",
            member["in"], member["delivered"]
        );
        assert!(number(member, "delivered") > 1000, "{member}");
        delivered += number(member, "delivered");
    }
    let received = service.received();
    let times = support::times(&received);
    assert!(
        good.iter().all(|order| times.contains_key(order.as_str())),
        "an order is lost"
    );
    assert_eq!(times.len(), good.len());
    println!("{} posts of {} orders", received.len(), times.len());
    // What came twice was delivered twice: the accounts of the members say so.
    assert!(
        delivered >= good.len() as u64 && delivered <= received.len() as u64,
        "{delivered} delivered, {} received",
        received.len()
    );
}

#[test]
fn both_sides_in_one_process_take_up_what_an_earlier_run_left() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker();
    let input = support::first_orders(dir.path(), 400);
    let good = lines(&input).iter().filter(|line| !line.dead).count() as u64;
    let run = |more: &[&str]| {
        let mut command = forebay();
        command.args(["orders", "--json", "--kafka", &broker.bootstrap]);
        command.args(["--topic", "taken-up", "--group", "taken-up"]);
        command.arg("--input").arg(&input).arg("--dead-letters");
        command.arg(dir.path().join("dead.ndjson")).args(more);
        let result = support::json(&finish(command, LONG));
        assert_eq!(result["balanced"], true, "{result}");
        assert_eq!(number(&result, "delivered"), good, "{result}");
        result
    };
    let left = run(&["--role", "pay"]);
    assert!(left["kafka"].get("lag").is_none());
    let delivered = dir.path().join("delivered.ndjson");
    let both = run(&["--delivered", delivered.to_str().unwrap()]);
    assert_eq!(number(&both["kafka"], "lag"), 0);
    assert_eq!(number(&both["kafka"]["log"], "delivered"), 2 * good);
    // Both runs paid the same orders.
    let received = &both["received_by_server"];
    assert_eq!(number(received, "distinct"), good);
    assert_eq!(number(received, "duplicates"), good);
}

#[test]
fn the_paying_side_goes_on_from_its_state_and_a_topic_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker();
    let state = dir.path().join("state");
    let topic = ["--topic", "paid-elsewhere"];
    let pay = |more: &[&str]| {
        let mut command = forebay();
        command.args(["orders", "--json", "--kafka", &broker.bootstrap]);
        command.args(["--role", "pay"]).args(topic).args(more);
        command.arg("--input");
        command.arg(support::first_orders(dir.path(), 500));
        command.arg("--state").arg(&state);
        finish(command, LONG)
    };
    let first = support::json(&pay(&["--partitions", "2"]));
    assert_eq!(number(&first["kafka"], "partitions"), 2);
    assert_eq!(number(&first, "in"), 500);
    // All of it is settled: nothing is written again.
    let second = support::json(&pay(&[]));
    assert_eq!(number(&second["kafka"], "partitions"), 2);
    assert_eq!(number(&second, "delivered"), 0, "{second}");
    let refused = pay(&["--partitions", "4"]);
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("`partitions` 2, asked for was 4"), "{why}");
}

/// Writes records that are no events, and one that is, to their partition 0.
fn write_what_is_no_event(broker: &Broker, topic: &str, bad: &[Option<&[u8]>]) {
    let producer: BaseProducer = broker::config(&broker.bootstrap).create().unwrap();
    let good =
        br#"{"orderId":"good","userId":"1","paidAt":"1997-01-01T00:00:00Z","orderItems":[]}"#;
    for value in bad.iter().copied().chain([Some(&good[..])]) {
        let record = BaseRecord::<[u8], [u8]>::to(topic)
            .key(b"a key")
            .partition(0);
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        assert!(producer.send(record).is_ok());
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// The first records of partition 0.
fn read(broker: &Broker, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let mut config = broker::config(&broker.bootstrap);
    config.set("group.id", "reads");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..3 {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut all = Vec::new();
    let started = Instant::now();
    while all.len() < count {
        assert!(started.elapsed() < LONG, "{} of {count} records", all.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            all.push(message.detach());
        }
    }
    all
}

#[test]
fn what_is_no_event_goes_to_the_dead_letter_topic_byte_for_byte_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker();
    let service = Service::start(dir.path(), &[]);
    let mut log = forebay();
    log.args(["orders", "--json", "--kafka", &broker.bootstrap]);
    log.args([
        "--role", "log", "--topic", "poisoned", "--group", "poisoned",
    ]);
    log.args(["--http", &service.url, "--delivered"]);
    log.arg(dir.path().join("delivered.ndjson"));
    log.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let log = log.spawn().unwrap();
    // It makes the topic.
    let begun = Instant::now();
    let admin: BaseConsumer = broker::config(&broker.bootstrap)
        .set("group.id", "looks")
        .create()
        .unwrap();
    let exists = |name: &str| {
        let all = admin.fetch_metadata(None, Duration::from_secs(10)).unwrap();
        all.topics().iter().any(|topic| topic.name() == name)
    };
    while !exists("poisoned.dlq") {
        assert!(begun.elapsed() < LONG, "no topic was made");
        std::thread::sleep(Duration::from_millis(50));
    }
    let bad = [Some(&b"\xff\x00 no event"[..]), None, Some(b"")];
    write_what_is_no_event(broker, "poisoned", &bad);
    wait_for(&service, 1);
    let letters = read(broker, "poisoned.dlq", bad.len());
    let logged = ended(log);
    assert_eq!(
        number(&logged, "dead_lettered"),
        bad.len() as u64,
        "{logged}"
    );
    assert_eq!(number(&logged, "delivered"), 1);
    assert_eq!(number(&logged["kafka"], "lag"), 0);
    let mut values: Vec<Option<&[u8]>> = letters.iter().map(|one| one.payload()).collect();
    values.sort_unstable();
    let mut expected = bad.to_vec();
    expected.sort_unstable();
    assert_eq!(values, expected);
    for letter in &letters {
        assert_eq!(letter.key(), Some(&b"a key"[..]));
        let headers = letter.headers().unwrap();
        let origin = headers.iter().find(|one| one.key == "original-topic");
        assert_eq!(origin.unwrap().value, Some(&b"poisoned"[..]));
    }
}
