//! A pipeline that is offered more than it can do: what is let in, what is given up, and who is
//! served in time.
#![allow(clippy::cast_sign_loss, clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, Aging, EmergencyEvent, EmergencyHandle, EmergencySettings,
    PrioritySettings, WhenNoRoom,
};
use forebay::flow::Flow;
use forebay::operator::Calls;
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::{self, Time};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Four workers of 1 ms: 4000 a second.
const WORKERS: usize = 4;
const CAPACITY: f64 = 4000.0;

#[derive(Clone, Copy, Debug)]
struct Item {
    class: Class,
    at: Time,
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.next().ln())
    }
}

/// Poisson arrivals of so many times the capacity for that long, of which HIGH is .4 of the capacity
/// and the rest is half MEDIUM, half LOW. They come whether there is room or not.
fn offered(load: f64, from: Duration, span: Duration) -> Flow<Item> {
    let mean = Duration::from_secs_f64(1.0 / (CAPACITY * load));
    let high = 0.4 / load;
    let start = (Time::ZERO + from, Random(7));
    let end = Time::ZERO + from + span;
    source::unfold_async(start, move |(at, mut random)| async move {
        let at = at + random.exponential(mean);
        if at > end {
            return None;
        }
        time::sleep_until(at).await;
        let class = match random.next() {
            n if n < high => Class::HIGH,
            n if n < high + (1.0 - high) / 2.0 => Class::MEDIUM,
            _ => Class::LOW,
        };
        Some(((at, random), Item { class, at }))
    })
    .allow_loss()
}

/// What was served, and when it was done.
type Served = Arc<Mutex<Vec<(Item, Time)>>>;

fn serve(flow: Flow<Item>, calls: Calls) -> (Served, forebay::flow::Pipeline<()>) {
    let served = Served::default();
    let seen = Arc::clone(&served);
    let mut random = Random(11);
    let pipeline = flow
        .map_async_unordered(calls, move |item| {
            let service = random.exponential(MS);
            async move {
                time::sleep(service).await;
                item
            }
        })
        .for_each(move |item| seen.lock().unwrap().push((item, time::now())));
    (served, pipeline)
}

fn queue() -> PrioritySettings {
    [Class::MEDIUM, Class::LOW].into_iter().fold(
        PrioritySettings::items(400).when_no_room(Class::HIGH, WhenNoRoom::Refuse),
        |settings, class| settings.when_no_room(class, WhenNoRoom::Refuse),
    )
}

struct Figures {
    snapshot: Snapshot,
    served: Vec<(Item, Time)>,
}

impl Figures {
    /// The share of the capacity that was served within ten service times, from a fifth of the span
    /// on.
    fn goodput(&self, span: Duration) -> f64 {
        let from = Time::ZERO + span / 5;
        let good = self
            .served
            .iter()
            .filter(|(item, done)| item.at >= from && done.since(item.at) <= 10 * MS)
            .count();
        good as f64 / (CAPACITY * span.as_secs_f64() * 0.8)
    }

    fn p99(&self, class: Class) -> Duration {
        let mut took: Vec<_> = self
            .served
            .iter()
            .filter(|(item, _)| item.class == class)
            .map(|(item, done)| done.since(item.at))
            .collect();
        took.sort();
        took[took.len() * 99 / 100]
    }

    /// Elements of that class that were given up, wherever.
    fn lost(&self, class: Class) -> u64 {
        ["admit", "buffer_by_class"]
            .iter()
            .flat_map(|stage| {
                self.snapshot
                    .stage(stage)
                    .unwrap()
                    .counts
                    .settlements()
                    .collect::<Vec<_>>()
            })
            .filter(|settled| settled.class == Some(class))
            .map(|settled| settled.count)
            .sum()
    }

    fn served(&self, class: Class) -> u64 {
        let of = |(item, _): &&(Item, Time)| item.class == class;
        self.served.iter().filter(of).count() as u64
    }
}

fn run(load: f64, span: Duration) -> Figures {
    let simulation = Simulation::new(5);
    let admission = AdmissionHandle::new(AdmissionSettings::target(5 * MS)).unwrap();
    let buffer = ClassBuffer::new(queue().aging(Aging::none())).feeding(&admission);
    let calls = Calls::limit(WORKERS).feeding(&admission);
    let flow = offered(load, Duration::ZERO, span)
        .classify(|item| item.class)
        .deadline(10 * MS)
        .admit(&admission)
        .buffer_by_class(buffer);
    let (served, pipeline) = serve(flow, calls);
    let ((), snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    let served = served.lock().unwrap().clone();
    Figures { snapshot, served }
}

#[test]
fn at_ten_times_the_capacity_high_is_served_and_the_workers_stay_busy() {
    let span = Duration::from_secs(5);
    let idle = run(0.5, span);
    let over = run(10.0, span);
    let entered = over.snapshot.stage("admit").unwrap().counts.entered;
    assert!(entered > 190_000, "{entered} offered");
    let goodput = over.goodput(span);
    assert!(goodput >= 0.95, "{goodput} of the capacity");
    assert_eq!(over.lost(Class::HIGH), 0, "no HIGH is given up");
    let (was, is) = (idle.p99(Class::HIGH), over.p99(Class::HIGH));
    assert!(is <= 2 * was, "HIGH took {is:?}, and {was:?} when idle");
    assert!(over.served(Class::MEDIUM) > 10 * over.served(Class::LOW));
}

#[test]
fn with_less_than_it_can_do_nothing_is_given_up() {
    let run = run(0.5, Duration::from_secs(2));
    for class in [Class::HIGH, Class::MEDIUM, Class::LOW] {
        assert_eq!(run.lost(class), 0, "of {class:?}");
    }
}

#[test]
fn an_emergency_lets_only_high_in_and_leads_back() {
    let simulation = Simulation::new(5);
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let settings = EmergencySettings::new(CAPACITY as u64).calm(1.0, 200 * MS);
    let listener = move |event: &EmergencyEvent| seen.lock().unwrap().push(*event);
    let emergency =
        EmergencyHandle::with_listener(settings, 50 * MS, Time::ZERO, listener).unwrap();
    let admission =
        AdmissionHandle::with_emergency(AdmissionSettings::default(), &emergency).unwrap();
    let buffer = ClassBuffer::new(queue()).feeding(&admission);
    let calls = Calls::limit(WORKERS).feeding(&admission);
    // One second at twice the capacity, then three at half of it.
    let after = offered(0.5, SECOND, 3 * SECOND);
    let flow = offered(2.0, Duration::ZERO, SECOND)
        .concat([after])
        .classify(|item| item.class)
        .admit(&admission)
        .buffer_by_class(buffer);
    let (served, pipeline) = serve(flow, calls);
    let ((), snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    let of = |class, from: Duration, to: Duration| {
        let span = Time::ZERO + from..Time::ZERO + to;
        let of = |(item, _): &&(Item, Time)| item.class == class && span.contains(&item.at);
        served.lock().unwrap().iter().filter(of).count()
    };
    assert!(
        of(Class::HIGH, Duration::ZERO, SECOND) > 1500,
        "HIGH passes"
    );
    assert_eq!(of(Class::MEDIUM, 100 * MS, SECOND), 0);
    assert_eq!(of(Class::LOW, 100 * MS, SECOND), 0);
    assert!(
        of(Class::LOW, 3 * SECOND, 4 * SECOND) > 150,
        "all pass again"
    );
    let events = events.lock().unwrap();
    let alerts = events
        .iter()
        .filter(|event| matches!(event, EmergencyEvent::Alert { .. }));
    assert_eq!(alerts.count(), 1, "{events:?}");
    assert!(
        matches!(events.last(), Some(EmergencyEvent::Over { .. })),
        "{events:?}"
    );
    assert_eq!(emergency.snapshot().episodes, 1);
    assert_eq!(snapshot.stage("admit").unwrap().counts.alerts, 1);
    assert!(snapshot.to_string().contains(" alerts 1"), "{snapshot}");
    assert!(emergency.adjustments().len() >= 4, "each step is explained");
}
