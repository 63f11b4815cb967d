//! Ten times the orders that the service can take: HIGH is served as if there were no others, and
//! every order that is given up is counted.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{finish, first_orders, forebay, json, orders};

const LONG: Duration = Duration::from_mins(3);

fn count(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no count `{key}` in {value}"))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

#[test]
fn ten_times_the_orders_leave_high_intact() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = orders(dir.path());
    // 16 posts of 100 ms at once: 160 a second, so that a busy machine can offer ten times of it.
    command
        .args([
            "--overload",
            "10",
            "--slow-ms",
            "100",
            "--concurrency",
            "16",
        ])
        .arg("--input")
        .arg(first_orders(dir.path(), 16_000));
    let result = json(&finish(command, LONG));
    assert_eq!(result["balanced"], true);
    let overload = &result["overload"];
    let offered = number(overload, "offered_per_s") / number(overload, "capacity_per_s");
    assert!(
        (8.0..11.0).contains(&offered),
        "{offered} times the capacity"
    );
    assert_eq!(count(overload, "high_lost"), 0, "{result}");
    let high = &result["classes"]["high"];
    assert_eq!(count(high, "delivered"), count(high, "in"));
    let served = number(overload, "delivered_per_s") / number(overload, "capacity_per_s");
    assert!(
        served > 0.7,
        "the service was busy: {served} of its capacity"
    );
    assert!(count(overload, "peak_rss_kib") > 1024, "{overload}");
    let given_up = number(&result, "shed") + number(&result, "expired");
    assert!(given_up > 0.8 * number(&result, "in"), "{result}");
    assert!(
        number(&result["classes"]["medium"], "delivered")
            > 5.0 * number(&result["classes"]["low"], "delivered"),
        "LOW goes first: {result}"
    );
    let p99_ms = number(&result["latency_us"], "p99") / 1e3;
    assert!(
        p99_ms <= number(overload, "deadline_ms") * 1.2,
        "{p99_ms} ms"
    );
    assert_eq!(count(overload, "breaker_trips"), 0, "load alone sheds");
}

#[test]
fn an_overload_that_cannot_be_is_refused_in_one_line() {
    for wrong in [
        &["--overload", "0"][..],
        &["--overload", "ten"],
        &["--overload", "10", "--rate", "100"],
        &["--overload", "10", "--http", "http://127.0.0.1:1/orders"],
    ] {
        let mut command = forebay();
        command.arg("orders").args(wrong);
        let output = finish(command, LONG);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("--overload"), "{told}");
    }
}
