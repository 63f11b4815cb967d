#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::class::Class;
use crate::time::Time;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn of(settings: DeferralSettings) -> Deferral<u64> {
    Deferral::new(settings, Time::ZERO).unwrap()
}

fn low(bytes: u64) -> Deferred {
    Deferred::new(Class::LOW, bytes)
}

fn put(deferral: &mut Deferral<u64>, ms: u64, facts: Deferred, payload: u64) -> Vec<u64> {
    let mut spilled = Vec::new();
    deferral
        .defer(at(ms), facts, payload, &mut spilled)
        .unwrap();
    spilled.into_iter().map(|aside| aside.payload).collect()
}

fn reoffered(deferral: &mut Deferral<u64>, ms: u64, pressure: f64) -> Vec<u64> {
    std::iter::from_fn(|| match deferral.next(at(ms), pressure)? {
        Leaving::Reoffer(aside) => Some(aside.payload),
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn elements_come_back_oldest_first_between_two_levels_of_pressure() {
    let settings = DeferralSettings::items(10)
        .reoffer_below(0.3)
        .reoffer_until(0.6);
    let mut deferral = of(settings.rate(1e6, 2));
    (0..6).for_each(|n| assert!(put(&mut deferral, n, low(0), n).is_empty()));
    assert!(
        reoffered(&mut deferral, 10, 0.4).is_empty(),
        "not below 0.3"
    );
    assert_eq!(reoffered(&mut deferral, 20, 0.2), [0, 1], "two at once");
    assert_eq!(reoffered(&mut deferral, 30, 0.5), [2, 3], "not yet 0.6");
    assert!(reoffered(&mut deferral, 40, 0.6).is_empty());
    assert!(reoffered(&mut deferral, 50, 0.5).is_empty());
    let why: Vec<_> = deferral
        .adjustments()
        .last()
        .map(|one| one.because)
        .collect();
    assert_eq!(why, ["the pressure has fallen", "the pressure is back"]);
}

#[test]
fn they_come_back_at_most_at_the_rate() {
    let mut deferral = of(DeferralSettings::items(1000).rate(100.0, 1));
    (0..1000).for_each(|n| assert!(put(&mut deferral, 0, low(0), n).is_empty()));
    let mut times = Vec::new();
    let mut now = at(0);
    while times.len() < 100 {
        while deferral.next(now, 0.0).is_some() {
            times.push(now);
        }
        now = deferral.next_at().unwrap();
    }
    let expected: Vec<_> = (0..100).map(|n| at(10 * n)).collect();
    assert_eq!(times, expected);
}

#[test]
fn one_put_aside_too_long_is_offered_once_more_and_then_leaves() {
    for (settings, spills) in [
        (DeferralSettings::items(10), false),
        (DeferralSettings::items(10).spill(), true),
    ] {
        let mut deferral = of(settings.ttl(Duration::from_millis(100)));
        assert!(put(&mut deferral, 5, low(0), 7).is_empty());
        assert_eq!(deferral.next(at(104), 1.0), None);
        assert_eq!(deferral.next_at(), Some(at(105)));
        let Some(Leaving::Reoffer(last)) = deferral.next(at(105), 1.0) else {
            panic!("no last offer");
        };
        assert!(last.is_overdue);
        match deferral.put_back(last).unwrap() {
            Leaving::Spill(aside) => assert!(spills && aside.payload == 7),
            Leaving::Expire(aside) => assert!(!spills && aside.payload == 7),
            Leaving::Reoffer(_) => panic!("again"),
        }
        assert!(deferral.is_empty());
    }
}

#[test]
fn past_its_deadline_an_element_expires_and_is_not_offered() {
    let mut deferral = of(DeferralSettings::items(10).spill());
    assert!(put(&mut deferral, 0, low(0).deadline(at(50)), 1).is_empty());
    assert_eq!(deferral.next_at(), Some(at(50)));
    assert!(matches!(
        deferral.next(at(50), 0.0),
        Some(Leaving::Expire(_))
    ));
}

#[test]
fn what_was_not_taken_is_the_oldest_again() {
    let mut deferral = of(DeferralSettings::items(2).rate(1e6, 10));
    (1..=2).for_each(|n| assert!(put(&mut deferral, n, low(0), n).is_empty()));
    let Some(Leaving::Reoffer(first)) = deferral.next(at(3), 0.0) else {
        panic!("nothing");
    };
    assert_eq!(deferral.put_back(first), None);
    assert_eq!(reoffered(&mut deferral, 4, 0.0), [1, 2]);
}

#[test]
fn a_full_ring_refuses_or_spills_its_oldest() {
    let mut deferral = of(DeferralSettings::items(10).bytes(10));
    assert!(put(&mut deferral, 0, low(6), 0).is_empty());
    let refused = deferral.defer(at(0), low(5), 1, &mut Vec::new());
    assert_eq!(refused, Err(1));
    let mut deferral = of(DeferralSettings::items(10).bytes(10).spill());
    assert!(put(&mut deferral, 0, low(3), 0).is_empty());
    assert!(put(&mut deferral, 0, low(3), 1).is_empty());
    assert!(put(&mut deferral, 0, low(3), 2).is_empty());
    assert_eq!(put(&mut deferral, 0, low(5), 3), [0, 1]);
    assert_eq!(put(&mut deferral, 0, low(99), 4), [2, 3], "alone");
    assert_eq!(deferral.snapshot().spilled, 4);
}

#[test]
fn a_key_with_an_element_put_aside_defers_the_rest_of_that_key() {
    let settings = DeferralSettings::items(2).order_per_key().spill();
    let mut deferral = of(settings.rate(1e6, 10));
    assert!(!deferral.must_defer(1));
    assert!(put(&mut deferral, 0, low(0).key(1), 10).is_empty());
    assert!(deferral.must_defer(1) && !deferral.must_defer(2));
    assert!(put(&mut deferral, 0, low(0).key(1), 11).is_empty());
    assert_eq!(put(&mut deferral, 0, low(0).key(2), 20), [10]);
    assert_eq!(deferral.next_at(), Some(Time::ZERO), "11 follows 10");
    let Some(Leaving::Spill(follower)) = deferral.next(at(1), 0.0) else {
        panic!("11 would overtake 10");
    };
    assert_eq!(follower.payload, 11);
    assert_eq!(reoffered(&mut deferral, 1, 0.0), [20]);
    assert!(deferral.must_defer(1), "until the place outside is empty");
    deferral.spill_is_empty();
    assert!(!deferral.must_defer(1));
}

#[test]
fn a_drain_offers_all_again_whatever_the_pressure_and_the_rate() {
    let mut deferral = of(DeferralSettings::items(100).rate(0.001, 1));
    (0..50).for_each(|n| assert!(put(&mut deferral, 0, low(0), n).is_empty()));
    deferral.drain();
    let all: Vec<u64> = (0..50).collect();
    assert_eq!(reoffered(&mut deferral, 0, 1.0), all);
}

#[test]
fn what_a_source_lost_is_taken_out_and_frees_its_keys() {
    let mut deferral = of(DeferralSettings::items(100).order_per_key());
    (0..10).for_each(|n| assert!(put(&mut deferral, 0, low(1).key(n), n).is_empty()));
    let out = deferral.remove(|aside| aside.payload < 4);
    assert_eq!(out.len(), 4);
    assert!(!deferral.must_defer(3) && deferral.must_defer(4));
    assert_eq!(deferral.snapshot().bytes, 6);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let field = |settings| {
        let deferral: Result<Deferral<u64>, _> = Deferral::new(settings, Time::ZERO);
        deferral.err().map(|invalid| invalid.field)
    };
    let ten = DeferralSettings::items(10);
    assert_eq!(field(DeferralSettings::items(0)), Some("items"));
    assert_eq!(field(ten.bytes(0)), Some("bytes"));
    assert_eq!(field(ten.ttl(Duration::ZERO)), Some("ttl"));
    assert_eq!(field(ten.reoffer_below(1.5)), Some("reoffer_below"));
    assert_eq!(
        field(ten.reoffer_below(0.5).reoffer_until(0.4)),
        Some("reoffer_until")
    );
    assert_eq!(field(ten.rate(0.0, 1)), Some("rate_per_s"));
    assert_eq!(field(ten.rate(1.0, 0)), Some("burst"));
    assert_eq!(
        field(ten.reoffer_below(0.9)),
        None,
        "raises the upper level"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u64,
        bytes: u64,
        deadline_ms: Option<u64>,
    },
    /// Time goes on, and all that may leave does; every so-manieth offer is not taken.
    Ask {
        after_ms: u64,
        pressure: f64,
        refused: usize,
    },
    Remove(u64),
    Emptied,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = (0..5_u64, 0..6_u64, prop::option::of(1..50_u64));
    let step = prop_oneof![
        6 => put.prop_map(|(key, bytes, deadline_ms)| Step::Put { key, bytes, deadline_ms }),
        4 => (0..20_u64, 0.0..1.0_f64, 1..4_usize)
            .prop_map(|(after_ms, pressure, refused)| Step::Ask { after_ms, pressure, refused }),
        1 => (2..6_u64).prop_map(Step::Remove),
        1 => Just(Step::Emptied),
    ];
    proptest::collection::vec(step, 0..150)
}

proptest! {
    /// Judged by a plain list: nothing is lost or doubled, bounds hold, nothing leaves but the
    /// oldest, and per key nothing overtakes: neither in the flow, nor what was spilled.
    #[test]
    fn it_keeps_what_a_list_keeps(
        steps in steps(),
        items in 1..8_usize,
        bytes in prop_oneof![Just(u64::MAX), 1..15_u64],
        spill in any::<bool>(),
        per_key in any::<bool>(),
    ) {
        let ttl = Duration::from_millis(40);
        let mut settings = DeferralSettings::items(items).bytes(bytes).ttl(ttl).rate(200.0, 3);
        if spill {
            settings = settings.spill();
        }
        if per_key {
            settings = settings.order_per_key();
        }
        let mut deferral = of(settings);
        // Number, key, bytes, deadline and since when, oldest first.
        let mut list: Vec<(u64, u64, u64, Time, Time)> = Vec::new();
        let mut now = Time::ZERO;
        // The last of each key that went on, and the oldest that is outside.
        let mut passed: BTreeMap<u64, u64> = BTreeMap::new();
        let mut outside: BTreeMap<u64, u64> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u64;
            match step {
                Step::Put { key, bytes: size, deadline_ms } => {
                    let in_list = list.iter().any(|one| one.1 == key);
                    if per_key {
                        let is_outside = outside.contains_key(&key);
                        prop_assert!(deferral.must_defer(key) || !(in_list || is_outside));
                    } else {
                        prop_assert!(!deferral.must_defer(key));
                    }
                    let deadline = deadline_ms.map_or(Time::MAX, |ms| now + Duration::from_millis(ms));
                    let facts = low(size).key(key).deadline(deadline);
                    let mut out = Vec::new();
                    let result = deferral.defer(now, facts, number, &mut out);
                    prop_assert!(spill || out.is_empty());
                    prop_assert!(!spill || result.is_ok());
                    for aside in out {
                        let oldest = list.remove(0);
                        prop_assert_eq!(aside.payload, oldest.0, "not the oldest");
                        outside.entry(oldest.1).or_insert(oldest.0);
                    }
                    if result.is_ok() {
                        list.push((number, key, size, deadline, now));
                    }
                }
                Step::Ask { after_ms, pressure, refused } => {
                    now = now + Duration::from_millis(after_ms);
                    let mut asked = 0;
                    while let Some(leaving) = deferral.next(now, pressure) {
                        asked += 1;
                        let oldest = list.remove(0);
                        match leaving {
                            Leaving::Reoffer(aside) => {
                                prop_assert_eq!(aside.payload, oldest.0);
                                prop_assert!(now < oldest.3, "past its deadline");
                                let overdue = now >= oldest.4 + ttl;
                                prop_assert_eq!(aside.is_overdue, overdue);
                                prop_assert!(overdue || pressure < 0.7);
                                if asked % refused == 0 {
                                    match deferral.put_back(aside) {
                                        None => {
                                            prop_assert!(!overdue);
                                            list.insert(0, oldest);
                                            break;
                                        }
                                        Some(Leaving::Spill(_)) => {
                                            prop_assert!(overdue && spill);
                                            outside.entry(oldest.1).or_insert(oldest.0);
                                        }
                                        Some(Leaving::Expire(_)) => prop_assert!(overdue && !spill),
                                        Some(Leaving::Reoffer(_)) => prop_assert!(false),
                                    }
                                } else if per_key {
                                    prop_assert!(!outside.contains_key(&oldest.1), "overtook");
                                    let before = passed.insert(oldest.1, oldest.0);
                                    prop_assert!(before.is_none_or(|before| before < oldest.0));
                                }
                            }
                            Leaving::Spill(aside) => {
                                prop_assert_eq!(aside.payload, oldest.0);
                                prop_assert!(spill && per_key);
                                outside.entry(oldest.1).or_insert(oldest.0);
                            }
                            Leaving::Expire(aside) => {
                                prop_assert_eq!(aside.payload, oldest.0);
                                prop_assert!(now >= oldest.3);
                            }
                        }
                    }
                    let stale = list.first().is_some_and(|one| now >= (one.4 + ttl).min(one.3));
                    prop_assert!(!stale || asked > 0);
                }
                Step::Remove(nth) => {
                    let out = deferral.remove(|aside| aside.payload % nth == 0);
                    let before = list.len();
                    list.retain(|one| one.0 % nth != 0);
                    prop_assert_eq!(out.len(), before - list.len());
                }
                Step::Emptied => {
                    deferral.spill_is_empty();
                    outside.clear();
                }
            }
            let held: u64 = list.iter().map(|one| one.2).sum();
            let seen = deferral.snapshot();
            prop_assert_eq!((seen.items, seen.bytes), (list.len(), held));
            prop_assert!(seen.items <= items && (held <= bytes || seen.items == 1));
        }
        let seen = deferral.snapshot();
        let came: u64 = seen.deferred.iter().sum::<u64>() + seen.put_back;
        let went = seen.reoffered + seen.spilled + seen.expired + seen.removed;
        prop_assert_eq!(came, went + seen.items as u64, "conservation");
    }
}
