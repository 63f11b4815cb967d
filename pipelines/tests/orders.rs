//! The order pipeline on the real orders: every one is accounted for.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Line, Service, finish, finish_child, first_orders, forebay, lines, orders, orders_file, records,
};

const LONG: Duration = Duration::from_mins(5);

fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

/// The keys the object has to have, no more and no fewer; the classes sum to the totals.
fn is_well_formed(result: &Value) {
    let counters = [
        "in",
        "delivered",
        "filtered",
        "shed",
        "expired",
        "dead_lettered",
        "cancelled",
        "failed",
        "in_flight",
    ];
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<HashSet<_>>()
    };
    let expected = |more: &[&str]| {
        counters
            .iter()
            .chain(more)
            .map(ToString::to_string)
            .collect::<HashSet<_>>()
    };
    let more = [
        "balanced",
        "elements_per_s",
        "latency_us",
        "received_by_server",
        "classes",
    ];
    assert_eq!(keys(result), expected(&more));
    assert_eq!(
        keys(&result["latency_us"]),
        HashSet::from(["p50", "p99", "p999", "max"].map(String::from))
    );
    assert_eq!(
        keys(&result["received_by_server"]),
        HashSet::from(["distinct", "duplicates"].map(String::from))
    );
    let classes = ["high", "medium", "low", "unclassified"];
    assert_eq!(
        keys(&result["classes"]),
        HashSet::from(classes.map(String::from))
    );
    for counter in counters {
        let sum: u64 = classes
            .iter()
            .map(|class| number(&result["classes"][class], counter))
            .sum();
        assert_eq!(
            sum,
            number(result, counter),
            "the classes sum to the total of {counter}"
        );
    }
    let ends: u64 = counters[1..]
        .iter()
        .map(|counter| number(result, counter))
        .sum();
    assert_eq!(ends, number(result, "in"), "what went in is accounted for");
}

/// The dead letters hold each bad line with its number, offset and exact bytes, once.
fn holds_the_bad_lines(file: &Path, input: &[Line]) {
    let letters = records(file);
    let bad: Vec<&Line> = input.iter().filter(|line| line.dead).collect();
    assert_eq!(letters.len(), bad.len());
    for (letter, line) in letters.iter().zip(bad) {
        assert_eq!(
            support::letter(letter),
            (line.number, line.offset, line.text.clone())
        );
        assert!(
            letter["error"].as_str().unwrap().contains("0.00"),
            "{letter}"
        );
    }
}

#[test]
fn row_d3_every_real_order_is_delivered_once_and_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let result = support::json(&finish(orders(dir.path()), LONG));
    is_well_formed(&result);
    assert_eq!(number(&result, "in"), 69_659);
    assert_eq!(number(&result, "dead_lettered"), 80);
    assert_eq!(number(&result, "delivered"), 69_579);
    assert_eq!(result["balanced"], true);
    assert_eq!(
        result["received_by_server"],
        json!({"distinct": 69_579, "duplicates": 0})
    );
    assert_eq!(
        number(&result["classes"]["unclassified"], "dead_lettered"),
        80
    );
    let input = lines(&orders_file());
    holds_the_bad_lines(&dir.path().join("dead.ndjson"), &input);
    let delivered: HashSet<String> = records(&dir.path().join("delivered.ndjson"))
        .iter()
        .map(|order| order["orderId"].as_str().unwrap().to_owned())
        .collect();
    let good: HashSet<String> = input
        .iter()
        .filter(|line| !line.dead)
        .map(|line| line.order.clone())
        .collect();
    assert!(
        delivered == good,
        "{} orders written, {} delivered",
        delivered.len(),
        good.len()
    );
}

#[test]
fn row_d3_a_service_that_fails_every_fifth_post_and_is_slow_gets_every_order() {
    let dir = tempfile::tempdir().unwrap();
    let input = orders_file();
    let service = Service::start(dir.path(), &["--fail-rate", "0.2", "--slow-ms", "5"]);
    let mut command = orders(dir.path());
    command.args(["--http", &service.url, "--concurrency", "64"]);
    let result = support::json(&finish(command, LONG));
    is_well_formed(&result);
    let expected: Vec<String> = lines(&input)
        .into_iter()
        .filter(|line| !line.dead)
        .map(|line| line.order)
        .collect();
    assert_eq!(number(&result, "delivered"), expected.len() as u64);
    assert_eq!(result["balanced"], true);
    assert_eq!(
        number(&result["received_by_server"], "distinct"),
        expected.len() as u64
    );
    let received = service.received();
    let times = support::times(&received);
    assert!(
        expected
            .iter()
            .all(|order| times.contains_key(order.as_str())),
        "an order is lost"
    );
}

/// The command as it is written in the manual, on every order.
#[test]
#[ignore = "of a release build, by .ci/long"]
fn row_d3_all_orders_survive_the_faults_of_the_built_in_service() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = orders(dir.path());
    command.args([
        "--fail-rate",
        "0.2",
        "--slow-ms",
        "5",
        "--concurrency",
        "64",
    ]);
    let result = support::json(&finish(command, LONG));
    is_well_formed(&result);
    assert_eq!(
        (number(&result, "in"), number(&result, "delivered")),
        (69_659, 69_579)
    );
    assert_eq!(number(&result, "dead_lettered"), 80);
    assert_eq!(result["balanced"], true);
    assert_eq!(number(&result["received_by_server"], "distinct"), 69_579);
    holds_the_bad_lines(&dir.path().join("dead.ndjson"), &lines(&orders_file()));
}

/// In a pseudo-terminal, which `script` (of the package bsdutils) makes.
#[test]
#[cfg(target_os = "linux")]
fn in_a_terminal_a_bar_shows_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 300);
    let program = forebay();
    let (program, dir) = (program.get_program().display(), dir.path().display());
    let words = format!(
        "'{program}' orders --rate 200 --input '{}' --dead-letters '{dir}/dead' \
         --delivered '{dir}/delivered'",
        input.display()
    );
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &words, "/dev/null"])
        .env("TERM", "xterm");
    let output = finish(command, LONG);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    // A bar is drawn over the one before it; elsewhere there are lines.
    let drawn: HashSet<&str> = shown
        .split(['\r', '\n'])
        .filter(|line| line.contains("/300 ") && line.contains("in flight"))
        .collect();
    assert!(drawn.len() >= 3, "{shown:?}");
    assert!(drawn.iter().all(|bar| bar.contains("eta ")), "{shown:?}");
    assert!(!shown.contains(" of 300 orders, "), "{shown:?}");
    assert!(shown.contains("every order is accounted for"), "{shown:?}");
}

#[test]
fn faults_of_the_built_in_service_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 2000);
    let mut command = orders(dir.path());
    command
        .arg("--input")
        .arg(&input)
        .args(["--fail-rate", "0.2", "--slow-ms", "5"]);
    let result = support::json(&finish(command, LONG));
    let good = lines(&input).iter().filter(|line| !line.dead).count();
    assert_eq!(
        result["received_by_server"],
        json!({"distinct": good, "duplicates": 0})
    );
}

#[test]
fn classes_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("few.csv");
    let text = "order_id,user_id,paid_on,quantity,amount_usd\n\
        1,1,1997-01-01,1,100.00\n2,1,1997-01-01,1,99.99\n3,1,1997-01-01,1,20.00\n4,1,1997-01-01,1,19.99\n\
        5,1,1997-01-01,1,0.00\nnonsense\n";
    std::fs::write(&input, text).unwrap();
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input);
    let result = support::json(&finish(command, LONG));
    is_well_formed(&result);
    let delivered = |class: &str| number(&result["classes"][class], "delivered");
    assert_eq!(
        ["high", "medium", "low", "unclassified"].map(delivered),
        [1, 2, 1, 0]
    );
    assert_eq!(
        number(&result["classes"]["unclassified"], "dead_lettered"),
        2
    );
}

#[test]
fn bytes_of_a_bad_line_are_kept_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("broken.csv");
    let bad: &[u8] = b"2,1,\xff\xfe\x00,\"1,2\\\x1b";
    let mut bytes = b"1,1,1997-01-01,1,5.00\r\n".to_vec();
    bytes.extend_from_slice(bad);
    bytes.extend_from_slice(b"\n\n3,1,1997-01-01,1,5.00");
    std::fs::write(&input, &bytes).unwrap();
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input);
    let result = support::json(&finish(command, LONG));
    assert_eq!(
        (number(&result, "in"), number(&result, "delivered")),
        (4, 2)
    );
    let letters = records(&dir.path().join("dead.ndjson"));
    let kept: Vec<(u64, u64, Vec<u8>)> = letters.iter().map(support::letter_bytes).collect();
    let second = [bad, b"\n"].concat();
    assert_eq!(
        kept,
        [
            (2, 23, second.clone()),
            (3, 23 + second.len() as u64, b"\n".to_vec())
        ]
    );
}

#[test]
fn standard_input_and_json_lines_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = orders(dir.path());
    command
        .args(["--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line =
        r#"{"order_id":1,"user_id":"u","paid_on":"1997-01-01","quantity":2,"amount_usd":20}"#;
    writeln!(stdin, "{line}\n{{\"order_id\":2}}").unwrap();
    drop(stdin);
    let result = support::json(&finish_child(child, LONG));
    assert_eq!(
        (number(&result, "in"), number(&result, "dead_lettered")),
        (2, 1)
    );
    assert_eq!(number(&result["classes"]["medium"], "delivered"), 1);
    let letters = records(&dir.path().join("dead.ndjson"));
    assert_eq!(
        support::letter(&letters[0]),
        (2, line.len() as u64 + 1, "{\"order_id\":2}\n".to_owned())
    );
}

/// Runs on a file of that name and text: how many were read, delivered and dead-lettered, and the
/// order ids delivered.
fn run_on(name: &str, text: &str) -> ([u64; 3], Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join(name);
    std::fs::write(&input, text).unwrap();
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input);
    let result = support::json(&finish(command, LONG));
    let delivered = records(&dir.path().join("delivered.ndjson"));
    let ids = delivered
        .iter()
        .map(|order| order["orderId"].as_str().unwrap().to_owned())
        .collect();
    let counts = ["in", "delivered", "dead_lettered"].map(|key| number(&result, key));
    (counts, ids)
}

#[test]
fn a_mark_or_a_line_that_is_none_at_the_start_hides_no_order() {
    let json = |id: &str| {
        format!(
            r#"{{"order_id":"{id}","user_id":"u","paid_on":"1997-01-01","quantity":2,"amount_usd":20}}"#
        )
    };
    let lines = format!("{}\n{}\n", json("a"), json("b"));
    let both = vec!["a".to_owned(), "b".to_owned()];
    for (start, dead) in [
        ("", 0),
        ("\u{feff}", 0),
        ("\n", 1),
        ("{\"order_id\":\n", 1),
        ("?\n", 1),
    ] {
        let (counts, ids) = run_on("orders.txt", &format!("{start}{lines}"));
        assert_eq!((counts, &ids), ([2 + dead, 2, dead], &both), "{start:?}");
    }
    let lines = "a,u,1997-01-01,1,5.00\nb,u,1997-01-01,1,5.00\n";
    for (start, dead) in [("", 0), ("\u{feff}", 0), ("\n", 1), ("?\n", 1)] {
        let (counts, ids) = run_on("orders.txt", &format!("{start}{lines}"));
        assert_eq!((counts, &ids), ([2 + dead, 2, dead], &both), "{start:?}");
    }
    let header = "order_id,user_id,paid_on,quantity,amount_usd\n";
    for start in ["", "\u{feff}", "\n", "\u{feff}\n \n"] {
        let (counts, ids) = run_on("orders.txt", &format!("{start}{header}{lines}"));
        assert_eq!((counts, &ids), ([2, 2, 0], &both), "{start:?}");
    }
}

#[test]
fn a_csv_on_standard_input_may_have_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 100);
    let mut command = orders(dir.path());
    command
        .args(["--input", "-"])
        .stdin(std::fs::File::open(&input).unwrap());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let result = support::json(&finish_child(child, LONG));
    assert_eq!(number(&result, "in"), 100);
    holds_the_bad_lines(&dir.path().join("dead.ndjson"), &lines(&input));
}

#[test]
fn a_file_that_is_read_again_gives_orders_of_other_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 50);
    let good = lines(&input).iter().filter(|line| !line.dead).count();
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input).args(["--repeat", "3"]);
    let result = support::json(&finish(command, LONG));
    assert_eq!(number(&result, "in"), 150);
    assert_eq!(
        result["received_by_server"],
        json!({"distinct": 3 * good, "duplicates": 0})
    );
}

#[test]
fn a_compressed_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 100);
    let packed = dir.path().join("orders.csv.gz");
    let gzip = Command::new("gzip")
        .arg("-c")
        .arg(&input)
        .stdout(std::fs::File::create(&packed).unwrap())
        .status();
    assert!(gzip.unwrap().success());
    let mut command = orders(dir.path());
    command.arg("--input").arg(&packed);
    let result = support::json(&finish(command, LONG));
    assert_eq!(number(&result, "in"), 100);
    holds_the_bad_lines(&dir.path().join("dead.ndjson"), &lines(&input));
}

#[test]
fn a_run_that_was_drained_is_resumed_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &["--slow-ms", "10"]);
    let run = || {
        let mut command = orders(dir.path());
        command
            .args(["--http", &service.url, "--concurrency", "16", "--state"])
            .arg(dir.path().join("state"));
        command
    };
    let input = first_orders(dir.path(), 3000);
    let mut first = run();
    let first = first
        .arg("--input")
        .arg(&input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while service.log_bytes() < 10_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    support::signal(&first, "-TERM");
    let first = support::json(&finish_child(first, LONG));
    let mut second = run();
    second.arg("--input").arg(&input);
    let second = support::json(&finish(second, LONG));
    assert_eq!(
        number(&first, "in") + number(&second, "in"),
        3000,
        "nothing is read twice"
    );
    assert_eq!(second["received_by_server"]["duplicates"], 0);
    let mut third = run();
    third.arg("--input").arg(&input);
    assert_eq!(
        number(&support::json(&finish(third, LONG)), "in"),
        0,
        "there is nothing left"
    );
    let input = lines(&input);
    holds_the_bad_lines(&dir.path().join("dead.ndjson"), &input);
    let good = input.iter().filter(|line| !line.dead).count();
    assert_eq!(
        records(&dir.path().join("delivered.ndjson")).len(),
        good,
        "each delivered order is written once"
    );
}

#[test]
fn a_rate_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 600);
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input).args(["--rate", "400"]);
    let output = finish(command, LONG);
    let result = support::json(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(" of 600 orders, "),
        "how far it is, as lines: {stderr}"
    );
    let rate = result["elements_per_s"].as_f64().unwrap();
    assert!((200.0..=410.0).contains(&rate), "{rate}");
}

#[test]
fn the_first_signal_drains_and_the_accounts_balance() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &["--slow-ms", "20"]);
    let mut command = orders(dir.path());
    command.args(["--http", &service.url, "--concurrency", "8"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while service.log_bytes() < 2000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    support::signal(&child, "-TERM");
    let result = support::json(&finish_child(child, Duration::from_secs(30)));
    is_well_formed(&result);
    assert_eq!(result["balanced"], true);
    let (delivered, read) = (number(&result, "delivered"), number(&result, "in"));
    assert!(delivered > 0 && read < 69_659, "{result}");
    assert_eq!(
        (number(&result, "cancelled"), number(&result, "in_flight")),
        (0, 0)
    );
    assert_eq!(number(&result["received_by_server"], "distinct"), delivered);
}

#[test]
fn the_second_signal_aborts() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &["--slow-ms", "60000"]);
    let mut command = orders(dir.path());
    command.args(["--http", &service.url, "--timeout-ms", "100000"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while service.log_bytes() < 500 {
        std::thread::sleep(Duration::from_millis(10));
    }
    support::signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    support::signal(&child, "-INT");
    let output = finish_child(child, Duration::from_secs(20));
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_well_formed(&result);
    assert_eq!(result["balanced"], true);
    assert!(
        number(&result, "cancelled") > 0 && number(&result, "delivered") == 0,
        "{result}"
    );
}

#[test]
fn an_order_the_service_refuses_for_good_is_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 20);
    let (service, _) = answering("422 Unprocessable Content");
    let mut command = orders(dir.path());
    command
        .arg("--input")
        .arg(&input)
        .args(["--http", &service]);
    let result = support::json(&finish(command, LONG));
    assert_eq!(
        (
            number(&result, "delivered"),
            number(&result, "dead_lettered")
        ),
        (0, 20)
    );
    assert_eq!(
        result["received_by_server"],
        Value::Null,
        "this service does not count"
    );
    let letters = records(&dir.path().join("dead.ndjson"));
    assert!(
        letters
            .iter()
            .all(|letter| letter["error"].as_str().unwrap().contains("422")),
        "{letters:?}"
    );
    let input = lines(&input);
    let places: HashSet<(u64, u64, String)> = letters.iter().map(support::letter).collect();
    let expected = input
        .into_iter()
        .map(|line| (line.number, line.offset, line.text))
        .collect();
    assert_eq!(places, expected, "they have the bytes of their lines");
}

#[test]
fn a_url_that_is_not_the_service_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::start(dir.path(), &[]);
    let mut command = orders(dir.path());
    command.args(["--http", &service.url.replace("/orders", "/elsewhere")]);
    let output = finish(command, LONG);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("404") && stderr.contains("post"),
        "{stderr}"
    );
    assert!(service.received().is_empty());
}

#[test]
fn connections_are_kept_alive() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 500);
    let (service, connections) = answering("200 OK");
    let mut command = orders(dir.path());
    command
        .arg("--input")
        .arg(&input)
        .args(["--http", &service, "--concurrency", "4"]);
    let result = support::json(&finish(command, LONG));
    let good = lines(&input).iter().filter(|line| !line.dead).count() as u64;
    assert_eq!(number(&result, "delivered"), good);
    // One to see whether somebody listens, one for each post in flight, one to ask for figures; a
    // connection may still be on its way into the pool when the next post looks for it.
    let connections = connections.load(Ordering::Relaxed);
    assert!(
        (2..50).contains(&connections),
        "{connections} connections for {good} posts"
    );
}

#[test]
fn a_post_that_takes_too_long_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 300);
    let mut command = orders(dir.path());
    command.arg("--input").arg(&input);
    command.args([
        "--stall-order",
        "7",
        "--stall-ms",
        "60000",
        "--timeout-ms",
        "500",
    ]);
    let result = support::json(&finish(command, LONG));
    let good = lines(&input).iter().filter(|line| !line.dead).count();
    assert_eq!(number(&result, "delivered"), good as u64);
    assert_eq!(
        number(&result["received_by_server"], "distinct"),
        good as u64
    );
    assert!(
        number(&result["received_by_server"], "duplicates") >= 1,
        "{result}"
    );
}

/// A service that answers each post with that status, and how many connections it was given.
fn answering(status: &str) -> (String, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/orders", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            let (connection, answer) = (connection.unwrap(), answer.clone());
            std::thread::spawn(move || answer_all(connection, &answer));
        }
    });
    (url, connections)
}

fn answer_all(mut connection: TcpStream, answer: &str) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        let closed = line.is_empty() || reader.read_exact(&mut body).is_err();
        if closed || connection.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_signal_ends_a_run_whose_standard_input_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = orders(dir.path());
    command.args(["--input", "-"]).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "1,1,1997-01-01,1,11.77\n2,1,1997-01-01,1,11.77").unwrap();
    let delivered = dir.path().join("delivered.ndjson");
    while records(&delivered).len() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    support::signal(&child, "-TERM");
    let result = support::json(&finish_child(child, Duration::from_secs(20)));
    assert_eq!(
        (number(&result, "in"), number(&result, "delivered")),
        (2, 2)
    );
    drop(stdin);
}

#[test]
fn a_disk_that_is_full_stops_the_run_and_nothing_counts_as_kept() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 100);
    let mut command = forebay();
    command
        .args([
            "orders",
            "--json",
            "--delivered",
            "/dev/full",
            "--dead-letters",
        ])
        .arg(dir.path().join("dead.ndjson"));
    command.arg("--input").arg(&input);
    let output = finish(command, LONG);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("delivered") && stderr.contains("space"),
        "{stderr}"
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_well_formed(&result);
    assert_eq!(
        (&result["delivered"], &result["balanced"]),
        (&json!(0), &json!(true)),
        "{stderr}"
    );
}

#[test]
fn without_json_the_result_is_for_reading() {
    let dir = tempfile::tempdir().unwrap();
    let input = first_orders(dir.path(), 100);
    let mut command = forebay();
    command
        .args(["orders", "--dead-letters"])
        .arg(dir.path().join("dead.ndjson"));
    command
        .arg("--delivered")
        .arg(dir.path().join("delivered.ndjson"))
        .arg("--input")
        .arg(&input);
    let output = finish(command, LONG);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "by stage",
        "by class",
        "latency",
        "p99.9",
        "throughput",
        "every order is accounted for",
    ] {
        assert!(text.contains(words), "`{words}` is missing in {text}");
    }
}
