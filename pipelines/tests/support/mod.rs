//! What the tests of the binary share: the program, the service in another process, the orders.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The real orders.
pub(crate) fn orders_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cdnow-orders.csv")
}

/// The program; `FOREBAY_BIN` names another build of it.
pub(crate) fn forebay() -> Command {
    let program =
        std::env::var_os("FOREBAY_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_forebay").into());
    Command::new(program)
}

/// `forebay orders --json` that leaves its files in a directory.
pub(crate) fn orders(dir: &Path) -> Command {
    let mut command = forebay();
    command
        .args(["orders", "--json", "--dead-letters"])
        .arg(dir.join("dead.ndjson"));
    command.arg("--delivered").arg(dir.join("delivered.ndjson"));
    command
}

/// Ends within that time, or the test fails and the program with it.
pub(crate) fn finish(mut command: Command, within: Duration) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish_child(child, within)
}

pub(crate) fn finish_child(child: Child, within: Duration) -> Output {
    let pid = child.id().to_string();
    let (told, output) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(child.wait_with_output()));
    output.recv_timeout(within).map_or_else(
        |_| {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            let output = output.recv().unwrap().unwrap();
            panic!(
                "not ended within {within:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        },
        Result::unwrap,
    )
}

/// The one JSON object on standard output of a run that ended well.
pub(crate) fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let stdout = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(
        stdout.lines().count(),
        1,
        "one object on standard output: {stdout}"
    );
    serde_json::from_str(stdout).unwrap()
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The service in a process of its own.
pub(crate) struct Service {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(crate) url: String,
    log: PathBuf,
}

impl Service {
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Service {
        Service::logging(dir.join("received.log"), options)
    }

    /// One that writes what it receives to that file.
    pub(crate) fn logging(log: PathBuf, options: &[&str]) -> Service {
        let mut command = forebay();
        command
            .args(["http-log", "--until-stdin-closes", "--log"])
            .arg(&log)
            .args(options);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Service {
            child,
            stdin,
            url: url.trim().to_owned(),
            log,
        }
    }

    /// What it received so far, in order.
    pub(crate) fn received(&self) -> Vec<Receipt> {
        let text = fs::read_to_string(&self.log).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| {
                let (at, order) = line.split_once(' ').unwrap();
                Receipt {
                    at: at.parse().unwrap(),
                    order: order.to_owned(),
                }
            })
            .collect()
    }

    /// Ends it as a failing machine would; the port is free for another.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn port(&self) -> &str {
        let port = self.url.strip_prefix("http://127.0.0.1:");
        port.and_then(|rest| rest.split('/').next()).unwrap()
    }

    /// How much it has written: grows with each order received.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).unwrap().len()
    }

    /// Waits until nothing more arrives: a client that was killed leaves requests on the way.
    pub(crate) fn settle(&self) {
        let mut before = self.log_bytes();
        let mut quiet = 0;
        let until = Instant::now() + Duration::from_secs(20);
        while quiet < 3 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.log_bytes();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// One order as the service received it.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// Nanoseconds since 1970.
    pub(crate) at: u128,
    pub(crate) order: String,
}

/// How often each order was received.
pub(crate) fn times(receipts: &[Receipt]) -> HashMap<&str, usize> {
    let mut times = HashMap::new();
    for receipt in receipts {
        *times.entry(receipt.order.as_str()).or_default() += 1;
    }
    times
}

/// A line of an input file, without the header.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// From 1, the header included.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    /// The exact bytes, line end included.
    pub(crate) text: String,
    pub(crate) order: String,
    /// Whether it is to end as a dead letter.
    pub(crate) dead: bool,
}

pub(crate) fn lines(file: &Path) -> Vec<Line> {
    let text = fs::read_to_string(file).unwrap();
    let mut offset = 0;
    let mut lines = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if index > 0 {
            lines.push(Line {
                number: index as u64 + 1,
                offset,
                text: line.to_owned(),
                order: bare.split(',').next().unwrap().to_owned(),
                dead: bare.ends_with(",0.00"),
            });
        }
        offset += line.len() as u64;
    }
    lines
}

/// The first `count` orders as a file of their own.
pub(crate) fn first_orders(dir: &Path, count: usize) -> PathBuf {
    let text = fs::read_to_string(orders_file()).unwrap();
    let part: String = text.split_inclusive('\n').take(count + 1).collect();
    let path = dir.join("orders.csv");
    fs::write(&path, part).unwrap();
    path
}

/// The objects of a file with one on each line.
pub(crate) fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Where a dead letter stood and its bytes as text: line number, byte offset, bytes.
pub(crate) fn letter(letter: &Value) -> (u64, u64, String) {
    let (line, offset, bytes) = letter_bytes(letter);
    (line, offset, String::from_utf8(bytes).unwrap())
}

/// Where a dead letter stood: line number, byte offset, bytes with their line end.
pub(crate) fn letter_bytes(letter: &Value) -> (u64, u64, Vec<u8>) {
    let origin = &letter["origins"][0];
    let bytes = match origin["bytes"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(origin["bytes_base64"].as_str().unwrap()),
    };
    (
        origin["line"].as_u64().unwrap(),
        origin["byte_offset"].as_u64().unwrap(),
        bytes,
    )
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.bytes().filter(|&digit| digit != b'=') {
        let value = DIGITS.iter().position(|&of| of == digit).unwrap() as u32;
        (bits, held) = (bits << 6 | value, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// A small generator (SplitMix64): the same seed, the same numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
