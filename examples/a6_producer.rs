//! A producer that knows about pressure: it looks at the circuit of the destination, offers by class
//! to a bounded queue, and learns at once what became of each offer. Failed sends are tried again, then
//! dead-lettered; both teach the breaker. In simulated time.
//!
//! `cargo run --features testkit --example a6_producer`

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay::class::Class;
use forebay::control::{BreakerHandle, BreakerSettings, PrioritySettings, Retry, WhenOpen};
use forebay::dead_letter::DeadLetterFile;
use forebay::flow::DeadLetters;
use forebay::operator::Calls;
use forebay::outcome::Kind;
use forebay::source::{self, Offered};
use forebay::testkit::Simulation;
use forebay::time::{self, Time};

const MS: Duration = Duration::from_millis(1);

fn class(n: u32) -> Class {
    [Class::HIGH, Class::MEDIUM, Class::LOW][(n % 3) as usize]
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulation = Simulation::new(6);
    let settings = BreakerSettings::quick(100 * MS).when_open(WhenOpen::PauseDemand);
    let breaker = BreakerHandle::new(settings, Time::ZERO)?;
    let folder = tempfile::tempdir()?;
    let letters = folder.path().join("dead.ndjson");
    let dead = DeadLetters::new(16, DeadLetterFile::open(&letters)?);

    // 1000 places; HIGH takes one from the cheapest, MEDIUM waits up to a second, LOW is refused.
    let (queue, flow) = source::queue_by_class(PrioritySettings::a6())?;
    let queue = queue.behind(&breaker);
    // A broker that takes a message in 5 ms, 8 at once; it is down from 2 s to 4 s, and 77 is poison.
    let down = Time::ZERO + 2000 * MS..Time::ZERO + 4000 * MS;
    let sent = flow
        .try_map_async(Calls::limit(8).breaker(&breaker), move |n: u32| {
            let down = down.clone();
            async move {
                time::sleep(5 * MS).await;
                match n {
                    77 => Err("no such topic"),
                    _ if down.contains(&time::now()) => Err("no broker"),
                    n => Ok(n),
                }
            }
        })
        .retry(Retry::tries(3).backoff(50 * MS, 400 * MS))
        .encode(|n| Bytes::from(n.to_string()))
        .or_dead_letter(&dead)
        .ignore();
    let mut run = simulation.start(sent)?;

    // 2000 messages a second are offered for 6 s: more than the 1600 that can be sent.
    let answers = simulation.block_on(async move {
        let mut answers = BTreeMap::new();
        for n in 0..12_000_u32 {
            time::sleep(MS / 2).await;
            let answer = match queue.try_offer_as(class(n), n) {
                Offered::Enqueued => "enqueued".to_owned(),
                Offered::Dropped(why, _) => format!("{why:?}"),
                other => format!("{other:?}"),
            };
            *answers.entry((class(n).name(), answer)).or_insert(0) += 1;
        }
        queue.complete();
        answers
    })?;
    run.join()?;
    for ((class, answer), count) in &answers {
        eprintln!("{class:>8} {answer:<12} {count}");
    }
    let snapshot = run.snapshot();
    snapshot.check().map_err(|wrong| format!("{wrong:?}"))?;
    let total = snapshot.total();
    assert_eq!(
        total.entered, 12_000,
        "every offer is accounted for, refused ones too"
    );
    assert!(std::fs::read_to_string(&letters)?.contains("no such topic"));
    assert!(total.outcome(Kind::Delivered) > 5_000);
    let refused = |why: &str| answers.keys().any(|(_, answer)| answer == why);
    assert!(refused("NoRoom") && refused("BreakerOpen"), "{answers:?}");
    eprintln!("{}", breaker.snapshot(simulation.now()).counts.trips);
    Ok(())
}
