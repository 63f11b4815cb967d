//! At least once: none is lost, and what comes again was not committed.

use crate::evidence::{
    all_are_there_in_order, commits, each_run_began_where_it_was_committed, ends, output, runs,
};
use crate::faults::Play;
use crate::stage::{Random, cluster, variable};

#[test]
fn row_b6_at_least_once_none_is_lost_and_what_comes_again_was_not_committed() {
    let kills = variable("FOREBAY_KAFKA_KILLS", 5);
    let records = variable("FOREBAY_KAFKA_RECORDS", 100_000);
    let random = Random::start("at least once");
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, random, 6, false);
    play.perform(kills, records);

    let job = &play.job;
    let ends = ends(&job.bootstrap, &job.from);
    let written = output(&job.bootstrap, &job.to, "read_committed");
    all_are_there_in_order(&written, &ends, records);
    let runs: Vec<_> = written.values().flat_map(|all| runs(all)).collect();
    let mut again = 0;
    for run in runs.iter().filter(|run| run.repeats > 0) {
        println!("{run}");
        again += run.repeats;
    }
    println!("{records} records, {kills} workers killed: 0 lost, {again} came again");
    let commits = commits(&job.bootstrap, &job.group, &job.from);
    each_run_began_where_it_was_committed(&runs, &commits);
    for kill in &play.kills {
        for run in runs.iter().filter(|run| run.began_ms > kill.at_ms) {
            let committed = kill.committed[&run.partition];
            assert!(run.first >= committed, "{run} after {kill:?}");
        }
    }
}
