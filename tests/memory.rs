//! Memory stays where the declaration puts it, however many elements pass.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use forebay::flow::Pipeline;
use forebay::source;
use std::future::IntoFuture;

/// Five stages and two boundaries.
fn pipeline(elements: u64) -> Pipeline<u64> {
    source::iter(0..elements)
        .map(|n| n ^ 1)
        .buffer(1024)
        .map(|n| n + 1)
        .map_async(16, |n| std::future::ready(n * 3))
        .buffer(1024)
        .map(|n| n / 3)
        .map(|n| n - 1)
        .fold(0, |sum: &mut u64, n| *sum = sum.wrapping_add(n))
}

const CHILD: &str = "FOREBAY_MEMORY_ELEMENTS";

/// What this process needed at most, in KiB.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn peak_with(elements: u64) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "ten_million_elements_need_no_more_than_ten_thousand",
            "--nocapture",
        ])
        .env(CHILD, elements.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peak = text
        .lines()
        .find_map(|line| line.split("peak_rss_kib=").nth(1));
    peak.unwrap_or_else(|| panic!("no figure in:\n{text}"))
        .trim()
        .parse()
        .unwrap()
}

#[test]
#[cfg(target_os = "linux")]
#[allow(clippy::print_stdout)]
fn ten_million_elements_need_no_more_than_ten_thousand() {
    if let Ok(elements) = std::env::var(CHILD) {
        pipeline(elements.parse().unwrap()).block_on().unwrap();
        println!("\npeak_rss_kib={}", peak_rss_kib());
        return;
    }
    let (few, many) = (peak_with(10_000), peak_with(10_000_000));
    eprintln!("peak RSS: {few} KiB for 10 k elements, {many} KiB for 10 M");
    assert!(many <= few + 5 * 1024, "{many} KiB against {few} KiB");
}

/// Allocations on the calling thread, which runs everything.
fn allocations(elements: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let info = allocation_counter::measure(|| {
        let sum = runtime.block_on(pipeline(elements).into_future()).unwrap();
        assert!(sum > 0);
    });
    info.count_total
}

#[test]
fn no_element_costs_an_allocation() {
    allocations(10_000);
    let (few, many) = (allocations(100_000), allocations(1_100_000));
    let each = (many.saturating_sub(few)) as f64 / 1e6;
    eprintln!("{few} allocations for 100 k elements, {many} for 1.1 M: {each:.5} an element");
    assert!(each < 0.001, "{each} allocations an element");
}
