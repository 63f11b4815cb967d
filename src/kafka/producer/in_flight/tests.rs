//! Reports in any order, at any time, with any outcome.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::*;
use crate::error::Stop;
use crate::operator::{Demand, Sink};
use crate::outcome::Reason;
use crate::random::Seeded;
use crate::runtime::Snapshot;
use crate::source;
use crate::testkit::Simulation;
use crate::time::{self, Sleep};
use crate::topology::NodeSpec;

const STEP: Duration = Duration::from_millis(10);
const TOPICS: usize = 3;

/// What the script reported, by topic.
type Told = Arc<Mutex<BTreeMap<(usize, Kind), u64>>>;

#[derive(Clone, Copy)]
struct One {
    number: usize,
    topic: usize,
    bytes: u64,
}

/// A sink whose records are reported as the seed has it.
struct Scripted {
    in_flight: InFlight,
    random: Seeded,
    /// Not reported yet.
    open: Vec<One>,
    /// Of those, the ones that are reported then.
    late: Vec<(Time, One)>,
    /// When, and what it weighs.
    reported: Vec<(Time, u64)>,
    told: Told,
    sleep: Option<Pin<Box<Sleep>>>,
    /// It stops once it was given so many.
    stops_after: usize,
    given: usize,
}

impl Scripted {
    fn new(seed: u64, told: &Told, stops_after: usize) -> Scripted {
        Scripted {
            in_flight: InFlight::default(),
            random: Seeded::new(seed),
            open: Vec::new(),
            late: Vec::new(),
            reported: Vec::new(),
            told: Arc::clone(told),
            sleep: None,
            stops_after,
            given: 0,
        }
    }

    fn report(&mut self, cx: &mut Context<'_, '_>, one: One) {
        let One {
            number,
            topic,
            bytes,
        } = one;
        let outcome = match self.random.below(20) {
            0 => Outcome::Failed(Reason::Error),
            1 => {
                // It could not be written; elsewhere it could, and only once.
                assert!(self.in_flight.redirect(number).is_some());
                assert!(self.in_flight.redirect(number).is_none());
                assert!(self.in_flight.is_redirected(number));
                Outcome::DeadLettered(Reason::Error)
            }
            _ => Outcome::Delivered,
        };
        self.in_flight.report(cx, number, outcome);
        self.reported.push((cx.now(), bytes));
        let mut told = self.told.lock().unwrap();
        *told.entry((topic, outcome.kind())).or_default() += 1;
    }

    fn step(&mut self, cx: &mut Context<'_, '_>) {
        let now = cx.clock();
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.late = late;
        let due: Vec<(Time, One)> = due;
        for (_, one) in due {
            self.report(cx, one);
        }
        for _ in 0..self.random.below(200) {
            if self.open.is_empty() {
                break;
            }
            let at = self.random.below(self.open.len());
            let one = self.open.swap_remove(at);
            if self.random.one_in(50) {
                self.late.push((now + Duration::from_millis(300), one));
            } else {
                self.report(cx, one);
            }
        }
        self.in_flight.part_late(cx);
        self.in_flight.destinations.tell(cx);
        // Whoever is reported is settled soon, whatever becomes of the others.
        self.reported.retain(|(at, _)| now.since(*at) < TOGETHER);
        let held = self.in_flight.held();
        let open = self.open.iter().chain(self.late.iter().map(|(_, one)| one));
        let (count, bytes) = open.fold((0, 0), |(n, bytes), one| (n + 1, bytes + one.bytes));
        let recent: u64 = self.reported.iter().map(|(_, bytes)| bytes).sum();
        assert!((count..=count + self.reported.len()).contains(&held.items));
        assert!((bytes..=bytes + recent).contains(&held.bytes), "{held:?}");
    }

    fn wait(&mut self, cx: &mut Context<'_, '_>) {
        let sleep = self
            .sleep
            .insert(Box::pin(time::sleep_until(cx.now() + STEP)));
        if sleep.as_mut().poll(cx.task()).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Sink<ProducerRecord> for Scripted {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.step(cx);
        if self.given >= self.stops_after {
            return Poll::Ready(Err(Stop::error("enough")));
        }
        self.wait(cx);
        match 1000_usize.saturating_sub(self.in_flight.held().items) {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        self.given += chunk.len();
        let (records, metas) = chunk.split();
        let first = self.in_flight.begin(metas, true);
        for (place, record) in records.enumerate() {
            self.in_flight.add(first + place, &record);
            let topic: usize = record.topic.parse().unwrap();
            self.open.push(One {
                number: first + place,
                topic,
                bytes: record.len() as u64,
            });
            self.in_flight.keep(first + place, record);
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.step(cx);
        if self.in_flight.held().items > 0 {
            self.wait(cx);
            return Poll::Pending;
        }
        assert_eq!(self.in_flight.held(), Held::NONE);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        self.in_flight.abandon(cx, outcome);
        assert_eq!(self.in_flight.held(), Held::NONE);
    }

    fn held(&self) -> Held {
        self.in_flight.held()
    }
}

fn run(seed: u64, stops_after: usize) -> (Snapshot, BTreeMap<(usize, Kind), u64>) {
    let told = Told::default();
    let simulation = Simulation::new(seed);
    let mut running = simulation
        .start(
            source::iter(0..5000_usize)
                .map(|number| {
                    let topic = (number / 7 % TOPICS).to_string();
                    ProducerRecord::to(topic).value(vec![0; number * 31 % 500])
                })
                .to_stage(
                    NodeSpec::new("scripted").holds(1000),
                    Scripted::new(seed, &told, stops_after),
                ),
        )
        .unwrap();
    let ended = running.join();
    assert_eq!(ended.is_err(), stops_after < 5000);
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let told = told.lock().unwrap().clone();
    (snapshot, told)
}

fn destinations(snapshot: &Snapshot) -> BTreeMap<(usize, Kind), u64> {
    let counts = &snapshot.stage("scripted").unwrap().counts;
    let found = counts.destinations.iter();
    found
        .map(|((topic, kind), count)| ((topic.parse().unwrap(), *kind), *count))
        .collect()
}

#[test]
fn each_is_settled_once_as_it_was_reported_and_soon() {
    for seed in 0..40 {
        let (snapshot, told) = run(seed, usize::MAX);
        assert_eq!(destinations(&snapshot), told, "seed {seed}");
        assert_eq!(told.values().sum::<u64>(), 5000);
        for kind in [Kind::Delivered, Kind::DeadLettered, Kind::Failed] {
            let reported: u64 = (0..TOPICS).filter_map(|t| told.get(&(t, kind))).sum();
            assert_eq!(snapshot.total().outcome(kind), reported, "seed {seed}");
            assert!(reported > 0);
        }
    }
}

#[test]
fn what_is_reported_when_it_ends_counts_as_it_was_reported() {
    for seed in 0..40 {
        let (snapshot, told) = run(seed, 2000);
        let mut found = destinations(&snapshot);
        let cancelled: u64 = (0..TOPICS)
            .filter_map(|topic| found.remove(&(topic, Kind::Cancelled)))
            .sum();
        assert_eq!(found, told, "seed {seed}");
        assert!(cancelled > 0);
    }
}

/// One record of each chunk is reported when all of the flow has come, the others at once: nobody but the batches
/// themselves wakes this sink.
struct Laggard {
    in_flight: InFlight,
    late: Vec<usize>,
    most: Arc<Mutex<usize>>,
}

impl Sink<ProducerRecord> for Laggard {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        let _ = cx.clock();
        self.in_flight.part_late(cx);
        let held = self.in_flight.held();
        let mut most = self.most.lock().unwrap();
        *most = (*most).max(held.items);
        match 1000_usize.saturating_sub(held.items) {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        let (records, metas) = chunk.split();
        let first = self.in_flight.begin(metas, false);
        let mut count = 0;
        for (place, record) in records.enumerate() {
            self.in_flight.add(first + place, &record);
            count += 1;
        }
        for place in 1..count {
            self.in_flight.report(cx, first + place, Outcome::Delivered);
            // Told again it changes nothing.
            self.in_flight
                .report(cx, first + place, Outcome::Failed(Reason::Error));
        }
        self.late.push(first);
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        for number in std::mem::take(&mut self.late) {
            self.in_flight.report(cx, number, Outcome::Delivered);
            self.in_flight.report(cx, number, Outcome::Delivered);
        }
        assert_eq!(self.in_flight.held(), Held::NONE);
        self.in_flight.destinations.tell(cx);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        self.in_flight.abandon(cx, outcome);
    }

    fn held(&self) -> Held {
        self.in_flight.held()
    }
}

#[test]
fn one_late_record_of_each_batch_does_not_stop_the_others() {
    let most = Arc::new(Mutex::new(0));
    let pipeline = source::iter(0..50_000_u64)
        .map(|number| ProducerRecord::to("topic").value(vec![0; (number % 50) as usize]))
        .to_stage(
            NodeSpec::new("laggard").holds(1000),
            Laggard {
                in_flight: InFlight::default(),
                late: Vec::new(),
                most: Arc::clone(&most),
            },
        );
    let ((), snapshot) = Simulation::new(1).run(pipeline).unwrap();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 50_000);
    // It was full more than once: by itself it would have gone on for ever.
    assert!(*most.lock().unwrap() >= 900);
}
