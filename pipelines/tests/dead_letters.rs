//! `forebay dead-letters` against a broker of its own.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;
mod support;

use std::process::Output;
use std::sync::OnceLock;
use std::time::Duration;

use forebay::kafka::{
    Connection, DeadLetterAdmin, DeadLetterTopic, LetterFilter, ProducerRecord, ProducerSettings,
    Replay,
};
use forebay::{flow::DeadLetters, source};
use serde_json::Value;

use broker::{Broker, create_topics};
use support::{finish, forebay};

/// The broker. It ends with this process, however that ends.
async fn brokers() -> String {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    let start = || BROKER.get_or_init(Broker::start).bootstrap.clone();
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Runs a command to its end.
fn ask(brokers: &str, action: &str, arguments: &[&str]) -> Output {
    let mut command = forebay();
    command.args([
        "dead-letters",
        action,
        "--brokers",
        brokers,
        "--topic",
        "orders.DLQ",
    ]);
    command.args(arguments);
    finish(command, Duration::from_secs(60))
}

/// What a command printed that came to a good end.
fn told(brokers: &str, action: &str, arguments: &[&str]) -> String {
    let output = ask(brokers, action, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{action} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn is_refused(arguments: &[&str], contains: &str) {
    let mut command = forebay();
    command.arg("dead-letters").args(arguments);
    let output = finish(command, Duration::from_secs(30));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(contains), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_request_that_cannot_be_is_one_line_and_exit_code_2() {
    let place = ["--brokers", "127.0.0.1:1", "--topic", "orders.DLQ"];
    let with = |action: &'static str, more: &[&'static str]| {
        let mut all = vec![action];
        all.extend(place);
        all.extend(more);
        all
    };
    is_refused(&["list", "--topic", "orders.DLQ"], "--brokers");
    is_refused(&["list", "--brokers", "a:1"], "--topic");
    is_refused(&with("list", &["--since", "yesterday"]), "yesterday");
    is_refused(&with("list", &["--offsets", "9..1"]), "9..1");
    is_refused(&with("list", &["--key", "a", "--key-hex", "00"]), "--key");
    is_refused(&with("show", &["17"]), "17");
    is_refused(&with("discard", &[]), "--all");
    is_refused(
        &with("list", &["--set", "no.such.property=1"]),
        "no.such.property",
    );
    is_refused(
        &with("list", &["--properties-file", "/no/such/file"]),
        "/no/such/file",
    );
}

/// Writes records, and gives up those whose value is no number.
async fn fill(brokers: &str) {
    create_topics(
        brokers,
        &[("orders", 2), ("orders.DLQ", 1), ("elsewhere", 1)],
    )
    .await;
    let connection = || Connection::to(brokers);
    let writes = ProducerSettings::new(connection());
    let record = |partition, key: &'static [u8], value: &'static [u8]| {
        let record = ProducerRecord::to("orders")
            .partition(partition)
            .key(key)
            .value(value);
        record
            .header("traceparent", "00-1")
            .timestamp(1_772_368_200_250)
    };
    let records = [
        record(1, b"a", b"one"),
        record(0, b"\xff", b"\xc3\x28"),
        record(1, b"a", b"2"),
        record(1, b"b", b"three"),
    ];
    let wrote = source::iter(records).to_kafka(writes.clone()).run();
    wrote.unwrap().join().await.unwrap();
    let letters = DeadLetters::new(16, DeadLetterTopic::beside(&writes, ".DLQ").unwrap());
    let settings = forebay::kafka::ConsumerSettings::new(connection(), "fills").topics(["orders"]);
    let (_handle, flow) = forebay::kafka::source(settings);
    let mut running = flow
        .map_async(1, |record| async move { record })
        .try_map(|record| {
            let text = std::str::from_utf8(record.value().unwrap_or_default());
            text.unwrap_or("-").parse::<u64>()
        })
        .or_dead_letter(&letters)
        .for_each(drop)
        .run()
        .unwrap();
    let started = std::time::Instant::now();
    while running
        .snapshot()
        .total()
        .outcome(forebay::outcome::Kind::DeadLettered)
        < 3
    {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.drain(Duration::from_secs(20)).await.unwrap();
    // A letter of somebody who says nothing of it.
    let bare = ProducerRecord::to("orders.DLQ").key("bare").value("?");
    let wrote = source::iter([bare]).to_kafka(writes).run();
    wrote.unwrap().join().await.unwrap();
}

/// How many records a topic has that were committed.
fn count(brokers: &str, topic: &str) -> u64 {
    let records = DeadLetterAdmin::new(Connection::to(brokers), topic);
    records.list(&LetterFilter::new(), |_| {}).unwrap()
}

/// The brokers show what was committed a moment later.
fn grows_to(brokers: &str, topic: &str, records: u64) {
    let started = std::time::Instant::now();
    while count(brokers, topic) < records && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(brokers, topic), records, "{topic}");
}

/// Finds letters by what they say. The one that is no text.
fn is_listed_and_shown(brokers: &str) -> Value {
    let all = objects(&told(brokers, "list", &["--json"]));
    assert_eq!(all.len(), 4);
    let text = told(brokers, "list", &["--original-partition", "1"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("pending orders-1@0 ") && text.contains("invalid digit"),
        "{text}"
    );
    assert_eq!(told(brokers, "list", &["--limit", "1"]).lines().count(), 1);
    assert_eq!(
        told(brokers, "list", &["--key-hex", "fF"]).lines().count(),
        1
    );
    assert_eq!(
        told(
            brokers,
            "list",
            &["--since", "1h", "--error-class", "ParseIntError"]
        )
        .lines()
        .count(),
        3
    );
    assert_eq!(told(brokers, "list", &["--until", "1h"]), "");
    // What is no text is told whole, and given exactly.
    let odd = all
        .iter()
        .find(|letter| letter["key_base64"] == "/w==")
        .unwrap();
    let at = odd["letter"].as_str().unwrap();
    let shown = told(brokers, "show", &[at]);
    assert!(shown.contains("value         0xc328"), "{shown}");
    assert!(
        shown.contains("time          2026-03-01T12:30:00.250Z"),
        "{shown}"
    );
    assert!(
        shown.contains("header        \"traceparent\" = \"00-1\""),
        "{shown}"
    );
    assert_eq!(ask(brokers, "show", &[at, "--raw"]).stdout, b"\xc3\x28");
    assert_eq!(
        objects(&told(brokers, "show", &[at, "--json"])),
        std::slice::from_ref(odd)
    );
    let nothing = ask(brokers, "show", &["0@99999"]);
    assert_eq!(nothing.status.code(), Some(1));
    odd.clone()
}

/// Replays and discards, and finds what is left: that one.
fn is_replayed_and_discarded(brokers: &str, odd: &Value) {
    let dry = told(
        brokers,
        "replay",
        &["--original-topic", "orders", "--key", "a", "--dry-run"],
    );
    assert!(
        dry.starts_with("1 letter of ") && dry.contains("would be replayed"),
        "{dry}"
    );
    assert_eq!(count(brokers, "orders"), 4);
    let key = ["--original-topic", "orders", "--key", "a", "--json"];
    for letters in [1, 0, 0] {
        let done = objects(&told(brokers, "replay", &key)).remove(0);
        assert_eq!(done["letters"], letters, "{done}");
    }
    grows_to(brokers, "orders", 5);
    // What does not say where it came from is left alone, and said so.
    let key = "bare";
    let output = ask(brokers, "replay", &["--key", key]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && errors.contains("--to"),
        "{errors}"
    );
    let done = told(brokers, "replay", &["--key", key, "--to", "elsewhere"]);
    assert!(done.contains("1 to elsewhere"), "{done}");
    grows_to(brokers, "elsewhere", 1);

    let dry = told(brokers, "discard", &["--all", "--dry-run"]);
    assert!(
        dry.starts_with("2 letters") && dry.contains("would be"),
        "{dry}"
    );
    let done = told(brokers, "discard", &["--key", "b"]);
    assert!(done.starts_with("1 letter"), "{done}");
    let left = objects(&told(brokers, "list", &["--json"]));
    assert_eq!(
        left,
        std::slice::from_ref(odd),
        "a discard touched what it did not name"
    );
    let states = |state: &str| told(brokers, "list", &["--state", state]).lines().count();
    assert_eq!(
        ["pending", "replayed", "discarded", "any"].map(states),
        [1, 2, 1, 4]
    );
    let mut command = forebay();
    command.args([
        "dead-letters",
        "list",
        "--brokers",
        brokers,
        "--topic",
        "no-such",
    ]);
    let output = finish(command, Duration::from_secs(60));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("`no-such` does not exist"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_replayed_and_discarded() {
    let brokers = brokers().await;
    let brokers = brokers.as_str();
    fill(brokers).await;
    tokio::task::block_in_place(|| {
        let odd = is_listed_and_shown(brokers);
        is_replayed_and_discarded(brokers, &odd);
    });
}

/// A replay that is killed at some moment has replayed and marked a letter, or neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_repeats_nothing_and_forgets_nothing() {
    const LETTERS: u64 = 10_000;
    let brokers = brokers().await;
    let brokers = brokers.as_str();
    create_topics(brokers, &[("killed", 3), ("killed.DLQ", 3)]).await;
    let writes = ProducerSettings::new(Connection::to(brokers));
    let letters = (0..LETTERS).map(|number| {
        let record = ProducerRecord::to("killed.DLQ").key(number.to_string());
        let record = record.value("v").header("original-topic", "killed");
        record.header("error-message", "no")
    });
    let wrote = source::iter(letters).to_kafka(writes).run();
    wrote.unwrap().join().await.unwrap();
    tokio::task::block_in_place(|| {
        let mut killed = 0;
        for _ in 0..20 {
            let before = count(brokers, "killed");
            let mut command = forebay();
            command.args(["dead-letters", "replay", "--brokers", brokers]);
            let mut child = command.args(["--topic", "killed.DLQ"]).spawn().unwrap();
            // Once it has committed something, at some moment of the next.
            let started = std::time::Instant::now();
            while count(brokers, "killed") < (before + 500).min(LETTERS) {
                assert!(started.elapsed() < Duration::from_secs(60));
                std::thread::sleep(Duration::from_millis(20));
            }
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
            child.wait().unwrap();
            if count(brokers, "killed") == LETTERS {
                break;
            }
        }
        assert!(killed >= 2, "killed {killed} times: too few to show it");
        let admin = DeadLetterAdmin::new(Connection::to(brokers), "killed.DLQ");
        admin.replay(&LetterFilter::new(), &Replay::new()).unwrap();
        assert_eq!(admin.list(&LetterFilter::new(), |_| {}).unwrap(), 0);
        grows_to(brokers, "killed", LETTERS);
        let mut copies = std::collections::BTreeMap::<_, u64>::new();
        DeadLetterAdmin::new(Connection::to(brokers), "killed")
            .list(&LetterFilter::new(), |record| {
                *copies.entry(record.key.clone()).or_default() += 1;
            })
            .unwrap();
        assert_eq!(copies.len() as u64, LETTERS);
        assert!(copies.values().all(|times| *times == 1));
    });
}
