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
