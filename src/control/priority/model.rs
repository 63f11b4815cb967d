//! The queue against a plain list, and against the law, whatever is offered.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use std::time::Duration;

use proptest::prelude::*;

use super::tests::Bench;
use super::*;
use crate::class::Class;
use crate::control::Aging;
use crate::time::Time;

#[derive(Clone, Debug)]
enum Step {
    Offer {
        class: u8,
        bytes: u64,
    },
    Pop,
    /// Takes out every so-manieth.
    Remove(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8, 0..9_u64).prop_map(|(class, bytes)| Step::Offer { class, bytes }),
        3 => Just(Step::Pop),
        1 => (2..5_u64).prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 0..150)
}

fn policies() -> impl Strategy<Value = Vec<(WhenNoRoom, bool, LaneOrder)>> {
    let policy = prop_oneof![
        Just(WhenNoRoom::Evict),
        Just(WhenNoRoom::Wait(Duration::MAX)),
        Just(WhenNoRoom::Refuse),
        Just(WhenNoRoom::Defer),
        Just(WhenNoRoom::Divert),
    ];
    let order = prop_oneof![Just(LaneOrder::Fifo), Just(LaneOrder::Lifo)];
    proptest::collection::vec((policy, any::<bool>(), order), 4)
}

/// An element as the model sees it: a plain list, oldest first.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    number: u64,
    class: usize,
    bytes: u64,
}

proptest! {
    /// A list of elements, searched anew each time, does what the lanes do.
    #[test]
    fn it_does_what_a_list_does(
        steps in steps(),
        policies in policies(),
        items in 1..8_usize,
        bytes in prop_oneof![Just(u64::MAX), 1..20_u64],
        oldest in any::<bool>(),
        places in proptest::option::of(proptest::collection::vec(1..8_usize, 4)),
    ) {
        let places = if oldest { None } else { places };
        let mut settings = PrioritySettings::items(items).bytes(bytes).aging(Aging::none());
        for (at, most) in places.iter().flatten().enumerate() {
            settings = settings.at_most(Class::new(at as u8).unwrap(), *most);
        }
        let mut evictable = [true; Class::COUNT];
        for (at, (policy, may_be_evicted, order)) in policies.iter().enumerate() {
            let class = Class::new(at as u8).unwrap();
            settings = settings.when_no_room(class, *policy).order(class, *order);
            if !may_be_evicted && *policy != WhenNoRoom::Evict {
                settings = settings.never_evict(class);
                evictable[at] = false;
            }
        }
        if oldest {
            settings = settings.victims(Victims::Oldest);
        }
        let mut bench = Bench::new(settings);
        let mut list: Vec<Seen> = Vec::new();
        let of = |list: &[Seen], class: usize| list.iter().filter(|seen| seen.class >= class).count();
        let fits = |list: &[Seen], own: usize, size: u64| {
            let held: u64 = list.iter().map(|seen| seen.bytes).sum();
            let mut counting = places.iter().flatten().enumerate().take(own + 1);
            list.len() < items
                && (list.is_empty() || held + size <= bytes)
                && counting.all(|(class, most)| of(list, class) < *most)
        };
        let (mut offered, mut served, mut away) = (0_u64, 0_u64, 0_u64);
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u64;
            match step {
                Step::Offer { class, bytes: size } => {
                    offered += 1;
                    let own = usize::from(class);
                    let policy = policies[own].0;
                    let is_victim = |seen: &Seen| evictable[seen.class] && if oldest {
                        policy == WhenNoRoom::Evict
                    } else {
                        seen.class > own || seen.class == own && policy == WhenNoRoom::Evict
                    };
                    let mut after = list.clone();
                    let mut gone = Vec::new();
                    while !fits(&after, own, size) {
                        let worst = after.iter().enumerate().filter(|(_, seen)| is_victim(seen));
                        let worst = if oldest {
                            worst.min_by_key(|(_, seen)| seen.number)
                        } else {
                            worst.min_by_key(|(_, seen)| (usize::MAX - seen.class, seen.number))
                        };
                        match worst.map(|(at, _)| at) {
                            Some(at) => gone.push(after.remove(at).number),
                            None => break,
                        }
                    }
                    let has_room = fits(&after, own, size);
                    bench.evicted.clear();
                    let placed = bench.offer(Class::new(class).unwrap(), size, number);
                    prop_assert_eq!(placed.is_queued(), has_room, "{:?}", list);
                    if !oldest {
                        // The law, apart from the model.
                        let left = if has_room { &after } else { &list };
                        let cheapest = left.iter().filter(|seen| evictable[seen.class]);
                        let cheapest = cheapest.map(|seen| seen.class).max();
                        let given_up = bench.evicted.iter().map(|one| one.entry.offer.class.index());
                        prop_assert!(given_up.min() >= cheapest || gone.is_empty() || !has_room);
                        let lower = cheapest.is_some_and(|cheapest| cheapest > own);
                        prop_assert!(has_room || !lower || bytes != u64::MAX, "law 6");
                    }
                    if has_room {
                        prop_assert_eq!(bench.evicted(), gone.clone());
                        away += gone.len() as u64;
                        after.push(Seen { number, class: own, bytes: size });
                        list = after;
                    } else {
                        prop_assert!(bench.evicted.is_empty());
                        let expected = match policy {
                            WhenNoRoom::Wait(_) => Placed::Wait(number, Time::MAX),
                            WhenNoRoom::Evict | WhenNoRoom::Refuse => {
                                Placed::Refused(number, OfferRefusal::NoRoom)
                            }
                            WhenNoRoom::Defer => Placed::Defer(number),
                            WhenNoRoom::Divert => Placed::Divert(number),
                        };
                        prop_assert_eq!(placed, expected);
                        offered -= 1;
                    }
                }
                Step::Pop => {
                    let first = list.iter().map(|seen| seen.class).min();
                    let lane = list.iter().filter(|seen| Some(seen.class) == first);
                    let next = match first.map(|class| policies[class].2) {
                        Some(LaneOrder::Lifo) => lane.copied().next_back(),
                        _ => lane.copied().next(),
                    };
                    let popped = bench.queue.pop(Time::ZERO).map(|served| served.entry.payload);
                    prop_assert_eq!(popped, next.map(|seen| seen.number));
                    list.retain(|seen| Some(*seen) != next);
                    served += u64::from(next.is_some());
                }
                Step::Remove(nth) => {
                    let out = bench.queue.remove(|entry| entry.payload % nth == 0);
                    let before = list.len();
                    list.retain(|seen| seen.number % nth != 0);
                    prop_assert_eq!(out.len(), before - list.len());
                    away += out.len() as u64;
                }
            }
            let held: u64 = list.iter().map(|seen| seen.bytes).sum();
            prop_assert_eq!((bench.queue.len(), bench.queue.bytes()), (list.len(), held));
            prop_assert!(bench.queue.len() <= items);
            for (class, most) in places.iter().flatten().enumerate() {
                prop_assert!(of(&list, class) <= *most);
            }
            prop_assert!(held <= bytes || list.len() == 1);
        }
        prop_assert_eq!(offered, served + away + list.len() as u64, "conservation");
        let lanes = bench.queue.snapshot().lanes;
        for lane in lanes {
            let out = lane.served + lane.evicted + lane.evicted_elsewhere + lane.removed;
            prop_assert_eq!(lane.queued, out + lane.items as u64);
        }
    }

    /// No class is served before a higher one that waits, unless the turn is granted; grants are
    /// counted, and stay within their share.
    #[test]
    fn nothing_is_overtaken_but_by_a_grant(
        steps in proptest::collection::vec((0..4_u8, 0..3_u8, 0..5_u64), 1..300),
        share in 0.0..0.5_f64,
    ) {
        let aging = Aging::share(share).least_wait(Duration::from_millis(2));
        let mut queue = PriorityQueue::new(PrioritySettings::items(1000).aging(aging)).unwrap();
        let (mut now, mut pops, mut grants) = (Time::ZERO, 0.0, 0.0);
        for (class, offers, pause_ms) in steps {
            now = now + Duration::from_millis(pause_ms);
            for _ in 0..offers {
                let offer = Offer::new(Class::new(class).unwrap(), 0, now);
                prop_assert!(queue.offer(now, offer, (), &mut Vec::new()).is_queued());
            }
            let lanes = queue.snapshot().lanes;
            let highest = lanes.iter().position(|lane| lane.items > 0);
            let Some(served) = queue.pop(now) else {
                prop_assert_eq!(highest, None);
                continue;
            };
            let overtook = Some(served.entry.offer.class.index()) != highest;
            prop_assert_eq!(served.aged, overtook);
            pops += 1.0;
            grants += f64::from(u8::from(overtook));
            prop_assert!(grants <= share * pops + 1.0 + 1e-3);
        }
        let counted: u64 = queue.snapshot().lanes.iter().map(|lane| lane.aged).sum();
        prop_assert_eq!(counted as f64, grants);
    }
}
