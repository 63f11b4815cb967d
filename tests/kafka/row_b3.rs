//! Mission row B3: a record is tried again on the spot after 1, 2 and 4 s, at most 10 s apart, three records
//! at once, and then goes to `<topic>.DLQ`.

use std::time::{Duration, Instant};

use forebay::kafka::{DeadLetterAdmin, LetterFilter};
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::create_topics;
use crate::support::{bootstrap, connection, producer, read_all, topic};

#[path = "../../examples/b2_retry_topics.rs"]
mod b2_retry_topics;
#[path = "../../examples/b3_retry_in_place.rs"]
mod b3_retry_in_place;

fn write_words(topic: &str, words: &[&str]) {
    let writes = producer();
    for word in words {
        let record = BaseRecord::to(topic).partition(0).key(*word).payload(*word);
        writes.send(record).map_err(|(error, _)| error).unwrap();
    }
    writes.flush(Duration::from_secs(20)).unwrap();
}

#[cfg(feature = "testkit")]
#[test]
fn row_b3_tries_come_after_1_2_and_4_seconds_and_three_are_in_work_at_once() {
    use std::sync::{Arc, Mutex};

    use forebay::dead_letter::DeadLetter;
    use forebay::flow::DeadLetters;
    use forebay::kafka::RetryInPlace;
    use forebay::outcome::Reason;
    use forebay::source;
    use forebay::testkit::Simulation;
    use forebay::time::{self, Time};

    let simulation = Simulation::new(3);
    let b3 = RetryInPlace::b3();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&tries);
    let (kept, letters) = async_channel::bounded::<DeadLetter>(16);
    let pipeline = source::iter(0..5)
        .try_map_async(b3.calls(), move |number| {
            let at = time::now().since(Time::ZERO).as_secs();
            notes.lock().unwrap().push((number, at));
            // The first always fails, the second twice.
            let tried = notes
                .lock()
                .unwrap()
                .iter()
                .filter(|(of, _)| *of == number)
                .count();
            let fails = number == 0 || number == 1 && tried <= 2;
            async move { if fails { Err("busy") } else { Ok(number) } }
        })
        .retry(b3.policy().unwrap())
        .encode(|number| number.to_string().into())
        .or_dead_letter(&DeadLetters::new(4, kept))
        .collect();
    let (made, snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    assert_eq!(made, [1, 2, 3, 4]);
    let of = |number: i32| -> Vec<u64> {
        let tries = tries.lock().unwrap();
        let own = tries.iter().filter(|(of, _)| *of == number);
        own.map(|(_, at)| *at).collect()
    };
    assert_eq!(of(0), [0, 1, 3, 7]);
    assert_eq!(of(1), [0, 1, 3]);
    // The third place is free at once, and taken by one after the other; results keep their order, so the
    // fourth waits for the first to be over.
    assert_eq!((of(2), of(3), of(4)), (vec![0], vec![7], vec![7]));
    let letter = letters.try_recv().unwrap();
    assert_eq!(letter.tries, 4);
    assert_eq!(letter.reason, Reason::RetriesExhausted);
    assert_eq!(letter.bytes().unwrap(), "0");
}

/// A fifth of the row's times.
#[tokio::test(flavor = "multi_thread")]
async fn row_b3_against_a_broker_with_a_fifth_of_the_times() {
    let topic = topic("row-b3", 1).await;
    let dead = format!("{topic}.DLQ");
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    write_words(
        &topic,
        &["a", "busy-2", "broken", "b", "busy-3", "c", "end"],
    );
    let started = Instant::now();
    let tries = b3_retry_in_place::consume(&bootstrap(), &topic, 20)
        .await
        .unwrap();
    eprintln!("{tries:?}, {:?} in all", started.elapsed());
    for (word, delays) in [
        ("a", &[][..]),
        ("busy-2", &[200, 400]),
        ("broken", &[200, 400, 800]),
        ("busy-3", &[200, 400, 800]),
        ("c", &[]),
    ] {
        let of = &tries[word];
        assert_eq!(of.len(), delays.len() + 1, "{word}");
        for (pair, delay) in of.windows(2).zip(delays) {
            let waited = pair[1].saturating_sub(pair[0]);
            assert!(waited >= Duration::from_millis(*delay), "{word}: {of:?}");
        }
    }
    let letters = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        let admin = DeadLetterAdmin::new(connection(), dead.as_str());
        admin
            .list(&LetterFilter::new(), |letter| found.push(letter.clone()))
            .unwrap();
        found
    });
    let letters = letters.await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&b"broken"[..]));
    assert_eq!(letters[0].provenance.tries, Some(4));
    assert_eq!(
        letters[0].provenance.error_reason.as_deref(),
        Some("retries_exhausted")
    );
    assert_eq!(letters[0].provenance.offset, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b2_the_example_with_retry_topics() {
    let topic = topic("b2-example", 1).await;
    let others = [".retry-1", ".retry-2", ".DLQ"].map(|end| format!("{topic}{end}"));
    let names: Vec<(&str, i32)> = others.iter().map(|name| (name.as_str(), 1)).collect();
    create_topics(&bootstrap(), &names).await;
    write_words(&topic, &["a", "busy-1", "broken", "wrong", "b"]);
    let delays = [Duration::from_millis(1000), Duration::from_millis(1500)];
    let (processed, given_up, counts) = b2_retry_topics::consume(&bootstrap(), &topic, delays)
        .await
        .unwrap();
    assert_eq!(processed, ["a", "b", "busy-1"]);
    let told: Vec<(&str, u32)> = given_up
        .iter()
        .map(|gone| (&*gone.error, gone.tries))
        .collect();
    assert_eq!(told, [("this is no order", 1), ("the service is busy", 3)]);
    assert_eq!((counts.later, counts.exhausted, counts.dead), (3, 1, 1));
    assert_eq!(read_all(&others[2], 1, 2).len(), 2);
}
