//! The order pipeline with a topic in between, in an embedded cluster; partitions planned.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{finish, finish_child, first_orders, forebay, lines, orders, orders_file, records};

const LONG: Duration = Duration::from_mins(5);

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

fn run(arguments: &[&str]) -> Output {
    let mut command = forebay();
    command.args(arguments);
    finish(command, Duration::from_secs(60))
}

/// Told in one line, which contains that, with exit code 2 and nothing on standard output.
fn is_refused(arguments: &[&str], contains: &str) {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(contains), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn row_d3_every_real_order_goes_through_a_topic_and_is_accounted_for_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = orders(dir.path());
    command.args(["--kafka", "embedded"]);
    let result = support::json(&finish(command, LONG));
    assert_eq!(result["balanced"], true);
    assert_eq!(number(&result, "in"), 69_659);
    assert_eq!(number(&result, "dead_lettered"), 80);
    assert_eq!(number(&result, "delivered"), 69_579);
    assert_eq!(
        result["received_by_server"],
        json!({"distinct": 69_579, "duplicates": 0})
    );
    let kafka = &result["kafka"];
    assert_eq!(
        (&kafka["role"], &kafka["topic"], &kafka["group"]),
        (
            &json!("both"),
            &json!("order-paid-events"),
            &json!("order-log")
        )
    );
    assert_eq!((number(kafka, "partitions"), number(kafka, "lag")), (3, 0));
    let log = &kafka["log"];
    assert_eq!(log["balanced"], true);
    assert_eq!(
        (number(log, "in"), number(log, "delivered")),
        (69_579, 69_579)
    );
    // The class went along in a header.
    for class in ["high", "medium", "low"] {
        assert_eq!(
            number(&log["classes"][class], "delivered"),
            number(&result["classes"][class], "delivered"),
            "{class}"
        );
    }
    assert!(number(&log["classes"]["high"], "delivered") > 0);
    let input = lines(&orders_file());
    let good = input.iter().filter(|line| !line.dead);
    let good: HashSet<String> = good.map(|line| line.order.clone()).collect();
    let delivered = records(&dir.path().join("delivered.ndjson"));
    let delivered = delivered.iter();
    let delivered: HashSet<String> = delivered
        .map(|order| order["orderId"].as_str().unwrap().to_owned())
        .collect();
    assert!(delivered == good);
    let letters = records(&dir.path().join("dead.ndjson"));
    assert_eq!(letters.len(), 80);
}

#[test]
fn faults_of_the_service_lose_nothing_behind_a_topic() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 3000);
    let mut command = orders(dir.path());
    command
        .arg("--input")
        .arg(&input)
        .args(["--kafka", "embedded", "--partitions", "5"])
        .args(["--fail-rate", "0.2", "--slow-ms", "5"]);
    let result = support::json(&finish(command, LONG));
    let good = lines(&input).iter().filter(|line| !line.dead).count();
    assert_eq!(
        result["received_by_server"],
        json!({"distinct": good, "duplicates": 0})
    );
    assert_eq!(number(&result["kafka"], "partitions"), 5);
    assert_eq!(number(&result["kafka"], "lag"), 0);
}

#[test]
fn a_signal_ends_the_paying_and_the_log_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let timeline = dir.path().join("timeline.ndjson");
    let mut command = orders(dir.path());
    command.args(["--kafka", "embedded", "--rate", "500", "--timeline"]);
    command
        .arg(&timeline)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let started = Instant::now();
    while records(&timeline).is_empty() {
        assert!(started.elapsed() < LONG, "nothing is paid");
        std::thread::sleep(Duration::from_millis(20));
    }
    support::signal(&child, "-TERM");
    let result = support::json(&finish_child(child, LONG));
    let delivered = number(&result, "delivered");
    assert!((1..69_579).contains(&delivered), "{result}");
    assert_eq!(result["balanced"], true);
    assert_eq!(number(&result["received_by_server"], "distinct"), delivered);
    assert_eq!(number(&result["kafka"], "lag"), 0);
    assert_eq!(number(&result["kafka"]["log"], "delivered"), delivered);
}

#[test]
fn what_was_delivered_in_each_second_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 400);
    let timeline = dir.path().join("timeline.ndjson");
    for more in [&["--kafka", "embedded"][..], &[]] {
        let mut command = orders(dir.path());
        command.arg("--input").arg(&input).arg("--timeline");
        command.arg(&timeline).args(["--rate", "100"]).args(more);
        support::json(&finish(command, LONG));
        let seconds = records(&timeline);
        assert!((2..=5).contains(&seconds.len()), "{seconds:?}");
        for second in &seconds {
            assert!(
                number(second, "p50_us") <= number(second, "p99_us"),
                "{second}"
            );
            assert!(
                (20..=250).contains(&number(second, "delivered")),
                "{second}"
            );
        }
        let apart = number(&seconds[1], "at_ms") - number(&seconds[0], "at_ms");
        assert!((500..3000).contains(&apart), "{apart}");
    }
}

#[test]
fn what_an_embedded_cluster_or_a_side_cannot_do_is_refused() {
    let embedded = ["orders", "--kafka", "embedded"];
    is_refused(
        &[&embedded[..], &["--state", "somewhere"]].concat(),
        "--state",
    );
    is_refused(&[&embedded[..], &["--role", "log"]].concat(), "--role");
    is_refused(
        &[&embedded[..], &["--partitions", "0"]].concat(),
        "--partitions",
    );
    is_refused(
        &[&embedded[..], &["--overload", "2"]].concat(),
        "--overload",
    );
    is_refused(&[&embedded[..], &["--topic", "a b"]].concat(), "a b");
    is_refused(&["orders", "--kafka", "nonsense"], "nonsense");
    is_refused(&["orders", "--kafka"], "--kafka");
    is_refused(&["orders", "--role", "pay"], "--kafka");
    is_refused(&["orders", "--topic", "orders"], "--kafka");
    let at = |role: &'static str| ["orders", "--kafka", "127.0.0.1:9", "--role", role];
    for wrong in [
        &["--http", "http://127.0.0.1:9/"][..],
        &["--slow-ms", "5"],
        &["--delivered", "x"],
    ] {
        is_refused(&[&at("pay"), wrong].concat(), "--role pay");
    }
    for wrong in [&["--rate", "5"][..], &["--repeat", "2"], &["--input", "-"]] {
        is_refused(&[&at("log"), wrong].concat(), "--role log");
    }
    // A port that was free a moment ago: nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = free.local_addr().unwrap().to_string();
    drop(free);
    is_refused(&["orders", "--kafka", &broker], "--kafka");
}

#[test]
fn both_sides_are_drawn_without_a_cluster() {
    let names = |role: &str| {
        let output = run(&[
            "orders",
            "--kafka",
            "127.0.0.1:9",
            "--role",
            role,
            "--print-topology",
            "json",
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let nodes = json["nodes"].as_array().unwrap().iter();
        let names = nodes.map(|node| node["name"].as_str().unwrap().to_owned());
        names.collect::<HashSet<String>>()
    };
    let (pay, log, both) = (names("pay"), names("log"), names("both"));
    assert!(pay.contains("lines") && pay.contains("topic"), "{pay:?}");
    assert!(!pay.contains("post"), "{pay:?}");
    assert!(log.contains("events") && log.contains("post"), "{log:?}");
    assert!(!log.contains("lines"), "{log:?}");
    assert!(
        pay.is_subset(&both) && log.contains("value") && both.contains("post"),
        "{both:?}"
    );
}

#[test]
fn row_b5_the_planner_says_how_many_and_why() {
    let plan = |arguments: &[&str]| {
        let output = run(&[
            &["plan-partitions", "--json", "--total-mb-per-s"],
            arguments,
        ]
        .concat());
        support::json(&output)
    };
    for (arguments, partitions, short) in [
        (&["0"][..], 3, false),
        (&["30.1"], 4, false),
        (&["100", "--consumers", "6"], 12, false),
        (&["100", "--partition-mb-per-s", "2.5"], 40, false),
        (&["1000"], 100, false),
        (&["1000.1"], 100, true),
        (&["1", "--consumers", "51"], 100, true),
    ] {
        let plan = plan(arguments);
        assert_eq!(number(&plan, "partitions"), partitions, "{arguments:?}");
        assert_eq!(plan["short"], short, "{arguments:?}");
        assert_eq!((number(&plan, "fewest"), number(&plan, "most")), (3, 100));
    }
    let told = run(&[
        "plan-partitions",
        "--total-mb-per-s",
        "55",
        "--consumers",
        "4",
    ]);
    let told = String::from_utf8(told.stdout).unwrap();
    for word in [
        "partitions     8",
        "6: 55 MB/s, 10 MB/s",
        "8: twice 4",
        "3 to 100",
    ] {
        assert!(told.contains(word), "{word} is missing: {told}");
    }
    is_refused(&["plan-partitions"], "--total-mb-per-s");
    is_refused(&["plan-partitions", "--total-mb-per-s", "much"], "much");
    is_refused(
        &["plan-partitions", "--total-mb-per-s=-1"],
        "total_mb_per_s",
    );
    is_refused(
        &[
            "plan-partitions",
            "--total-mb-per-s",
            "1",
            "--partition-mb-per-s",
            "0",
        ],
        "partition_mb_per_s",
    );
}
