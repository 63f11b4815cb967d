//! What a member of a group may ask for: a place that is kept for it, topics by pattern, partitions that are
//! made later, the broker's own way to share partitions out.

use std::time::Duration;

use forebay::kafka::{self, Assignment, ConsumerHandle, ConsumerSettings, Error, ReadFrom};
use forebay::runtime::Running;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::support::{
    Seen, bootstrap, committed, connection, drain, member, number, run, topic, until, write,
};

fn start(settings: ConsumerSettings, seen: &Seen) -> (ConsumerHandle, Running<()>) {
    let (handle, flow) = kafka::source(settings);
    let hears = seen.clone();
    let running = run(flow.for_each(move |record| hears.hear(number(&record))));
    (handle, running)
}

fn numbers(handle: &ConsumerHandle) -> Vec<i32> {
    let assignment = handle.assignment();
    assignment.iter().map(|at| at.partition).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_name_gets_its_partitions_back_and_the_others_keep_theirs() {
    let topic = topic("named", 4).await;
    let seen = Seen::default();
    let named = |name: &str| member("named", &topic).member(name);
    let (first, mut one) = start(named("one"), &seen);
    until("the first assignment", || numbers(&first).len() == 4).await;
    let (second, mut other) = start(named("other"), &seen);
    until("the partitions to be shared", || {
        numbers(&first).len() == 2 && numbers(&second).len() == 2
    })
    .await;
    let (firsts, others) = (numbers(&first), numbers(&second));
    drain(&mut other).await;
    // It is away for half of its session: the other has its own, and nothing else.
    write(&topic, 4, 0..400);
    until("what the first has", || seen.len() == 200).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(numbers(&first), firsts);
    let (second, mut other) = start(named("other"), &seen);
    until("the rest", || {
        assert_eq!(numbers(&first), firsts);
        seen.len() == 400
    })
    .await;
    assert_eq!(numbers(&second), others);
    // Away for longer than its session: its partitions are the other's.
    drain(&mut other).await;
    until("all to be the first's", || numbers(&first).len() == 4).await;
    write(&topic, 4, 400..800);
    until("all records", || seen.len() == 800).await;
    drain(&mut one).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed("named", &topic, 4), [200; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_name_the_older_is_told() {
    let topic = topic("fenced", 2).await;
    let named = || member("fenced", &topic).member("twin");
    let seen = Seen::default();
    let (first, mut one) = start(named(), &seen);
    until("the assignment", || numbers(&first).len() == 2).await;
    let (second, mut other) = start(named(), &seen);
    let error = one.join().await.unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::Fenced(_))),
        "{error}"
    );
    until("the other's", || numbers(&second).len() == 2).await;
    write(&topic, 2, 0..100);
    until("the records", || seen.len() == 100).await;
    drain(&mut other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_a_pattern_are_read_also_those_that_are_made_later() {
    let other = topic("other-pattern", 1).await;
    let first = topic("pattern-first", 2).await;
    write(&other, 1, 1000..1010);
    write(&first, 2, 0..100);
    let seen = Seen::default();
    let settings = member("pattern", &first)
        .pattern("pattern-.*")
        .set("topic.metadata.refresh.interval.ms", 500);
    let (handle, mut running) = start(settings, &seen);
    until("the first topic", || seen.len() == 100).await;
    let second = topic("pattern-second", 1).await;
    write(&second, 1, 100..200);
    until("the second topic", || seen.len() == 200).await;
    let topics = handle.assignment();
    assert!(
        topics.iter().all(|at| *at.topic != *other),
        "a part of the name matched: {topics:?}"
    );
    drain(&mut running).await;
    assert_eq!(seen.numbers(), (0..200).collect::<Vec<_>>());
    assert_eq!(committed("pattern", &second, 1), [100]);
}

async fn grow(topic: &str, partitions: usize) {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    let more = [NewPartitions::new(topic, partitions)];
    for grown in admin
        .create_partitions(more.iter(), &options)
        .await
        .unwrap()
    {
        grown.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_made_later_are_read_from_their_first_record() {
    for assignment in [Assignment::CooperativeSticky, Assignment::Range] {
        for (start_at, before) in [
            (ReadFrom::Committed.or_earliest(), true),
            // Behind what was there when it began; the new ones were not.
            (ReadFrom::Committed.or_latest(), false),
            (ReadFrom::Latest.or_stop(), false),
        ] {
            let topic = topic("grows", 1).await;
            write(&topic, 1, 0..50);
            let seen = Seen::default();
            let settings = member(&topic, &topic)
                .assignment(assignment)
                .start(start_at)
                .set("topic.metadata.refresh.interval.ms", 500);
            let (handle, mut running) = start(settings, &seen);
            until("the assignment", || numbers(&handle) == [0]).await;
            if before {
                until("the first records", || seen.len() == 50).await;
            }
            // Until the client knows where the end is.
            until("the end to be known", || {
                handle.lag().iter().all(|lag| lag.end == Some(50))
            })
            .await;
            grow(&topic, 3).await;
            // Written before anybody has noticed.
            write(&topic, 3, 100..400);
            until("the new ones", || numbers(&handle) == [0, 1, 2]).await;
            let expected = if before { 350 } else { 300 };
            until("all records", || seen.len() == expected).await;
            drain(&mut running).await;
            assert_eq!(seen.repeated(), Vec::<u64>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_shares_partitions_out_whatever_a_profile_says_of_sessions() {
    let topic = topic("by-broker", 2).await;
    write(&topic, 2, 0..100);
    let settings = ConsumerSettings::exactly_once(connection(), "by-broker")
        .topics([topic.as_str()])
        .assignment(Assignment::ByBroker);
    assert_eq!(
        settings.properties().unwrap().get("session.timeout.ms"),
        None
    );
    let seen = Seen::default();
    let (_handle, mut running) = start(settings, &seen);
    until("the records", || seen.len() == 100).await;
    drain(&mut running).await;
    assert_eq!(committed("by-broker", &topic, 2), [50, 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_do_not_go_together_are_told_before_anything_connects() {
    let settings = ConsumerSettings::new(connection(), "together")
        .topics(["any"])
        .set("max.poll.interval.ms", 5000)
        .set("session.timeout.ms", 6000);
    let (_handle, flow) = kafka::source(settings);
    let error = flow.for_each(drop).run().unwrap().join().await.unwrap_err();
    let Some(Error::Settings(why)) = error.downcast_ref() else {
        panic!("{error}");
    };
    assert!(why.contains("max.poll.interval.ms"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_last_record_is_read_what_comes_later() {
    let topic = topic("latest", 2).await;
    write(&topic, 2, 0..100);
    for (group, from) in [
        ("latest", ReadFrom::Latest.or_stop()),
        ("latest-otherwise", ReadFrom::Committed.or_latest()),
        // Later than all there is.
        ("latest-time", ReadFrom::Time(i64::MAX / 2).or_latest()),
    ] {
        let seen = Seen::default();
        let (handle, mut running) = start(member(group, &topic).start(from), &seen);
        let behind = committed("nobody", &topic, 2);
        assert_eq!(behind, [0, 0]);
        until("the ends to be known", || {
            let lag = handle.lag();
            lag.len() == 2 && lag.iter().all(|lag| lag.end.is_some_and(|end| end >= 50))
        })
        .await;
        write(&topic, 2, 500..520);
        until("the new ones", || seen.len() == 20).await;
        drain(&mut running).await;
        assert_eq!(seen.numbers(), (500..520).collect::<Vec<_>>(), "{from:?}");
    }
}

/// The broker refuses the position of one topic of a commit, and takes the others': these count as committed,
/// that one does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_a_pattern_that_goes_takes_no_other_with_it() {
    let stays = topic("goes-and-stays", 1).await;
    let goes = topic("goes-away", 1).await;
    write(&stays, 1, 0..50);
    write(&goes, 1, 50..100);
    let (open, gate) = tokio::sync::watch::channel(false);
    let settings = member("goes", &stays)
        .pattern("goes-.*")
        // Nobody hears that it went, but by what the broker says of it.
        .set("topic.metadata.refresh.interval.ms", 600_000)
        .drain(Duration::from_secs(1));
    let (handle, flow) = kafka::source(settings);
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .map_async(200, move |record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    until("all to be inside", || {
        let lag = handle.lag();
        lag.len() == 2 && lag.iter().all(|lag| lag.in_flight == 50)
    })
    .await;
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let deleted = admin.delete_topics(&[&goes], &AdminOptions::new()).await;
    deleted.unwrap().remove(0).unwrap();
    open.send(true).unwrap();
    until("a commit to be refused", || {
        handle.counts().commits_failed > 0
    })
    .await;
    until("the other's commit", || {
        committed("goes", &stays, 1) == [50]
    })
    .await;
    let of = |topic: &str| {
        let lag = handle.lag();
        let found = lag.into_iter().find(|lag| *lag.at.topic == *topic);
        found.and_then(|lag| lag.committed)
    };
    until("it to be noted", || of(&stays) == Some(50)).await;
    assert_eq!(of(&goes), None);
    write(&stays, 1, 100..150);
    until("what comes later", || seen.len() == 150).await;
    drain(&mut running).await;
    assert_eq!(committed("goes", &stays, 1), [100]);
}
