//! Workers that stood still while others took their place, and go on as if nothing had happened.

use std::time::Duration;

use crate::evidence::{
    all_are_there_in_order, commits, each_is_there_once, each_run_began_where_it_was_committed,
    ends, output, positions_only_advance, runs, written_by,
};
use crate::faults::Play;
use crate::feed::Feed;
use crate::job::Job;
use crate::stage::{Random, cluster, until};
use crate::worker;
use crate::workers::Worker;

const RECORDS: u64 = 2000;
const PATIENCE: Duration = Duration::from_secs(90);

/// A worker that has written half of the records and committed nothing, and stands still.
fn zombie(play: &mut Play<'_>, feed: &Feed, change: impl FnOnce(&mut Job)) -> Worker {
    let job = play.job.clone();
    let worker = play.workers.spawn(0, change);
    feed.allow(RECORDS / 2);
    until("half of it to be written", PATIENCE, || {
        let all = output(&job.bootstrap, &job.to, "read_uncommitted");
        (written_by(&all, worker.number) as u64 == RECORDS / 2).then_some(())
    });
    worker.stop();
    let committed = commits(&job.bootstrap, &job.group, &job.from);
    assert!(committed.is_empty(), "{committed:?}");
    worker
}

fn start(play: &Play<'_>) -> Feed {
    Feed::start(&play.job.bootstrap, &play.job.from, RECORDS, RECORDS)
}

/// It commits when it is to end, and not before.
fn commits_late(job: &mut Job) {
    job.window = Duration::from_secs(600);
    job.commit_every = Duration::from_secs(600);
}

#[test]
fn a_producer_that_was_replaced_is_fenced() {
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, Random::start("fenced"), 3, true);
    let feed = start(&play);
    let mut zombie = zombie(&mut play, &feed, commits_late);
    // The same place: the same transactional id.
    play.workers.start(0);
    play.until_committed(RECORDS / 2);
    zombie.go_on();
    zombie.say_drain();
    let status = zombie.ended(PATIENCE);
    assert_eq!(status.code(), Some(worker::FENCED), "{}", zombie.log());
    feed.finish();
    play.until_committed(RECORDS);
    play.workers.drain();

    let job = &play.job;
    let written = output(&job.bootstrap, &job.to, "read_committed");
    assert_eq!(written_by(&written, zombie.number), 0);
    each_is_there_once(&written);
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
    positions_only_advance(&commits(&job.bootstrap, &job.group, &job.from));
}

#[test]
fn a_transaction_is_not_committed_by_whom_the_partitions_were_taken_from() {
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, Random::start("stale transaction"), 3, true);
    let feed = start(&play);
    let mut zombie = zombie(&mut play, &feed, commits_late);
    // Another place: its producers are its own.
    play.workers.start(1);
    play.until_committed(RECORDS / 2);
    zombie.go_on();
    zombie.drain();
    feed.finish();
    play.until_committed(RECORDS);
    play.workers.drain();
    assert!(zombie.rewinds() > 0, "{}", zombie.log());

    let job = &play.job;
    let written = output(&job.bootstrap, &job.to, "read_committed");
    each_is_there_once(&written);
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
    positions_only_advance(&commits(&job.bootstrap, &job.group, &job.from));
    let all = output(&job.bootstrap, &job.to, "read_uncommitted");
    assert_eq!(written_by(&all, zombie.number) as u64, RECORDS / 2);
    assert_eq!(written_by(&written, zombie.number), 0);
}

#[test]
fn a_position_of_the_past_is_not_committed() {
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, Random::start("stale position"), 3, false);
    let feed = start(&play);
    let mut zombie = zombie(&mut play, &feed, commits_late);
    play.workers.start(1);
    play.until_committed(RECORDS / 2);
    feed.finish();
    play.until_committed(RECORDS);
    // Nobody is left who could be asked.
    play.workers.drain();
    zombie.go_on();
    zombie.drain();

    let job = &play.job;
    let written = output(&job.bootstrap, &job.to, "read_committed");
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
    let runs: Vec<_> = written.values().flat_map(|all| runs(all)).collect();
    let commits = commits(&job.bootstrap, &job.group, &job.from);
    each_run_began_where_it_was_committed(&runs, &commits);
    // What came again is what the other had not committed.
    let again: u64 = runs.iter().map(|run| run.repeats).sum();
    assert_eq!(again, RECORDS / 2);
}
