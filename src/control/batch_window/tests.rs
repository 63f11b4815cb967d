//! Groups, judged by what a group is.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

#[derive(Clone, Debug)]
enum Step {
    /// Time goes on, and so many elements of that size arrive, as far as there is room.
    Arrive {
        after_ms: u64,
        count: usize,
        bytes: u64,
    },
    /// Time goes on, and the timer rings if it must.
    Wait {
        after_ms: u64,
    },
    Flush,
    /// Downstream takes up to so many groups.
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..8_u64, 1..12_usize, 0..9_u64)
            .prop_map(|(after_ms, count, bytes)| Step::Arrive { after_ms, count, bytes }),
        2 => (0..15_u64).prop_map(|after_ms| Step::Wait { after_ms }),
        1 => Just(Step::Flush),
        3 => (1..4_usize).prop_map(Step::Take),
    ];
    proptest::collection::vec(step, 0..80)
}

/// An element as the model sees it: when it came, how large it is, whether a flush came before.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    bytes: u64,
    flushes: usize,
}

proptest! {
    /// The groups are judged by what a group is, not by a second machine of the same make: they
    /// hold all elements in order, none is too large or too late, and none was cut too soon.
    #[test]
    fn groups_are_right_whatever_arrives_and_whenever_it_is_taken(
        steps in steps(),
        items in 1..7_usize,
        bytes in prop_oneof![Just(u64::MAX), 1..20_u64],
        within_ms in prop_oneof![Just(None), (1..12_u64).prop_map(Some)],
    ) {
        let within = within_ms.map_or(Duration::MAX, Duration::from_millis);
        let mut limits = BatchLimits::new(items, within);
        if bytes != u64::MAX {
            limits = limits.bytes(bytes);
        }
        let mut window = BatchWindow::new(limits);
        let mut now = Time::ZERO;
        let mut seen: Vec<Seen> = Vec::new();
        let mut groups: Vec<usize> = Vec::new();
        let mut closed_at: Vec<Time> = Vec::new();
        let mut flushes = 0;
        for step in steps {
            match step {
                Step::Arrive { after_ms, count, bytes: size } => {
                    now = now + Duration::from_millis(after_ms);
                    for _ in 0..count {
                        if window.room(0).items == 0 {
                            break;
                        }
                        window.arrive(now, 1, size);
                        seen.push(Seen { at: now, bytes: size, flushes });
                    }
                }
                Step::Wait { after_ms } => {
                    now = now + Duration::from_millis(after_ms);
                    window.tick(now);
                    prop_assert!(window.deadline().is_none_or(|at| at > now));
                }
                Step::Flush => {
                    window.flush();
                    flushes += 1;
                }
                Step::Take(count) => {
                    for _ in 0..count {
                        groups.extend(window.emit());
                    }
                }
            }
            prop_assert!(window.held_items() <= 2 * items, "held {}", window.held_items());
            closed_at.resize(groups.len() + window.ready(), now);
        }
        window.flush();
        groups.extend(std::iter::from_fn(|| window.emit()));
        closed_at.resize(groups.len(), now);
        prop_assert_eq!(window.held_items(), 0);
        prop_assert_eq!(window.held_bytes(), 0);
        let mut rest = &seen[..];
        for (index, (size, closed_at)) in groups.iter().zip(&closed_at).enumerate() {
            prop_assert!(*size > 0, "an empty group");
            let (group, later) = rest.split_at(*size);
            rest = later;
            let weight: u64 = group.iter().map(|one| one.bytes).sum();
            let due = group[0].at + within;
            prop_assert!(*size <= items);
            prop_assert!(weight <= bytes || *size == 1, "{weight} bytes in {size}");
            prop_assert!(group.iter().all(|one| one.at < due), "one came too late for its group");
            let last_group = index + 1 == groups.len();
            let next = later.first();
            let full = *size == items || weight >= bytes;
            let timed = within != Duration::MAX && *closed_at >= due;
            let cut_by_next = next.is_some_and(|next| {
                weight + next.bytes > bytes
                    || next.flushes > group[0].flushes
                    || (within != Duration::MAX && next.at >= due)
            });
            let flushed = flushes > group[group.len() - 1].flushes;
            prop_assert!(
                full || timed || cut_by_next || flushed || last_group,
                "group {index} of {group:?} was cut too soon, before {next:?}"
            );
        }
        prop_assert!(rest.is_empty(), "elements were lost");
    }

    #[test]
    fn a_run_of_alike_elements_is_cut_as_one_by_one(
        runs in proptest::collection::vec((0..40_usize, 0..9_u64), 0..20),
        items in 1..9_usize,
        bytes in prop_oneof![Just(u64::MAX), 1..30_u64],
    ) {
        let mut limits = BatchLimits::items(items);
        if bytes != u64::MAX {
            limits = limits.bytes(bytes);
        }
        let (mut whole, mut single) = (BatchWindow::new(limits), BatchWindow::new(limits));
        for (count, size) in runs {
            whole.arrive(Time::ZERO, count, size);
            (0..count).for_each(|_| single.arrive(Time::ZERO, 1, size));
        }
        whole.flush();
        single.flush();
        prop_assert_eq!(whole.held_bytes(), single.held_bytes());
        loop {
            let (one, other) = (whole.emit(), single.emit());
            prop_assert_eq!(one, other);
            if one.is_none() {
                break;
            }
        }
    }
}

#[test]
fn time_counts_from_the_first_element_of_each_group() {
    let mut window = BatchWindow::new(BatchLimits::new(2, Duration::from_millis(10)));
    window.arrive(at(0), 1, 0);
    window.arrive(at(9), 1, 0);
    assert_eq!(window.emit(), Some(2), "full");
    window.arrive(at(9), 1, 0);
    window.tick(at(10));
    assert_eq!(
        window.ready(),
        0,
        "the first group's time is nothing to the second"
    );
    assert_eq!(window.deadline(), Some(at(19)));
    window.tick(at(19));
    assert_eq!(window.emit(), Some(1));
    window.tick(at(1000));
    assert_eq!(window.ready(), 0, "no empty groups");
}

#[test]
fn an_element_that_does_not_fit_begins_the_next_group() {
    let mut window = BatchWindow::new(BatchLimits::items(100).bytes(10));
    for bytes in [4, 6, 7, 4, 11, 3] {
        window.arrive(Time::ZERO, 1, bytes);
    }
    window.flush();
    let groups: Vec<usize> = std::iter::from_fn(|| window.emit()).collect();
    assert_eq!(groups, [2, 1, 1, 1, 1], "4+6, 7, 4, 11 alone, 3");
}

#[test]
fn nothing_more_is_taken_in_behind_two_closed_groups() {
    let mut window = BatchWindow::new(BatchLimits::items(3));
    window.arrive(Time::ZERO, 3, 0);
    assert_eq!(
        window.room(0).items,
        3,
        "the next may gather behind one that waits"
    );
    window.arrive(Time::ZERO, 3, 0);
    assert_eq!(window.room(0).items, 0);
    assert_eq!(
        window.room(2).items,
        0,
        "what is asked for is there already"
    );
    assert_eq!(window.room(4).items, 6, "two groups more are asked for");
}

#[test]
fn elements_taken_out_leave_no_empty_group_behind() {
    let mut window = BatchWindow::new(BatchLimits::new(2, Duration::from_millis(5)).bytes(100));
    window.arrive(at(0), 5, 7);
    let mut number = 0;
    window.retain(|| {
        number += 1;
        (number == 3).then_some(7)
    });
    assert_eq!((window.held_items(), window.held_bytes()), (1, 7));
    assert_eq!(window.deadline(), None);
    assert_eq!(window.emit(), Some(1));
    assert_eq!(window.emit(), None);
}
