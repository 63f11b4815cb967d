//! A consumer that knows about pressure: it takes batches whose size adapts, ten messages at once; and
//! while memory is short smaller ones, one by one, HIGH first, with LOW deferred. In simulated time.
//!
//! `cargo run --features testkit --example a7_consumer`

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::batch_size::UnderPressure;
use forebay::control::limit::Fixed;
use forebay::control::{
    BatchHandle, ConsumerReading, Consumption, DeferralSettings, LimitHandle, PressureHandle,
    PressureSettings, PrioritySettings, Reading, Thresholds, WhenNoRoom,
};
use forebay::operator::Calls;
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::{self, Time};

const MS: Duration = Duration::from_millis(1);
const SLOTS: usize = 10;

fn class(n: u32) -> Class {
    [Class::HIGH, Class::MEDIUM, Class::LOW, Class::LOW][(n % 4) as usize]
}

/// The memory in use: short from 2 s to 4 s.
fn memory() -> f64 {
    let short = Time::ZERO + 2000 * MS..Time::ZERO + 4000 * MS;
    if short.contains(&time::now()) {
        0.85
    } else {
        0.5
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulation = Simulation::new(7);
    let pressure = PressureHandle::new(PressureSettings::new())?;
    let size = BatchHandle::under(UnderPressure::a7(), &pressure);
    let limit = LimitHandle::new(Fixed::new(SLOTS)?);
    let settings = PrioritySettings::items(1000).when_no_room(Class::LOW, WhenNoRoom::Defer);
    let aside = DeferralSettings::items(1000)
        .ttl(60_000 * MS)
        .rate(1e6, 1000);
    let buffer = ClassBuffer::new(settings).defer(aside).under(&pressure);
    let view = buffer.view();

    // A hundred messages a second for six seconds; each takes 20 ms.
    let messages = source::tick(10 * MS)
        .untracked()
        .map(|tick| tick.number as u32)
        .take(600);
    let (reads, slots) = (pressure.clone(), limit.clone());
    let seen: Arc<Mutex<Vec<(Consumption, usize)>>> = Arc::default();
    let told = Arc::clone(&seen);
    let late: Arc<Mutex<Vec<(Class, Duration)>>> = Arc::default();
    let took = Arc::clone(&late);
    let pipeline = messages
        .inspect(move |_| reads.read(time::now(), Reading::Memory(memory())))
        .map(|n| (n, time::now()))
        .classify(|(n, _)| class(*n))
        .buffer_by_class(buffer)
        .batch(&size)
        .inspect(move |batch| {
            let standing = slots.snapshot();
            let reading = ConsumerReading {
                free_slots: SLOTS.saturating_sub(standing.leased),
                average: standing.limit.recent.unwrap_or_default(),
                memory: memory(),
                cpu: 0.5,
            };
            let consumption = Thresholds::a7().consumption(&reading);
            let at_once = match consumption {
                Consumption::Parallel { .. } => SLOTS,
                Consumption::Sequential { .. } => 1,
            };
            // It is within its range.
            slots.replace(Fixed::new(at_once).unwrap_or_else(|_| unreachable!()));
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((consumption, batch.len()));
        })
        .map_concat(|batch| batch)
        .map_async(Calls::under(&limit), |message| async move {
            time::sleep(20 * MS).await;
            message
        })
        .for_each(move |(n, since)| {
            let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
            took.push((class(n), time::now().since(since)));
        });
    let mut run = simulation.start(pipeline)?;
    simulation.advance(3900 * MS);
    let deferred = view.snapshot().and_then(|snapshot| snapshot.deferral);
    let deferred = deferred.map_or(0, |deferral| deferral.items);
    eprintln!("{deferred} LOW deferred at 3.9 s");
    assert!(deferred > 50, "half of a hundred a second for two seconds");
    run.join()?;
    let snapshot = run.snapshot();
    snapshot.check().map_err(|wrong| format!("{wrong:?}"))?;
    let delivered = snapshot
        .stage("for_each")
        .map_or(0, |stage| stage.counts.outcome(Kind::Delivered));
    assert_eq!(delivered, 600, "deferred is not lost");

    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let in_sequence = seen
        .iter()
        .filter(|(how, _)| matches!(how, Consumption::Sequential { .. }))
        .count();
    eprintln!("{in_sequence} of {} batches in sequence", seen.len());
    assert!(in_sequence > 10 && in_sequence < seen.len());
    let late = late.lock().unwrap_or_else(PoisonError::into_inner);
    let longest = |of| {
        late.iter()
            .filter(|(class, _)| *class == of)
            .map(|(_, took)| *took)
            .max()
    };
    eprintln!(
        "HIGH took {:?} at most, LOW {:?}",
        longest(Class::HIGH),
        longest(Class::LOW)
    );
    assert!(longest(Class::HIGH) < longest(Class::LOW));
    assert!(size.snapshot().batches > 0 || seen.iter().any(|(_, len)| *len <= 100));
    Ok(())
}
