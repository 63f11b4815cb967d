//! The machine, and how noisy it is.

use std::fs;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// For how long it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A pause that long is no work of the loop itself.
const PAUSE: Duration = Duration::from_micros(50);

/// What a reader must know to read the figures.
pub(super) fn in_words() -> String {
    let processors = available_parallelism().map_or(0, usize::from);
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = loadavg.split_whitespace().next().unwrap_or("unknown");
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let (share, longest) = pauses();
    format!(
        "Machine: {processors} processors ({model}), load {load}; a thread that only looked at the \
         clock for a second was kept from it {:.2} % of the time, {} us at a time at most.",
        100.0 * share,
        longest.as_micros()
    )
}

/// The part of the time that a thread which is always ready does not get, and the longest pause.
fn pauses() -> (f64, Duration) {
    let start = Instant::now();
    let (mut last, mut lost, mut longest) = (start, Duration::ZERO, Duration::ZERO);
    while last - start < LOOK {
        let now = Instant::now();
        let gap = now - last;
        if gap > PAUSE {
            lost += gap;
            longest = longest.max(gap);
        }
        last = now;
    }
    (lost.as_secs_f64() / LOOK.as_secs_f64(), longest)
}
