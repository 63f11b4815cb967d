//! kill -9 at random instants, then resume: no order is lost, and what comes twice is what the state
//! file says may come twice.
//!
//! `FOREBAY_KILLS` is how many instants (default 5), half of them with one line stalled for 2 s;
//! `FOREBAY_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use forebay::source::State;
use support::{Line, Random, Receipt, Service, finish, lines, orders, orders_file, records};

const WINDOW: u64 = 1024;
/// How often the state is to be saved.
const SAVED_EACH: Duration = Duration::from_millis(100);
/// How much longer it may take on a machine whose processors and disk others use as well: a state
/// counts from when its saving began, and is found when the disk has it. The flush of another program
/// holds that up by a few hundred milliseconds; a state that is saved each second would be found out.
const SLACK: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_mins(5);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

#[test]
fn row_d3_kill_9_at_random_instants_loses_no_order() {
    let seed = variable("FOREBAY_SEED", unix_now().as_nanos() as u64);
    let kills = variable("FOREBAY_KILLS", 5);
    println!("FOREBAY_SEED={seed} FOREBAY_KILLS={kills}");
    let input = lines(&orders_file());
    let mut random = Random(seed);
    for kill in 0..kills {
        // One line stalled in every second run: while it is, the base stands still before it.
        let stalled = (kill % 2 == 1).then(|| &input[random.below(input.len() as u64) as usize]);
        let stalled = stalled.filter(|line| !line.dead);
        // With a stalled line the kill falls into the 2 s for which the base stands before it.
        let (at, pause_ms) = match stalled {
            Some(line) => (
                line.number.saturating_sub(100) + random.below(WINDOW - 200),
                1500,
            ),
            None => (random.below(input.len() as u64 - 200), 30),
        };
        let pause = Duration::from_millis(random.below(pause_ms));
        kill_and_resume(&input, stalled, at, pause);
    }
}

/// The pipeline with everything that the test gives it.
fn pipeline(dir: &Path, url: &str) -> Command {
    let mut command = orders(dir);
    command
        .args(["--http", url, "--window", &WINDOW.to_string(), "--state"])
        .arg(dir.join("state"));
    command
}

fn kill_and_resume(input: &[Line], stalled: Option<&Line>, at: u64, pause: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let stall: Vec<&str> = stalled.map_or_else(Vec::new, |line| {
        vec!["--stall-order", &line.order, "--stall-ms", "2000"]
    });
    let service = Service::start(dir.path(), &stall);

    let mut first = pipeline(dir.path(), &service.url);
    let mut first = first
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let from = Instant::now();
    // A line of the log is a time of 19 digits, a space, the order and a line break.
    let sent = input.iter().filter(|line| !line.dead).take(at as usize);
    let log_bytes: u64 = sent.map(|line| 21 + line.order.len() as u64).sum();
    while service.log_bytes() < log_bytes {
        assert!(from.elapsed() < LONG, "the pipeline stands still");
        assert!(
            first.try_wait().unwrap().is_none(),
            "the pipeline ended before it was killed"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(pause);
    let killed_at = unix_now();
    first.kill().unwrap();
    first.wait().unwrap();
    service.settle();
    let before = service.received();
    // Killed before it was saved for the first time, a run leaves none: then anything may repeat.
    let saved = State::read(dir.path().join("state"))
        .unwrap()
        .unwrap_or_default();

    let resumed = support::json(&finish(pipeline(dir.path(), &service.url), LONG));
    assert_eq!(resumed["balanced"], true, "{resumed}");
    let all = service.received();
    let told = format!(
        "killed after {} orders, base {}, {:?} stalled, {} received again",
        before.len(),
        saved.base.line,
        stalled.map(|line| line.number),
        all.len() - support::times(&all).len(),
    );
    println!("{told}");
    the_state_is_young(&saved, &before, killed_at, &told);
    none_is_lost(input, &all, &told);
    repeats_are_those_that_may_be(input, &saved, &before, &all, &told);
    dead_letters_are_distinct(input, &dir.path().join("dead.ndjson"), &told);
}

fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

/// It was saved at most [`SAVED_EACH`] before the kill; or there was none yet, and no order had been
/// received for longer than that.
fn the_state_is_young(saved: &State, before: &[Receipt], killed_at: Duration, told: &str) {
    let saved_at = match saved.saved_at_unix_ns {
        0 => before.first().map(|receipt| receipt.at as u64),
        at => Some(at),
    };
    let age = killed_at.saturating_sub(saved_at.map_or(killed_at, Duration::from_nanos));
    println!("the state was {age:?} old");
    assert!(
        age <= SAVED_EACH + SLACK,
        "{told}: saved {age:?} before the kill"
    );
}

fn none_is_lost(input: &[Line], all: &[Receipt], told: &str) {
    let times = support::times(all);
    let good = input.iter().filter(|line| !line.dead);
    let lost: Vec<u64> = good
        .clone()
        .filter(|line| !times.contains_key(line.order.as_str()))
        .map(|line| line.number)
        .collect();
    assert!(lost.is_empty(), "{told}: lines {lost:?} are lost");
    assert_eq!(
        times.len(),
        good.count(),
        "{told}: the service had orders that are in no line"
    );
}

fn repeats_are_those_that_may_be(
    input: &[Line],
    saved: &State,
    before: &[Receipt],
    all: &[Receipt],
    told: &str,
) {
    let numbers: HashMap<&str, u64> = input
        .iter()
        .map(|line| (line.order.as_str(), line.number))
        .collect();
    let mut repeats = 0;
    for (order, times) in support::times(all) {
        repeats += times as u64 - 1;
        if times > 1 {
            let line = numbers[order];
            let settled = line <= saved.base.line || saved.is_done(line);
            assert!(!settled, "{told}: line {line} was settled and came again");
        }
    }
    let mut first = HashSet::new();
    let late = before
        .iter()
        .filter(|receipt| {
            first.insert(receipt.order.as_str()) && receipt.at > u128::from(saved.saved_at_unix_ns)
        })
        .count() as u64;
    assert!(
        repeats <= WINDOW + late,
        "{told}: {repeats} repeats, {late} lines came after the state was saved"
    );
}

fn dead_letters_are_distinct(input: &[Line], file: &Path, told: &str) {
    let by_offset: HashMap<u64, &Line> = input.iter().map(|line| (line.offset, line)).collect();
    let mut offsets = HashSet::new();
    for letter in records(file) {
        let (number, offset, text) = support::letter(&letter);
        let line = by_offset[&offset];
        assert_eq!((number, &text), (line.number, &line.text), "{told}");
        assert!(line.dead, "{told}: {letter}");
        offsets.insert(offset);
    }
    assert_eq!(
        offsets.len(),
        input.iter().filter(|line| line.dead).count(),
        "{told}"
    );
}
