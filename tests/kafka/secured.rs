//! Who is let in, and what those who are not are told: a typed error, at once.

#[path = "../infra/kafka/secured.rs"]
mod broker;

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use forebay::error::RunError;
use forebay::kafka::{
    self, Admin, Connection, ConsumerSettings, Error, ProducerRecord, ProducerSettings, Publisher,
    Sasl, Tls, Topic, TransactionSettings,
};
use forebay::source;

use crate::support::{Seen, drain, number, producer_at, run, until, write_by};
use broker::{Secured, password};

/// How soon an error is to come: a client that tries on says nothing for ever.
const AT_ONCE: Duration = Duration::from_secs(20);

fn broker() -> &'static Secured {
    static BROKER: OnceLock<Mutex<Option<&'static Secured>>> = OnceLock::new();
    let mut broker = BROKER.get_or_init(Mutex::default).lock().unwrap();
    broker.get_or_insert_with(|| Box::leak(Box::new(Secured::start())))
}

async fn secured() -> &'static Secured {
    tokio::task::spawn_blocking(broker).await.unwrap()
}

/// A topic that begins with `granted` or does not.
async fn topic(name: &str) -> String {
    let at = secured().await.plain.clone();
    crate::broker::create_topics(&at, &[(name, 1)]).await;
    name.to_owned()
}

fn scram(user: &str) -> Sasl {
    Sasl::scram_sha_256(user, password(user))
}

fn reads(connection: Connection, group: &str, topic: &str) -> ConsumerSettings {
    ConsumerSettings::new(connection, group).topics([topic])
}

/// What the source of these settings stops with.
async fn source_stops(settings: ConsumerSettings) -> RunError {
    let (_handle, flow) = kafka::source(settings);
    let mut running = flow.for_each(drop).run().unwrap();
    let joined = tokio::time::timeout(AT_ONCE, running.join()).await;
    joined.expect("the source says nothing").unwrap_err()
}

/// What the sink of these settings stops with.
async fn sink_stops(settings: ProducerSettings, topic: &str) -> RunError {
    let to = topic.to_owned();
    let mut running = source::iter(0..)
        .map(move |number: u64| ProducerRecord::to(to.as_str()).value(number.to_string()))
        .to_kafka(settings)
        .run()
        .unwrap();
    let joined = tokio::time::timeout(AT_ONCE, running.join()).await;
    joined.expect("the sink says nothing").unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_known_is_let_in_by_each_way() {
    let secured = secured().await;
    secured.grant("alice", "All", "--topic", "granted");
    secured.grant("alice", "All", "--group", "granted");
    let (certificate, key) = secured.identity();
    let tls = || Tls::new().authorities(secured.authority().display().to_string());
    let known = || tls().identity(certificate.display().to_string(), key.display().to_string());
    let plain = || Sasl::plain("alice", password("alice"));
    for (way, connection) in [
        ("plain", Connection::to(&secured.sasl).sasl(plain())),
        ("scram", Connection::to(&secured.sasl).sasl(scram("alice"))),
        ("tls", Connection::to(&secured.tls).tls(known())),
        (
            "both",
            Connection::to(&secured.sasl_tls)
                .tls(tls())
                .sasl(scram("alice")),
        ),
    ] {
        let topic = topic(&format!("granted-{way}")).await;
        let to = topic.clone();
        let written = source::iter(0..100_u64)
            .map(move |number| ProducerRecord::to(to.as_str()).value(number.to_string()))
            .to_kafka(ProducerSettings::new(connection.clone()));
        run(written).join().await.unwrap();
        let seen = Seen::default();
        let hears = seen.clone();
        let (_handle, flow) = kafka::source(reads(connection, &format!("granted-{way}"), &topic));
        let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
        until("the records", || seen.len() == 100).await;
        drain(&mut running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_user_are_told_at_once() {
    let secured = secured().await;
    let topic = topic("authentication").await;
    for sasl in [
        Sasl::plain("alice", "wrong7733"),
        Sasl::plain("mallory", "wrong7733"),
        Sasl::scram_sha_256("alice", "wrong7733"),
        Sasl::scram_sha_256("mallory", "wrong7733"),
    ] {
        let connection = || Connection::to(&secured.sasl).sasl(sasl.clone());
        let of_source = source_stops(reads(connection(), "group", &topic)).await;
        let of_sink = sink_stops(ProducerSettings::new(connection()), &topic).await;
        for error in [of_source, of_sink] {
            assert!(
                matches!(error.downcast_ref(), Some(Error::Authentication(_))),
                "{sasl:?}: {error}"
            );
            let shown = format!("{error}{error:?}");
            assert!(!shown.contains("wrong7733"), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_or_is_anothers_is_told_at_once() {
    let secured = secured().await;
    let topic = topic("certificates").await;
    let trusts = |path: std::path::PathBuf| Tls::new().authorities(path.display().to_string());
    let elsewhere = secured.tls.replace("127.0.0.1", "localhost");
    for (at, tls) in [
        (&secured.tls, trusts(secured.stranger())),
        // The machine trusts neither.
        (&secured.tls, Tls::new()),
        // The certificate is for the address alone.
        (&elsewhere, trusts(secured.authority())),
        // The broker wants one, too.
        (&secured.tls, trusts(secured.authority())),
    ] {
        let connection = || Connection::to(at).tls(tls.clone());
        let of_source = source_stops(reads(connection(), "group", &topic)).await;
        let of_sink = sink_stops(ProducerSettings::new(connection()), &topic).await;
        for error in [of_source, of_sink] {
            assert!(
                matches!(error.downcast_ref(), Some(Error::Untrusted(_))),
                "{tls:?}: {error}"
            );
        }
    }
    // Whoever does not mind the name is let in.
    let (certificate, key) = secured.identity();
    let tls = trusts(secured.authority())
        .identity(certificate.display().to_string(), key.display().to_string())
        .any_host_name();
    let settings = ProducerSettings::new(Connection::to(&elsewhere).tls(tls));
    let written = source::iter(0..10)
        .map(move |number: u64| ProducerRecord::to(topic.as_str()).value(number.to_string()))
        .to_kafka(settings);
    run(written).join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_and_transactions_of_whoever_is_not_let_in_are_refused_at_once() {
    let secured = secured().await;
    let topic = topic("letters").await;
    secured.grant("alice", "All", "--topic", "letters");
    secured.grant("alice", "All", "--group", "letters");
    let wrong = || Connection::to(&secured.sasl).sasl(Sasl::plain("alice", "wrong7735"));
    let right = || Connection::to(&secured.sasl).sasl(scram("alice"));
    // Its time is two minutes.
    let publisher = Publisher::open(&ProducerSettings::new(wrong())).unwrap();
    let record = ProducerRecord::to(topic.as_str()).value("x");
    let published = tokio::time::timeout(AT_ONCE, publisher.publish(&record)).await;
    let error = published.expect("the publisher says nothing").unwrap_err();
    assert!(matches!(error, Error::Authentication(_)), "{error}");
    // A topic that may not be written is told by its name.
    let publisher = Publisher::open(&ProducerSettings::new(right())).unwrap();
    let record = ProducerRecord::to("hidden-letters").value("x");
    crate::broker::create_topics(&secured.plain, &[("hidden-letters", 1)]).await;
    let published = tokio::time::timeout(AT_ONCE, publisher.publish(&record)).await;
    let error = published.expect("the publisher says nothing").unwrap_err();
    assert!(
        matches!(&error, Error::Authorization { what, .. } if what == "hidden-letters"),
        "{error}"
    );
    // Whoever may read and write, but has no right to the id; and whoever does not know the password.
    write_by(&producer_at(&secured.plain), &topic, 1, 0..10);
    for (connection, is_right) in [(right(), true), (wrong(), false)] {
        let settings = reads(right(), "letters", &topic);
        let (_handle, flow) =
            kafka::source(settings.in_transactions(Duration::from_millis(100), 100));
        let writes = TransactionSettings::new(ProducerSettings::new(connection), "letters");
        let to = topic.clone();
        let mut running = flow
            .map(move |record| ProducerRecord::copy_of(&record, to.as_str()))
            .to_kafka_in_transactions(writes)
            .run()
            .unwrap();
        let joined = tokio::time::timeout(AT_ONCE, running.join()).await;
        let error = joined.expect("the sink says nothing").unwrap_err();
        let told = error.downcast_ref();
        if is_right {
            assert!(matches!(told, Some(Error::Authorization { .. })), "{error}");
            assert!(error.to_string().contains("transaction"), "{error}");
        } else {
            assert!(matches!(told, Some(Error::Authentication(_))), "{error}");
        }
    }
}

fn is_authorization(error: &RunError, named: &str) {
    let Some(Error::Authorization { what, .. }) = error.downcast_ref() else {
        panic!("{error}");
    };
    assert!(what.contains(named), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_is_told_at_once_with_what_it_is() {
    let secured = secured().await;
    let hidden = topic("hidden").await;
    let shown = topic("shown-to-bob").await;
    let read = topic("read-by-bob").await;
    secured.grant("bob", "Describe", "--topic", "shown");
    secured.grant("bob", "Read", "--topic", "read");
    secured.grant("bob", "Write", "--topic", "elsewhere");
    secured.grant("bob", "All", "--group", "bobs");
    let connection = || Connection::to(&secured.sasl).sasl(scram("bob"));
    // Neither to be seen, nor to be read.
    for topic in [&hidden, &shown] {
        let error = source_stops(reads(connection(), "bobs", topic)).await;
        is_authorization(&error, topic);
    }
    // The topic, but not the group.
    let error = source_stops(reads(connection(), "others", &read)).await;
    is_authorization(&error, "others");
    // Neither to be seen, nor to be written; a topic for what could not be written does not help.
    for topic in [&hidden, &shown] {
        for settings in [
            ProducerSettings::new(connection()),
            ProducerSettings::reliable(connection()),
        ] {
            let error = sink_stops(settings, topic).await;
            is_authorization(&error, topic);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_topics_and_who_publishes_is_told_at_once_too() {
    let secured = secured().await;
    let hidden = topic("hidden-from-bobs-publisher").await;
    let wrong = || Connection::to(&secured.sasl).sasl(Sasl::plain("alice", "wrong7733"));
    let admin = Admin::of(&wrong()).unwrap();
    let publisher = Publisher::open(&ProducerSettings::new(wrong())).unwrap();
    let record = ProducerRecord::to(hidden.as_str()).value("x");
    let (described, published) = tokio::join!(
        tokio::time::timeout(AT_ONCE, admin.describe(&hidden)),
        tokio::time::timeout(AT_ONCE, publisher.publish(&record)),
    );
    let told = [
        described.expect("the admin says nothing").unwrap_err(),
        published.expect("the publisher says nothing").unwrap_err(),
    ];
    for error in told {
        assert!(matches!(error, Error::Authentication(_)), "{error}");
    }
    // Known, and not allowed to.
    let bob = || Connection::to(&secured.sasl).sasl(scram("bob"));
    let admin = Admin::of(&bob()).unwrap();
    let error = admin.create(&Topic::named("bobs-own")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Authorization { what, .. } if what == "bobs-own"),
        "{error}"
    );
    let publisher = Publisher::open(&ProducerSettings::new(bob())).unwrap();
    let error = publisher.publish(&record).await.unwrap_err();
    assert!(
        matches!(&error, Error::Authorization { what, .. } if *what == hidden),
        "{error}"
    );
}

/// What was logged, by everybody in this process.
static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Log;

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        let _ = writeln!(LOGGED.lock().unwrap(), "{field}={value:?}");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "librdkafka" || metadata.target().starts_with("forebay")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Log);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_never_shown_nor_logged() {
    let secured = secured().await;
    tracing::subscriber::set_global_default(Log).unwrap();
    let topic = topic("secrets").await;
    let connection = || Connection::to(&secured.sasl).sasl(Sasl::plain("alice", "wrong7734"));
    let read = reads(connection(), "group", &topic).set("debug", "all");
    let write = ProducerSettings::reliable(connection())
        .set("debug", "all")
        .set("ssl.key.password", "wrong7734");
    let refused = reads(connection(), "group", "a b");
    let (_handle, flow) = kafka::source(refused.clone());
    let shown = [
        format!("{read:?}{write:?}{:?}", connection()),
        format!("{:?}{}", read.properties(), read.properties().unwrap()),
        format!("{:?}{}", write.properties(), write.properties().unwrap()),
        flow.for_each(drop).run().unwrap_err().to_string(),
        format!("{:?}", source_stops(read).await),
        format!("{:?}", sink_stops(write, &topic).await),
    ];
    for shown in &shown {
        assert!(!shown.contains("wrong7734"), "{shown}");
    }
    let logged = LOGGED.lock().unwrap();
    assert!(logged.contains("sasl"), "nothing was logged: {logged}");
    assert!(!logged.contains("wrong7734"), "{logged}");
}
