//! Rules that no compiler checks: who may import whom, who may read a clock.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(under),
        &mut found,
    );
    found.sort();
    assert!(!found.is_empty(), "no sources under {under}");
    found
}

/// A line without its comment.
fn code(line: &str) -> &str {
    let line = line.trim_start();
    if line.starts_with("//") {
        ""
    } else {
        line.split(" //").next().unwrap_or(line)
    }
}

/// The text before the unit tests of a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn room(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(src).unwrap().iter().next().unwrap();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// Rooms from the ground up: each may use those before it, and those beside it in a group.
const ROOMS: &[&[&str]] = &[
    &[
        "sync", "class", "outcome", "time", "demand", "json", "random",
    ],
    &["control"],
    // Stages below turn its budget into demand and its samples into pressure.
    &["host"],
    &["position"],
    // A stop names the element that caused it.
    &["error"],
    &["receipt", "mark"],
    &["ledger"],
    &["chunk"],
    &["operator", "dead_letter"],
    &["boundary"],
    // A plan holds islands, and a run takes them out of a plan.
    &["runtime", "topology"],
    &["flow"],
    &["source", "sink"],
    &["kafka"],
    // It reads snapshots, and nothing knows of it.
    &["observe"],
    &["testkit", "guide", "lib", "loom_models"],
];

fn floor(room: &str) -> usize {
    ROOMS
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("`{room}` has no floor: add it to ROOMS"))
}

#[test]
fn imports_point_up_the_list_of_rooms() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        // Of unit tests, in folders or files of their own.
        let is_tests = |part: std::path::Component<'_>| {
            part.as_os_str() == "tests" || part.as_os_str() == "tests.rs"
        };
        if path.components().any(is_tests) {
            continue;
        }
        let mine = room(&path);
        for line in without_tests(&text).lines().map(code) {
            for used in line.split("crate::").skip(1) {
                let name: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let known = ROOMS.iter().any(|rooms| rooms.contains(&name.as_str()));
                if known && floor(&name) > floor(&mine) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_the_clock_reads_the_clock() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let allowed = ["time", "runtime", "host", "kafka", "sql"].contains(&room(&path).as_str());
        for line in without_tests(&text).lines().map(code) {
            let reads = line.contains("Instant::now") || line.contains("SystemTime::now");
            if reads && !allowed {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "clocks read outside their rooms:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_iterates_in_random_order() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let text = without_tests(&text);
        for line in text.lines().map(code) {
            if line.contains("HashMap") || line.contains("HashSet") {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
        for arms in text.split("select! {").skip(1) {
            // Also in the examples of comments.
            let first = arms.trim_start().trim_start_matches("///").trim_start();
            if !first.starts_with("biased;") {
                wrong.push(format!("{}: an unbiased select", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "randomly ordered collections, or an unbiased select:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let mut wrong = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = sources("src");
    texts.extend(sources("pipelines"));
    texts.extend(sources("examples"));
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let path = root.join(name);
        if let Ok(text) = fs::read_to_string(&path) {
            texts.push((path, text));
        }
    }
    for (path, text) in texts {
        if path.components().any(|part| part.as_os_str() == "target") {
            continue;
        }
        for line in text.lines() {
            if ["/work/", "/root/", "../shared"]
                .iter()
                .any(|word| line.contains(word))
            {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "paths of one machine:\n{}",
        wrong.join("\n")
    );
}
