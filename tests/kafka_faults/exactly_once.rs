//! Exactly once: none is lost and none is doubled, and of what was given up nothing is seen.

use std::collections::BTreeSet;

use crate::evidence::{
    Written, all_are_there_in_order, commits, ends, output, positions_only_advance,
};
use crate::faults::Play;
use crate::stage::{Random, cluster, variable};

#[test]
fn none_is_lost_and_none_is_doubled() {
    let kills = variable("FOREBAY_KAFKA_KILLS", 2);
    let records = variable("FOREBAY_KAFKA_RECORDS", 50_000);
    let random = Random::start("exactly once");
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, random, 6, true);
    play.perform(kills, records);

    let job = &play.job;
    let ends = ends(&job.bootstrap, &job.from);
    let written = output(&job.bootstrap, &job.to, "read_committed");
    let mut doubled: Vec<&Written> = Vec::new();
    for of_one in written.values() {
        let mut seen = BTreeSet::new();
        doubled.extend(of_one.iter().filter(|one| !seen.insert(one.offset)));
    }
    assert!(doubled.is_empty(), "{doubled:?}");
    all_are_there_in_order(&written, &ends, records);
    positions_only_advance(&commits(&job.bootstrap, &job.group, &job.from));
    // Whoever reads everything finds what was given up as well.
    let all = output(&job.bootstrap, &job.to, "read_uncommitted");
    let all: usize = all.values().map(Vec::len).sum();
    let aborted = all as u64 - records;
    println!("{records} records, {kills} workers killed: 0 lost, 0 doubled, {aborted} given up");
    assert!(aborted > 0, "no transaction was cut short");
}
