//! The service is down: the paying side does not notice, nothing is lost, and the log catches up.
//!
//! `FOREBAY_OUTAGES` is how often it goes down (default 4), `FOREBAY_OUTAGE_S` for how many seconds each time
//! (default 6); in between it is up for as long.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;
mod support;

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use broker::Broker;
use serde_json::Value;
use support::{Service, finish_child, forebay, records};

const LONG: Duration = Duration::from_mins(5);
const ORDERS_PER_S: &str = "400";
/// How much longer an acknowledgement may take at the 99th percentile while the service is down.
const SLOWER: f64 = 1.2;

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

fn side(role: &str, broker: &Broker) -> Command {
    let mut command = forebay();
    command.args(["orders", "--json", "--kafka", &broker.bootstrap]);
    command.args(["--role", role]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> Value {
    support::signal(&child, "-TERM");
    let result = support::json(&finish_child(child, LONG));
    assert_eq!(result["balanced"], true, "{result}");
    result
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// A service that is down and comes back, on the same port.
struct Services<'a> {
    dir: &'a Path,
    up: Option<Service>,
    port: String,
    logs: u32,
    received: HashSet<String>,
    posts: usize,
}

impl Services<'_> {
    fn start(dir: &Path) -> Services<'_> {
        let mut services = Services {
            dir,
            up: None,
            port: "0".to_owned(),
            logs: 0,
            received: HashSet::new(),
            posts: 0,
        };
        services.comes_back();
        services
    }

    fn comes_back(&mut self) {
        self.logs += 1;
        let log = self.dir.join(format!("received-{}.log", self.logs));
        let service = Service::logging(log, &["--port", &self.port]);
        service.port().clone_into(&mut self.port);
        self.up = Some(service);
    }

    /// What it took note of before it went is kept.
    fn goes_down(&mut self) {
        let service = self.up.take().unwrap();
        let log = self.dir.join(format!("received-{}.log", self.logs));
        service.kill();
        let text = std::fs::read_to_string(log).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            self.posts += 1;
            self.received
                .insert(line.split_once(' ').unwrap().1.to_owned());
        }
    }

    fn url(&self) -> &str {
        &self.up.as_ref().unwrap().url
    }

    /// Waits until nothing is left to be caught up on: as much comes as is paid.
    fn wait_until_caught_up(&self, timeline: &Path) {
        let service = self.up.as_ref().unwrap();
        let started = Instant::now();
        loop {
            let paid: u64 = records(timeline)
                .iter()
                .map(|second| number(second, "delivered"))
                .sum();
            let received = service.received();
            let times = support::times(&received);
            let known = times
                .keys()
                .filter(|order| !self.received.contains(**order));
            let logged = self.received.len() + known.count();
            // The timeline is up to a second old.
            if logged as u64 >= paid {
                return;
            }
            assert!(started.elapsed() < LONG, "{logged} of {paid} events");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The median over the seconds of a kind of their 99th percentile.
fn p99_us(seconds: &[Value], phases: &[(u64, u64)]) -> u64 {
    let mut all: Vec<u64> = seconds
        .iter()
        .filter(|second| {
            let end = number(second, "at_ms");
            phases
                .iter()
                .any(|(from, to)| end >= from + 1000 && end <= *to)
        })
        .map(|second| number(second, "p99_us"))
        .collect();
    all.sort_unstable();
    println!("{} seconds: {all:?}", all.len());
    assert!(all.len() >= 6, "too few seconds to judge");
    all[all.len() / 2]
}

#[test]
fn row_d3_while_the_log_is_down_nobody_who_pays_is_slowed_and_nothing_is_lost() {
    let outages = variable("FOREBAY_OUTAGES", 4);
    let phase = Duration::from_secs(variable("FOREBAY_OUTAGE_S", 6));
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let mut services = Services::start(dir.path());
    let mut log = side("log", &broker);
    log.args([
        "--http",
        services.url(),
        "--timeout-ms",
        "1000",
        "--delivered",
    ]);
    let log = log
        .arg(dir.path().join("delivered.ndjson"))
        .spawn()
        .unwrap();
    let timeline = dir.path().join("timeline.ndjson");
    let mut pay = side("pay", &broker);
    pay.args(["--rate", ORDERS_PER_S, "--repeat", "100", "--dead-letters"]);
    pay.arg(dir.path().join("dead.ndjson"));
    let pay = pay.arg("--timeline").arg(&timeline).spawn().unwrap();

    // What it does first is slower, whatever the service does.
    let begun = Instant::now();
    while records(&timeline).len() < 4 {
        assert!(begun.elapsed() < LONG, "nothing is paid");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..outages {
        services.wait_until_caught_up(&timeline);
        let from = now_ms();
        std::thread::sleep(phase);
        up.push((from, now_ms()));
        services.goes_down();
        let from = now_ms();
        std::thread::sleep(phase);
        down.push((from, now_ms()));
        services.comes_back();
    }
    services.wait_until_caught_up(&timeline);
    let paid = ended(pay);
    let count = number(&paid, "delivered");
    let begun = Instant::now();
    loop {
        let received = services.up.as_ref().unwrap().received();
        let mut all = services.received.clone();
        all.extend(received.into_iter().map(|receipt| receipt.order));
        if all.len() as u64 == count {
            break;
        }
        let had = all.len();
        assert!(
            begun.elapsed() < LONG,
            "{had} of {count} orders were logged"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let logged = ended(log);
    assert_eq!(number(&logged["kafka"], "lag"), 0, "{logged}");
    assert_eq!(number(&logged, "dead_lettered"), 0, "{logged}");
    services.goes_down();
    assert_eq!(services.received.len() as u64, count);
    println!("{count} paid, {} posts", services.posts);

    let seconds = records(&timeline);
    let (healthy, faulty) = (p99_us(&seconds, &up), p99_us(&seconds, &down));
    println!("p99 of acknowledgements: {healthy} us with the service, {faulty} us without");
    assert!(
        faulty as f64 <= healthy as f64 * SLOWER,
        "{faulty} us while it was down, {healthy} us while it was up"
    );
}
