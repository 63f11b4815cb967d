//! Topics that are made, compared, described and deleted; groups seen from outside.

use std::time::Duration;

use forebay::kafka::{self, Admin, Created, Error, Topic};

use crate::support::{Seen, connection, drain, member, number, run, topic, until, write};

/// The name of a topic that does not exist yet.
fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

async fn admin() -> Admin {
    // Starting the broker blocks.
    let connection = tokio::task::spawn_blocking(connection).await.unwrap();
    Admin::of(&connection).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_once_and_compared_with_what_is_asked_for_later() {
    let admin = admin().await;
    let orders = Topic::named(name("made"))
        .partitions(4)
        .replicas(1)
        .set("retention.ms", 3_600_000);
    assert_eq!(admin.create(&orders).await.unwrap(), Created::Made);
    assert_eq!(admin.create(&orders).await.unwrap(), Created::Existed);
    // Who does not care how many partitions it has takes it as it is.
    let any = Topic::named(name("made"));
    assert_eq!(admin.create(&any).await.unwrap(), Created::Existed);
    for (asked, what, is) in [
        (orders.clone().partitions(5), "partitions", "4"),
        (orders.clone().replicas(3), "replicas", "1"),
        (
            orders.clone().set("retention.ms", 5),
            "retention.ms",
            "3600000",
        ),
        (
            orders.clone().set("no.such.setting", 1),
            "no.such.setting",
            "not known",
        ),
    ] {
        let error = admin.create(&asked).await.unwrap_err();
        let Error::Differs {
            what: found,
            is: value,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((found.as_str(), value.as_str()), (what, is), "{error}");
    }
    let found = admin.describe(&name("made")).await.unwrap();
    assert_eq!(found.partitions.len(), 4);
    for (number, partition) in found.partitions.iter().enumerate() {
        assert_eq!(partition.number, number as i32);
        assert_eq!(partition.leader, Some(partition.replicas[0]));
        assert_eq!(partition.in_sync, partition.replicas);
    }
    assert_eq!(found.settings["retention.ms"], "3600000");
    assert_eq!(found.settings["cleanup.policy"], "delete");
    assert!(admin.delete(&name("made")).await.unwrap());
    assert!(!admin.delete(&name("made")).await.unwrap());
    let error = admin.describe(&name("made")).await.unwrap_err();
    assert!(matches!(error, Error::UnknownTopic { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_told_and_leaves_nothing() {
    let admin = admin().await;
    let too_many = Topic::named(name("too-many")).replicas(3);
    let error = admin.create(&too_many).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field, .. } if field == "topic"),
        "one broker holds no three replicas: {error}"
    );
    let unknown = Topic::named(name("too-many")).set("no.such.setting", 1);
    let error = admin.create(&unknown).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    let error = admin.describe(&name("too-many")).await.unwrap_err();
    assert!(matches!(error, Error::UnknownTopic { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_make_the_same_topic_at_once_both_have_it() {
    let (first, second) = (admin().await, admin().await);
    let orders = Topic::named(name("raced")).partitions(2);
    let (first, second) = tokio::join!(first.create(&orders), second.create(&orders));
    let both = [first.unwrap(), second.unwrap()];
    assert!(both.contains(&Created::Made), "{both:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_lag_is_shown_from_outside_while_nobody_reads() {
    let topic = topic("lagging", 3).await;
    let admin = admin().await;
    write(&topic, 3, 0..300);
    let lag = |records: [u64; 3]| {
        let admin = &admin;
        let topic = topic.as_str();
        async move {
            let lag = admin.lag("lagging", topic).await.unwrap();
            let found: Vec<u64> = lag.iter().map(kafka::GroupLag::records).collect();
            assert_eq!(found, records, "{lag:?}");
        }
    };
    lag([100; 3]).await;
    let (_handle, flow) = kafka::source(member("lagging", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
    until("the records", || seen.len() == 300).await;
    drain(&mut running).await;
    lag([0; 3]).await;
    write(&topic, 3, 300..330);
    lag([10; 3]).await;
    // Another group has its own positions.
    let other = admin.lag("lagging-elsewhere", &topic).await.unwrap();
    assert!(other.iter().all(|one| one.committed.is_none()), "{other:?}");
    assert_eq!(other.iter().map(kafka::GroupLag::records).sum::<u64>(), 330);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_answers_is_an_error_in_time() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let admin = Admin::of(&kafka::Connection::to(format!("127.0.0.1:{port}"))).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(60), admin.describe("orders"));
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Client(_)), "{error}");
}
