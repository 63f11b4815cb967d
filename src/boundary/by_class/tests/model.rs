//! The queue of the boundary, whole chunks at a time, against one that is asked for each element.

use proptest::prelude::*;

use super::super::leaves::Leaves;
use super::super::state::{Arrivals, State};
use super::*;
use crate::control::{
    Codel, Evicted, Forecast, LaneOrder, Offer, Placed, PriorityQueue, Victims, WhenNoRoom,
};
use crate::outcome::Reason;
use crate::time::Time;

#[derive(Clone, Debug)]
enum Step {
    /// Elements of a class, with so many bytes, and a deadline in so many ms.
    Chunk(Vec<(u8, u64, Option<u64>)>),
    Serve(usize, Option<u64>),
    Overload(bool),
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let element = (0..3_u8, 0..4_u64, prop::option::weighted(0.2, 0..8_u64));
    let plain = (0..3_u8).prop_map(|class| (class, 0, None));
    let step = prop_oneof![
        3 => proptest::collection::vec(element, 1..12).prop_map(Step::Chunk),
        2 => proptest::collection::vec(plain, 1..40).prop_map(Step::Chunk),
        4 => (1..30_usize, prop::option::weighted(0.2, 1..20_u64))
            .prop_map(|(items, bytes)| Step::Serve(items, bytes)),
        1 => any::<bool>().prop_map(Step::Overload),
        2 => (0..5_u32).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

fn settings() -> impl Strategy<Value = PrioritySettings> {
    let policy = prop_oneof![
        Just(WhenNoRoom::Evict),
        Just(WhenNoRoom::Wait(3 * MS)),
        Just(WhenNoRoom::Refuse),
        Just(WhenNoRoom::Divert),
    ];
    let order = prop_oneof![
        4 => Just(LaneOrder::Fifo),
        1 => Just(LaneOrder::Lifo),
        1 => Just(LaneOrder::Adaptive),
    ];
    let classes = proptest::collection::vec((policy, order), 3);
    let aging = prop_oneof![
        Just(Aging::none()),
        Just(Aging::default()),
        (0.0..0.5_f64).prop_map(|share| Aging::share(share).least_wait(MS)),
    ];
    let places = prop::option::weighted(0.3, 1..20_usize);
    let bytes = prop_oneof![Just(u64::MAX), 1..60_u64];
    (1..50_usize, bytes, classes, aging, any::<bool>(), places).prop_map(
        |(items, bytes, classes, aging, oldest, places)| {
            let mut settings = PrioritySettings::items(items).bytes(bytes).aging(aging);
            for (class, (policy, order)) in classes.into_iter().enumerate() {
                let class = Class::new(class as u8).unwrap();
                settings = settings.when_no_room(class, policy).order(class, order);
            }
            match places {
                Some(places) => settings.at_most(LOW, places),
                None if oldest => settings.victims(Victims::Oldest),
                None => settings,
            }
        },
    )
}

/// What became of elements: in their order, how they left.
type Left = Vec<(u64, &'static str)>;

/// The boundary's.
struct Whole(State<u64>);

impl Whole {
    fn offer(&mut self, now: Time, elements: Vec<Element<u64>>, left: &mut Left) {
        let mut chunk = Chunk::default();
        chunk.extend(elements);
        let mut leaves = Leaves::default();
        let arrivals = Arrivals::of(&chunk);
        if self.0.takes_all(now, &arrivals) {
            let mut parts = std::array::from_fn(|_| Chunk::default());
            chunk.scatter(&mut parts);
            self.0.take_all(now, &arrivals, &mut parts);
            assert!(
                parts
                    .iter()
                    .all(|part| part.is_empty() && part.columns.len() == 0)
            );
        } else {
            for element in chunk.drain() {
                if let Some((element, _)) = self.0.offer(now, now, element, &mut leaves) {
                    left.push((element.value, "waits"));
                }
            }
        }
        assert!(chunk.is_empty() && chunk.columns.len() == 0);
        tell(leaves, left);
    }

    fn serve(&mut self, now: Time, want: Demand, left: &mut Left) -> Vec<u64> {
        let (mut out, mut leaves) = (Chunk::default(), Leaves::default());
        ClassSource::serve(&mut self.0, now, &mut out, want, &mut leaves);
        assert_eq!(out.len(), out.columns.len());
        tell(leaves, left);
        out.values().to_vec()
    }
}

fn tell(mut leaves: Leaves<u64>, left: &mut Left) {
    for (element, outcome) in leaves.settled.drain(..) {
        let how = match outcome {
            Outcome::Expired => "expired",
            Outcome::Shed(Reason::Evicted) => "evicted",
            Outcome::Shed(Reason::NoRoom) => "refused",
            Outcome::Shed(Reason::QueueDelay) => "stale",
            other => panic!("{other:?}"),
        };
        left.push((element.value, how));
    }
    left.extend(
        leaves
            .diverted
            .drain(..)
            .map(|element| (element.value, "diverted")),
    );
    left.extend(
        leaves
            .expired
            .values()
            .iter()
            .map(|value| (*value, "expired")),
    );
    left.extend(leaves.stale.values().iter().map(|value| (*value, "stale")));
}

/// The model: a queue that keeps its elements one by one, and is asked about each.
struct Single {
    queue: PriorityQueue<Element<u64>>,
    codel: Option<[Codel; Class::COUNT]>,
    forecast: Option<Forecast>,
}

impl Single {
    fn offer(&mut self, now: Time, elements: Vec<Element<u64>>, left: &mut Left) {
        for element in elements {
            let class = element.meta.class.unwrap_or_default();
            let (value, deadline) = (element.value, element.meta.deadline);
            let ahead = self.queue.ahead_of(class);
            let late = |forecast: Forecast| forecast.is_too_late(now, ahead, deadline);
            if deadline <= now || self.forecast.is_some_and(late) {
                left.push((value, "expired"));
                continue;
            }
            let offer = Offer::new(class, element.meta.bytes, now);
            let mut evicted = Vec::new();
            match self.queue.offer(now, offer, element, &mut evicted) {
                Placed::Queued => {}
                Placed::Wait(..) => left.push((value, "waits")),
                Placed::Refused(..) => left.push((value, "refused")),
                Placed::Defer(_) | Placed::Divert(_) => left.push((value, "diverted")),
            }
            for Evicted { entry, to } in evicted {
                let how = match to {
                    crate::control::Away::Shed => "evicted",
                    _ => "diverted",
                };
                left.push((entry.payload.value, how));
            }
        }
    }

    fn serve(&mut self, now: Time, want: Demand, left: &mut Left) -> Vec<u64> {
        let (mut out, mut bytes) = (Vec::new(), want.bytes);
        let served_by = match &self.forecast {
            Some(forecast) if self.queue.is_overloaded() => now + forecast.service * 3,
            _ => now,
        };
        while out.len() < want.items {
            let Some(next) = self.queue.peek(now) else {
                break;
            };
            if next.bytes > bytes && !out.is_empty() {
                break;
            }
            let entry = self.queue.pop(now).unwrap().entry;
            let (class, element) = (entry.offer.class, entry.payload);
            let wait = now.since(entry.offer.since);
            let codel = self.codel.as_mut();
            let stale = codel.is_some_and(|codel| codel[class.index()].is_stale(now, wait));
            if element.meta.deadline <= served_by {
                left.push((element.value, "expired"));
            } else if stale && !self.queue.holds_below(class) {
                left.push((element.value, "stale"));
            } else {
                if bytes != u64::MAX {
                    bytes = bytes.saturating_sub(entry.offer.bytes);
                }
                out.push(element.value);
            }
        }
        out
    }
}

proptest! {
    /// Whole chunks are queued and served as if each element had been looked at.
    #[test]
    fn whole_chunks_fare_as_their_elements_do(
        settings in settings(),
        steps in steps(),
        stale in any::<bool>(),
        forecast in prop::option::of((100.0..10_000.0_f64, 0..3_u32)),
    ) {
        let codel = stale.then(|| std::array::from_fn(|_| Codel::new(2 * MS, 5 * MS).unwrap()));
        let forecast = forecast.map(|(capacity_per_s, service)| Forecast {
            capacity_per_s,
            service: service * MS,
        });
        let mut single = Single {
            queue: PriorityQueue::new(settings).unwrap(),
            codel: codel.clone(),
            forecast,
        };
        let mut whole = Whole(State {
            codel,
            forecast,
            ..State::new(PriorityQueue::with_lanes(settings).unwrap())
        });
        let (mut now, mut next) = (Time::ZERO, 0_u64);
        for step in steps {
            let (mut left, mut expected) = (Left::new(), Left::new());
            match step {
                Step::Pass(ms) => now = now + MS * ms,
                Step::Overload(is) => {
                    whole.0.queue.set_overloaded(now, is, "as planned");
                    single.queue.set_overloaded(now, is, "as planned");
                }
                Step::Chunk(kinds) => {
                    let elements = || kinds.iter().zip(next..).map(|((class, bytes, due), value)| {
                        let mut element = Element::new(value);
                        element.meta.class = Class::new(*class);
                        element.meta.bytes = *bytes;
                        if let Some(due) = due {
                            element.meta.deadline = now + Duration::from_millis(*due);
                        }
                        element
                    }).collect();
                    whole.offer(now, elements(), &mut left);
                    single.offer(now, elements(), &mut expected);
                    next += kinds.len() as u64;
                }
                Step::Serve(items, bytes) => {
                    let want = Demand { items, bytes: bytes.unwrap_or(u64::MAX) };
                    let served = whole.serve(now, want, &mut left);
                    prop_assert_eq!(served, single.serve(now, want, &mut expected));
                }
            }
            left.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(whole.0.queue.snapshot(), single.queue.snapshot());
        }
        let codels = |codel: &Option<[Codel; Class::COUNT]>| {
            codel.iter().flatten().map(Codel::snapshot).collect::<Vec<_>>()
        };
        prop_assert_eq!(codels(&whole.0.codel), codels(&single.codel));
    }
}
