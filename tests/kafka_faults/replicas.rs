//! Fewer replicas than a topic asks for: nothing is taken, and nothing is lost.

use std::time::Duration;

use forebay::kafka::{self, Connection, ConsumerSettings, ProducerRecord, ProducerSettings};
use forebay::outcome::Outcome;
use forebay::topology::Guarantee;

use crate::evidence::{all_are_there_in_order, committed, each_is_there_once, ends, output};
use crate::faults::Play;
use crate::feed::Feed;
use crate::stage::{Random, cluster, name, until};

#[test]
fn row_b7_with_one_of_three_brokers_it_waits_and_goes_on() {
    const RECORDS: u64 = 10_000;
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, Random::start("one of three"), 3, false);
    let job = play.job.clone();
    let feed = Feed::start(&job.bootstrap, &job.from, RECORDS, 2000);
    play.workers.start(0);
    play.workers.start(1);
    feed.allow(RECORDS / 2);
    play.until_committed(1);
    let left = play.random.one_of(&[1, 2, 3]);
    for node in (1..=3).filter(|node| *node != left) {
        play.cluster.kill(node);
    }
    feed.allow(RECORDS);
    // Longer than sessions last: of brokers, and of members.
    std::thread::sleep(Duration::from_secs(8));
    play.workers.are_well();
    play.cluster.heal();
    feed.finish();
    play.until_committed(RECORDS);
    play.workers.drain();
    let written = output(&job.bootstrap, &job.to, "read_committed");
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
}

#[test]
fn a_transaction_that_cannot_be_written_is_given_up_and_made_again() {
    const RECORDS: u64 = 4000;
    let mut cluster = cluster();
    let mut play = Play::prepare(&mut cluster, Random::start("not written"), 1, true);
    let to = name("to");
    play.cluster.create_topic_on(&to, &[1, 2]);
    play.job.to.clone_from(&to);
    let job = play.job.clone();
    let feed = Feed::start(&job.bootstrap, &job.from, RECORDS, 1000);
    play.workers.start_as(0, |job| {
        job.to = to;
        // Long before the coordinator gives the transaction up, which would fence the worker.
        job.delivery_timeout = Duration::from_secs(5);
    });
    feed.allow(RECORDS / 2);
    play.until_committed(1);
    play.cluster.kill(2);
    feed.allow(RECORDS);
    std::thread::sleep(Duration::from_secs(15));
    play.cluster.heal();
    feed.finish();
    play.until_committed(RECORDS);
    let mut worker = play.workers.take(0);
    worker.drain();
    let log = worker.log();
    let replaced = { log.lines() }.filter(|line| line.contains("producer is replaced"));
    println!("{} producers replaced", replaced.count());
    assert!(worker.rewinds() > 0, "{}", worker.log());
    let written = output(&job.bootstrap, &job.to, "read_committed");
    each_is_there_once(&written);
    all_are_there_in_order(&written, &ends(&job.bootstrap, &job.from), RECORDS);
}

#[test]
fn row_b7_min_isr_2_refuses_with_one_replica() {
    const RECORDS: u64 = 100;
    let mut cluster = cluster();
    let (from, to, group) = (name("from"), name("to"), name("group"));
    cluster.create_topics(&[&from], 1);
    cluster.create_topic_on(&to, &[1, 2]);
    let bootstrap = cluster.bootstrap.clone();
    Feed::start(&bootstrap, &from, RECORDS, 2000).finish();
    let copy = || {
        let reads = ConsumerSettings::new(Connection::to(&bootstrap), &group)
            .topics([&from])
            .commit_every(Duration::from_millis(50));
        let writes = ProducerSettings::new(Connection::to(&bootstrap))
            .delivery_timeout(Duration::from_secs(4));
        let to = to.clone();
        let (_handle, flow) = kafka::source(reads);
        flow.map(move |record| ProducerRecord::copy_of(&record, to.as_str()))
            .to_kafka(writes)
            .guarantee(Guarantee::AtLeastOnce)
            .run()
            .unwrap()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();

    cluster.kill(2);
    until("the other to be alone", Duration::from_secs(30), || {
        (cluster.in_sync(&to, 0) == [1]).then_some(())
    });
    let refused = runtime.block_on(async {
        let mut running = copy();
        let joined = tokio::time::timeout(Duration::from_secs(60), running.join()).await;
        joined.unwrap().unwrap_err()
    });
    assert!(
        matches!(refused.outcome(), Some(Outcome::Failed(_))),
        "{refused}"
    );
    assert_eq!(committed(&bootstrap, &group, &from)[&0], 0);

    cluster.heal();
    runtime.block_on(async {
        let mut running = copy();
        tokio::task::block_in_place(|| {
            until("all to be committed", Duration::from_secs(60), || {
                let next = committed(&bootstrap, &group, &from)[&0];
                (next == RECORDS as i64).then_some(())
            });
        });
        let drained = running.drain(Duration::from_secs(20)).await.unwrap();
        assert_eq!(drained.still_running, Vec::<String>::new());
    });
    assert!(ends(&bootstrap, &to)[&0] >= RECORDS as i64);
}
