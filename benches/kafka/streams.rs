//! Kafka Streams: the same map, from topic to topic, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::measure::Cost;
use crate::setup::{FULL, Setup};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kafka/streams")
}

/// Fetches the jars; once on a machine.
pub(crate) fn prepare() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka-streams");
    let done = Command::new("mvn")
        .args(["-q", "-B"])
        .arg(format!("-Dlib.dir={}", target.display()))
        .current_dir(folder())
        .status()
        .unwrap();
    assert!(
        done.success(),
        "the jars of Kafka Streams could not be fetched"
    );
}

/// Runs it; its own clock runs from the first record to the commit that covers the last.
pub(crate) fn map(setup: &Setup, guarantee: &str) -> Cost {
    let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka-streams/*");
    let out = setup.topic();
    let output = Command::new("java")
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(&jars)
        .arg(folder().join("StreamsMap.java"))
        .args([&setup.bootstrap, FULL, &out])
        .arg(setup.records.to_string())
        .args([guarantee, "100", "1"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| -> f64 {
        let found = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {line:?}"))
            .parse()
            .unwrap()
    };
    Cost {
        wall: 1e9 / field("rate="),
        cpu: 1000.0 * field("cpu_us/rec="),
    }
}
