//! Pages: sixty-four to one, kept, retired and used again; counts and declarations.

use super::signal::Signal;
use super::*;

#[test]
fn neighbours_share_a_page_even_when_the_first_of_them_are_settled() {
    let tracker = tracker(1000);
    let first = issue(&tracker, 0..3);
    for place in &first {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.settled().sequence, 3);
    let second = issue(&tracker, 3..65);
    assert!(Arc::ptr_eq(&first[0].0, &second[0].0));
    assert!(Arc::ptr_eq(&first[0].0, &second[60].0));
    assert!(!Arc::ptr_eq(&first[0].0, &second[61].0), "the 65th");
    for place in &second {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.settled().sequence, 65);
    assert!(tracker.walker().counts().balances());
}

#[test]
fn an_epoch_that_is_settled_is_passed_while_the_next_goes_on() {
    let tracker = tracker(1000);
    let first = issue(&tracker, 0..3);
    tracker.barrier();
    let second = issue(&tracker, 3..6);
    settle(&second[0], Outcome::Delivered);
    for place in &first {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.settled().sequence, 4);
    assert_eq!(tracker.walker().counts().unsettled(), 2);
}

#[test]
fn a_steady_flow_makes_no_pages() {
    let tracker = tracker(1000);
    let mut next = 0;
    let mut some = |chunks: u64| {
        for _ in 0..chunks {
            let until = next + 128;
            tracker.issue(next..until, |page, mask| {
                page.settle(mask, Outcome::Delivered, 9);
            });
            next = until;
            assert_eq!(tracker.settled().sequence, until);
        }
    };
    some(100);
    let info = allocation_counter::measure(|| some(100));
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_page_used_again_knows_nothing_of_what_it_held() {
    let tracker = tracker(1000);
    tracker.issue(0..64, |page, mask| {
        page.classify(mask, Class::LOW);
        page.settle(mask, Outcome::Delivered, 9);
    });
    let _ = tracker.settled();
    tracker.barrier();
    let places = issue(&tracker, 64..128);
    assert_eq!(places[0].0.epoch(), Epoch(1));
    assert_eq!(tracker.settled().sequence, 64);
    settle(&places[63], Outcome::Failed(Reason::Error));
    assert_eq!(tracker.take_unresolved().unwrap().sequence, 127);
    let counts = tracker.walker().counts();
    assert_eq!(counts.classes[Class::LOW.index()].total(), 64);
    assert_eq!(counts.classes[Class::COUNT].total(), 64);
}

#[test]
fn every_class_and_every_kind_is_counted_on_its_own() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..56);
    for (number, place) in places.iter().enumerate() {
        let class = Class::new((number / 7) as u8).unwrap();
        place.0.classify(place.1, class);
        settle(place, Outcome::of(Kind::ALL[number % 7], Reason::Plain));
    }
    let counts = tracker.walker().counts();
    for class in 0..Class::COUNT {
        assert_eq!(counts.classes[class].outcomes, [1; Kind::COUNT]);
    }
    assert_eq!(counts.classes[Class::COUNT].total(), 0);
}

#[test]
fn the_words_above_the_position_are_as_many_as_it_takes() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..200);
    for place in &places[..70] {
        settle(place, Outcome::Delivered);
    }
    let (settled, words) = tracker.settled_above();
    assert_eq!((settled.sequence, settled.position), (70, Some(69)));
    assert_eq!(words, [0, 0, 0], "130 elements, all open");
    settle(&places[199], Outcome::Delivered);
    assert_eq!(tracker.settled_above().1, [0, 0, 0b10]);
}

#[test]
fn accounts_of_sources_add_up() {
    let account = |scale: u64| {
        let mut counts = SourceCounts {
            entered: scale,
            replayed: 2 * scale,
            resumed: 3 * scale,
            doubled: 4 * scale,
            rewinds: 7 * scale,
            diverted: 8 * scale,
            ..SourceCounts::default()
        };
        counts.classes[2].outcomes[Kind::Shed as usize] = 5 * scale;
        counts.classes[2].unsettled = 6 * scale;
        counts
    };
    let mut sum = account(1);
    sum.add(&account(10));
    assert_eq!(sum, account(11));
    assert_eq!(sum.classes[2].total(), 121);
    assert_eq!((sum.outcome(Kind::Shed), sum.unsettled()), (55, 66));
}

#[test]
fn an_account_with_a_doubled_element_never_balances() {
    let mut counts = SourceCounts::default();
    assert!(counts.balances());
    counts.entered = 1;
    assert!(!counts.balances());
    counts.classes[0].unsettled = 1;
    assert!(counts.balances());
    counts.doubled = 1;
    assert!(!counts.balances());
}

#[test]
fn what_is_not_passed_is_reported_but_for_what_was_cancelled() {
    let told = |passes: Passes| {
        Kind::ALL.map(|kind| match (passes.contains(kind), passes.reports(kind)) {
            (true, false) => 'p',
            (false, true) => 'r',
            (false, false) => '-',
            (true, true) => unreachable!("what is passed needs no answer"),
        })
    };
    assert_eq!(
        told(Passes::resolved()),
        ['p', 'p', 'p', 'r', 'r', '-', 'r']
    );
    let lossy = ['p', 'p', 'p', 'p', 'p', '-', 'r'];
    assert_eq!(told(Passes::resolved().loss()), lossy);
    assert_eq!(told(Passes::resolved().loss().loss()), lossy);
    assert_eq!(told(Passes::all()), ['p'; 7]);
}

#[test]
fn what_is_dropped_ends_for_the_reason_its_source_ends_for() {
    let signal = Signal::new(SourceId::new(0), Passes::resolved());
    assert_eq!(signal.dropped(), Outcome::Failed(Reason::Abandoned));
    for reason in Reason::ALL {
        signal.end(*reason);
        assert_eq!(signal.dropped(), Outcome::Cancelled(*reason));
    }
}
