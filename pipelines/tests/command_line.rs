//! Requests that cannot be carried out, help, and pictures.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::{Output, Stdio};
use std::time::Duration;

use support::{finish, forebay};

fn run(arguments: &[&str]) -> Output {
    let mut command = forebay();
    command.args(arguments);
    finish(command, Duration::from_secs(30))
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
fn a_bad_option_is_one_line_and_exit_code_2() {
    is_refused(&[], "orders");
    is_refused(&["order"], "order");
    is_refused(&["orders", "--nope"], "--nope");
    is_refused(&["orders", "--concurrency", "0"], "--concurrency");
    is_refused(&["orders", "--concurrency", "many"], "many");
    is_refused(&["orders", "--rate"], "--rate");
    is_refused(&["orders", "--fail-rate", "1.5"], "--fail-rate");
    is_refused(&["orders", "--fail-rate", "NaN"], "--fail-rate");
    is_refused(&["orders", "--window", "0"], "--window");
    is_refused(&["orders", "--print-topology", "svg"], "svg");
    is_refused(
        &["orders", "--http", "http://127.0.0.1:9/", "--slow-ms", "5"],
        "--slow-ms",
    );
    is_refused(
        &["orders", "--input", "-", "--state", "somewhere"],
        "standard input",
    );
    is_refused(
        &["orders", "--input", "-", "--repeat", "2"],
        "standard input",
    );
    is_refused(
        &["orders", "--repeat", "2", "--state", "somewhere"],
        "--repeat",
    );
    is_refused(&["http-log", "--port", "65536"], "--port");
}

#[test]
fn a_bad_file_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let below = format!("{file}/below");
    let folder = dir.path().to_str().unwrap();
    is_refused(&["orders", "--input", "/no/such/file"], "/no/such/file");
    is_refused(&["orders", "--input", folder], folder);
    is_refused(&["orders", "--dead-letters", &below], &below);
    is_refused(&["orders", "--delivered", folder], folder);
    is_refused(&["orders", "--state", &below], &below);
    is_refused(&["http-log", "--log", &below], &below);
}

#[test]
fn what_is_read_is_never_written_over_and_old_results_stay_until_a_run_begins() {
    let dir = tempfile::tempdir().unwrap();
    let input = support::first_orders(dir.path(), 10);
    let dead = dir.path().join("dead.ndjson");
    std::fs::write(&dead, "old").unwrap();
    let (input, dead) = (input.to_str().unwrap(), dead.to_str().unwrap());
    let before = std::fs::read(input).unwrap();
    let orders = [
        "orders",
        "--input",
        input,
        "--dead-letters",
        dead,
        "--delivered",
    ];
    is_refused(&[&orders[..], &[input]].concat(), input);
    assert_eq!(std::fs::read(input).unwrap(), before);
    is_refused(&[&orders[..], &[dead]].concat(), dead);
    std::fs::write(dead, "old").unwrap();
    is_refused(
        &[
            &orders[..],
            &[&format!("{dead}.2"), "--http", "http://127.0.0.1:1/"],
        ]
        .concat(),
        "127.0.0.1:1",
    );
    assert_eq!(std::fs::read(dead).unwrap(), b"old");
}

#[test]
fn a_state_that_is_of_no_use_is_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let input = support::first_orders(dir.path(), 10);
    let (input, state) = (input.to_str().unwrap(), state.to_str().unwrap());
    let first = run(&["orders", "--input", input, "--state", state]);
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let other = dir.path().join("other.csv");
    std::fs::write(&other, "1,1,1997-01-01,1,1.00\n".repeat(100)).unwrap();
    is_refused(
        &[
            "orders",
            "--input",
            other.to_str().unwrap(),
            "--state",
            state,
        ],
        "another input",
    );
    let file = std::path::Path::new(state).join("lines.state");
    std::fs::write(&file, "torn").unwrap();
    is_refused(
        &["orders", "--input", input, "--state", state],
        file.to_str().unwrap(),
    );
}

#[test]
fn a_bad_url_is_one_line_and_exit_code_2() {
    is_refused(&["orders", "--http", "nonsense"], "nonsense");
    is_refused(
        &["orders", "--http", "https://127.0.0.1/"],
        "https://127.0.0.1/",
    );
    // A port that was free a moment ago: nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/orders");
    is_refused(&["orders", "--http", &url], &url);
}

#[test]
fn help_says_all() {
    let output = run(&["orders", "--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in [
        "--input",
        "--http",
        "--rate",
        "--repeat",
        "--concurrency",
        "--buffer",
        "--window",
        "--fail-rate",
        "--slow-ms",
        "--dead-letters",
        "--state",
        "--print-topology",
        "--json",
        "productId",
        "HIGH",
        "exit code",
    ] {
        assert!(help.contains(word), "{word} is missing");
    }
    assert!(run(&["--version"]).status.success());
}

#[test]
fn the_topology_is_printed_in_three_forms_without_a_run() {
    let print = |form: &str| {
        let output = run(&["orders", "--print-topology", form]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let mermaid = print("mermaid");
    assert!(mermaid.starts_with("flowchart"), "{mermaid}");
    let dot = print("dot");
    assert!(
        dot.starts_with("digraph") && dot.trim_end().ends_with('}'),
        "{dot}"
    );
    let json: serde_json::Value = serde_json::from_str(&print("json")).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    let names: Vec<&str> = nodes
        .iter()
        .map(|node| node["name"].as_str().unwrap())
        .collect();
    for name in [
        "lines",
        "decode",
        "classify",
        "event",
        "buffer",
        "post",
        "delivered",
        "dead letters",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
        assert!(mermaid.contains(name) && dot.contains(name), "{name}");
    }
    assert!(
        json["bound"].as_u64().unwrap() >= 256 + 64,
        "the buffer and the posts are in the bound"
    );
    let fed: std::collections::HashSet<u64> = json["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge[1].as_u64().unwrap())
        .collect();
    assert_eq!(
        fed.len(),
        nodes.len() - 1,
        "every stage but the source is fed"
    );
}

#[test]
fn the_topology_of_a_run_on_standard_input_does_not_wait_for_a_line() {
    let mut command = forebay();
    command.args(["orders", "--input", "-", "--print-topology", "json"]);
    // Its standard input stays open, and nothing comes.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let open = child.stdin.take();
    let output = support::finish_child(child, Duration::from_secs(30));
    drop(open);
    assert!(output.status.success());
    let topology: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        topology["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() > 5)
    );
}
