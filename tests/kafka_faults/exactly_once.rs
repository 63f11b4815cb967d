//! Exactly once: none is lost and none is doubled, and of what was given up nothing is seen.

use std::time::Duration;

use crate::evidence::{
    all_are_there_in_order, commits, each_is_there_once, ends, output, positions_only_advance,
    written_by,
};
use crate::faults::Play;
use crate::feed::Feed;
use crate::stage::{Random, cluster, until, variable};

#[test]
fn row_b6_exactly_once_none_is_lost_and_none_is_doubled() {
    let kills = variable("FOREBAY_KAFKA_KILLS", 2);
    let records = variable("FOREBAY_KAFKA_RECORDS", 50_000);
    let random = Random::start("exactly once");
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, random, 6, true);
    play.perform(kills, records);

    let job = &play.job;
    let ends = ends(&job.bootstrap, &job.from);
    let written = output(&job.bootstrap, &job.to, "read_committed");
    each_is_there_once(&written);
    all_are_there_in_order(&written, &ends, records);
    positions_only_advance(&commits(&job.bootstrap, &job.group, &job.from));
    // Whoever reads everything finds what was given up as well.
    let all = output(&job.bootstrap, &job.to, "read_uncommitted");
    let all: usize = all.values().map(Vec::len).sum();
    let aborted = all as u64 - records;
    println!("{records} records, {kills} workers killed: 0 lost, 0 doubled, {aborted} given up");
    assert!(aborted > 0, "no transaction was cut short");
}

#[test]
fn what_was_written_and_not_committed_is_never_seen() {
    // Fewer than a transaction may have.
    const RECORDS: u64 = 1000;
    let random = Random::start("what was given up");
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, random, 3, true);
    let job = play.job.clone();
    let feed = Feed::start(&job.bootstrap, &job.from, RECORDS, RECORDS);
    feed.finish();

    // Its transaction stays open, with all of it.
    let never = |job: &mut crate::job::Job| job.window = Duration::from_secs(600);
    let mut marked = play.workers.spawn(0, never);
    let patience = Duration::from_secs(60);
    until("all to be written and not committed", patience, || {
        let all = output(&job.bootstrap, &job.to, "read_uncommitted");
        (written_by(&all, marked.number) as u64 == RECORDS).then_some(())
    });
    marked.kill();
    play.workers.start(0);
    play.until_committed(RECORDS);
    play.workers.drain();

    let written = output(&job.bootstrap, &job.to, "read_committed");
    assert_eq!(
        written_by(&written, marked.number),
        0,
        "records of an aborted transaction"
    );
    each_is_there_once(&written);
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
    let all = output(&job.bootstrap, &job.to, "read_uncommitted");
    assert_eq!(written_by(&all, marked.number) as u64, RECORDS);
}
