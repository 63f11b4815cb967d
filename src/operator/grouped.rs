//! `grouped` and `grouped_within`: many elements to one, a vector.
//!
//! When a group is closed is decided by [`BatchWindow`]; here are the elements, the timer and the
//! demand. With a window of time the stage gathers whether or not it is asked for groups, because a
//! group's time runs from its first element: up to one closed group that waits, and the one that
//! gathers behind it. Without one it takes elements in only when a group is asked for.
//!
//! A group is closed by marks, by completion and by failure, and handed on before them.

use std::task::Poll;
use std::time::Duration;

use super::intake::{Intake, Took};
use super::pace::{Pace, Patience};
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Element, Meta, Queue};
use crate::control::{BatchLimits, BatchWindow, Room};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::time::{Sleep, Time, poll_until};

pub(crate) struct Grouped<T> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// The elements of the closed groups, and behind them those of the open one.
    held: Queue<T>,
    window: BatchWindow,
    timer: Option<Sleep>,
    pace: Pace,
    /// Gathers without being asked.
    ahead: bool,
    weighs: bool,
}

impl<T> Grouped<T> {
    pub(crate) fn new(input: Input<T>, limits: BatchLimits) -> Grouped<T> {
        Grouped {
            intake: Intake::new(input),
            buf: Chunk::default(),
            held: Queue::default(),
            window: BatchWindow::new(limits),
            timer: None,
            pace: Pace::default(),
            ahead: limits.window() != Duration::MAX,
            weighs: limits.max_bytes() != u64::MAX,
        }
    }

    fn size(&self, meta: &Meta) -> u64 {
        match (self.weighs, meta.bytes) {
            (false, _) => 0,
            (true, 0) => size_of::<T>() as u64 + meta.origin.as_ref().map_or(0, |o| o.len() as u64),
            (true, bytes) => bytes,
        }
    }

    fn arrive(&mut self, now: Time) {
        if self.weighs {
            for (bytes, count) in self.buf.columns.sizes(size_of::<T>()) {
                self.window.arrive(now, count, bytes);
            }
        } else {
            self.window.arrive(now, self.buf.len(), 0);
        }
        self.held.append(&mut self.buf);
    }

    /// Hands on closed groups, as many as are asked for. False if the next one is too heavy.
    fn emit(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<Vec<T>>, want: Demand) -> bool {
        let weighed = want.bytes != u64::MAX;
        let mut bytes = if weighed { out.bytes() } else { 0 };
        while out.len() < want.items
            && let Some(count) = self.window.front()
        {
            if weighed {
                bytes = bytes.saturating_add(self.held.front_bytes(count));
                if bytes > want.bytes && !out.is_empty() {
                    return false;
                }
            }
            self.window.emit();
            let mut group = Chunk::default();
            self.held.move_front(count, &mut group);
            let meta = cx.merge_front(&mut group.columns, count);
            out.push(Element {
                value: group.values,
                meta,
            });
        }
        true
    }

    /// What to ask for while that many groups are wanted.
    fn ask(&mut self, cx: &Context<'_, '_>, wanted: usize) -> Demand {
        if wanted == 0 && !self.ahead {
            return Demand::NONE;
        }
        let Room { items, bytes } = self.window.room(wanted);
        Demand {
            items: items.min(self.pace.start(cx)),
            bytes,
        }
    }

    /// Closes the open group if its time is up; the task is woken when it will be.
    fn poll_timer(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let Some(at) = self.window.deadline() else {
            return Poll::Pending;
        };
        poll_until(&mut self.timer, at, cx.task()).map(|()| self.window.tick(cx.clock().max(at)))
    }

    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let (mut kept, mut gone) = (Queue::default(), Chunk::default());
        let mut held = std::mem::take(&mut self.held);
        let mut window = self.window.clone();
        window.retain(|| {
            let element = held.pop()?;
            if element.meta.receipt.is_of(source) {
                gone.push(element);
                return None;
            }
            let bytes = self.size(&element.meta);
            kept.push(element);
            Some(bytes)
        });
        (self.window, self.held) = (window, kept);
        cx.settle_chunk(&mut gone, Outcome::Cancelled(Reason::Rewound));
    }
}

impl<T: Send> Operator<Vec<T>> for Grouped<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Vec<T>>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        let mut count = 0;
        loop {
            // Elements arrive at the time they are asked for: a group is never late by the time
            // that stages fused before this one take.
            let now = cx.clock();
            if count > 0 {
                self.pace.note(now, count);
            }
            self.window.tick(now);
            let fits = self.emit(cx, out, want);
            if self.intake.is_due(self.window.held_items() == 0) {
                return self.intake.deliver(out);
            }
            let mut wanted = if fits { want.items - out.len() } else { 0 };
            if want.bytes != u64::MAX {
                // Groups that turn out too heavy would have to be held: one at a time.
                wanted = wanted.min(1);
            }
            if wanted == 0 && !out.is_empty() {
                return Ok(Fill::More);
            }
            let ask = self.ask(cx, wanted);
            let took = self.intake.fill(cx, &mut self.buf, ask);
            count = self.buf.len();
            if count > 0 {
                self.arrive(now);
            }
            match took {
                Took::More if out.is_empty() && patience.is_over(cx) => {
                    // Groups that are whole would be held beside the one that gathers.
                    self.emit(cx, out, want);
                    return Ok(if out.is_empty() {
                        Fill::Pending
                    } else {
                        Fill::More
                    });
                }
                Took::More => {}
                Took::Pending if count > 0 => {}
                Took::Pending if self.poll_timer(cx).is_ready() => {}
                Took::Pending => return Ok(Fill::Pending),
                Took::Rewound(source) => self.rewind(cx, source),
                Took::Ended => {
                    self.window.flush();
                    if wanted == 0 && self.window.held_items() > 0 {
                        return Ok(Fill::Pending);
                    }
                }
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.window.clear();
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.held.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.held.len(),
            bytes: self.window.held_bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::rig::{Event, Rig};
    use super::*;
    use crate::mark::{Barrier, CommitToken, Mark};
    use crate::position::Epoch;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(after_ms: u64) -> Time {
        Time::ZERO + ms(after_ms)
    }

    fn element(after_ms: u64, value: u64) -> (Time, Event<u64>) {
        (at(after_ms), Event::Element { value, bytes: 1 })
    }

    fn rig(events: Vec<(Time, Event<u64>)>, limits: BatchLimits) -> Rig<Vec<u64>> {
        Rig::new(events, |input| Grouped::new(input, limits))
    }

    fn groups(rig: &Rig<Vec<u64>>) -> Vec<(Vec<u64>, u64)> {
        let in_ms = |time: Time| time.as_nanos() / 1_000_000;
        rig.out
            .iter()
            .map(|(group, time)| (group.clone(), in_ms(*time)))
            .collect()
    }

    #[test]
    fn a_timer_of_an_earlier_group_does_not_cut_a_later_one() {
        let events = vec![element(0, 1), element(9, 2), element(9, 3), element(100, 4)];
        let mut rig = rig(events, BatchLimits::new(2, ms(10)));
        rig.ask(10);
        rig.advance(ms(99));
        assert_eq!(groups(&rig), [(vec![1, 2], 9), (vec![3], 19)], "not at 10");
        rig.advance(ms(1));
        assert_eq!(groups(&rig)[2], (vec![4], 100), "upstream completed");
        assert_eq!(rig.ended.as_ref().map(Result::is_ok), Some(true));
        assert_eq!(rig.missing(), 0);
    }

    #[test]
    fn without_demand_two_groups_are_closed_and_then_nothing_more_is_taken() {
        let events = (0..100).map(|n| element(n, n)).collect();
        let mut rig = rig(events, BatchLimits::new(50, ms(10)));
        rig.poll();
        rig.advance(ms(90));
        assert!(rig.out.is_empty());
        assert_eq!(
            rig.record.lock().unwrap().taken_at.len(),
            20,
            "two windows of time"
        );
        assert_eq!(rig.held_peak, 20);
        rig.ask(1);
        assert_eq!(groups(&rig), [((0..10).collect(), 90)]);
        rig.ask(1);
        assert_eq!(groups(&rig)[1], ((10..20).collect(), 90));
        rig.cancel();
        assert!(rig.record.lock().unwrap().cancelled);
        assert_eq!(rig.missing(), 0);
    }

    #[test]
    fn a_barrier_a_failure_and_the_end_come_behind_what_arrived_before_them() {
        let source = SourceId::new(7);
        let barrier = || Mark::Barrier(Barrier::new(CommitToken::new(source, Epoch(0), ())));
        let mut events = vec![
            element(0, 1),
            element(0, 2),
            (at(0), Event::Mark(barrier())),
        ];
        events.extend([element(0, 3), (at(1), Event::Stop)]);
        let mut rig = rig(events, BatchLimits::new(50, ms(1000)));
        rig.poll();
        assert!(
            rig.marks.is_empty() && rig.out.is_empty(),
            "not before there is demand"
        );
        rig.ask(1);
        assert_eq!(groups(&rig), [(vec![1, 2], 0)]);
        assert_eq!(rig.marks.len(), 1);
        assert_eq!(rig.marks[0].1, 1, "behind one group");
        rig.advance(ms(5));
        assert!(
            rig.ended.is_none(),
            "the failure waits for what came before it"
        );
        rig.ask(1);
        assert_eq!(groups(&rig)[1], (vec![3], 5));
        assert!(rig.ended.as_ref().unwrap().is_err());
        assert_eq!(rig.missing(), 0);
    }

    #[test]
    fn a_rewind_does_not_wait_for_what_is_held() {
        let rewind = Mark::Rewind(SourceId::new(7), crate::position::Generation(1));
        let events = vec![element(0, 1), (at(0), Event::Mark(rewind)), element(1, 2)];
        let mut rig = rig(events, BatchLimits::new(50, ms(1000)));
        rig.poll();
        assert_eq!((rig.marks.len(), rig.out.len()), (1, 0), "without demand");
        rig.advance(ms(1));
        rig.ask(1);
        // The first is of another source: it stays, and its group stays open.
        assert_eq!(groups(&rig), [(vec![1, 2], 1)]);
        assert_eq!(rig.missing(), 0);
    }

    #[test]
    fn nothing_arrives_and_nothing_is_emitted() {
        let events = vec![(at(50), Event::Stop)];
        let mut rig = rig(events, BatchLimits::new(3, ms(1)));
        rig.ask(5);
        rig.advance(ms(50));
        assert!(rig.out.is_empty() && rig.ended.is_some());
    }

    proptest! {
        /// Each group is emitted at the very moment it is closed, or asked for if that is later; it
        /// is closed by what arrived alone, whatever the demand was.
        #[test]
        fn every_group_is_emitted_when_it_is_due_and_no_sooner(
            arrivals in proptest::collection::vec((0..7_u64, 1..9_u64), 0..50),
            steps in proptest::collection::vec((0..9_u64, 0..3_usize), 0..60),
            items in 1..7_usize,
            bytes in prop_oneof![Just(u64::MAX), 1..20_u64],
            within_ms in 1..12_u64,
            tail_ms in 0..20_u64,
        ) {
            let mut limits = BatchLimits::new(items, ms(within_ms));
            if bytes != u64::MAX {
                limits = limits.bytes(bytes);
            }
            let mut now = Time::ZERO;
            let mut weights = Vec::new();
            let mut events = Vec::new();
            for (value, (gap_ms, bytes)) in arrivals.into_iter().enumerate() {
                now = now + ms(gap_ms);
                weights.push(bytes);
                events.push((now, Event::Element { value: value as u64, bytes }));
            }
            // Upstream does not complete before the last group may have closed by time.
            events.push((now + ms(tail_ms), Event::Mark(Mark::Rewind(
                SourceId::new(9),
                crate::position::Generation(1),
            ))));
            let mut rig = Rig::new(events, |input| Grouped::new(input, limits));
            rig.poll();
            let mut asked_at = Vec::new();
            let mut clock = Time::ZERO;
            for (wait_ms, asked) in steps.into_iter().chain([(500, 200)]).chain([(500, 0)]) {
                clock = clock + ms(wait_ms);
                rig.advance(ms(wait_ms));
                asked_at.extend(std::iter::repeat_n(clock, asked));
                rig.ask(asked);
                prop_assert!(rig.held_peak <= 2 * items, "held {}", rig.held_peak);
            }
            prop_assert!(matches!(rig.ended, Some(Ok(()))));
            prop_assert_eq!(rig.missing(), 0);
            let record = rig.record.lock().unwrap();
            let taken = &record.taken_at;
            prop_assert_eq!(taken.len(), weights.len());
            let mut first = 0;
            for (number, (group, emitted_at)) in rig.out.iter().enumerate() {
                let next = first + group.len();
                prop_assert_eq!(group, &(first as u64..next as u64).collect::<Vec<_>>());
                prop_assert!(!group.is_empty() && group.len() <= items);
                let weight: u64 = weights[first..next].iter().sum();
                prop_assert!(weight <= bytes || group.len() == 1);
                let due = taken[first] + ms(within_ms);
                prop_assert!(taken[next - 1] < due);
                let closed_at = if group.len() == items || weight >= bytes {
                    taken[next - 1]
                } else if next < weights.len() && weight + weights[next] > bytes {
                    taken[next].min(due)
                } else if next < weights.len() {
                    prop_assert!(taken[next] >= due, "cut too soon, before {next}");
                    due
                } else {
                    due.min(record.ended_at.unwrap())
                };
                prop_assert_eq!(*emitted_at, closed_at.max(asked_at[number]), "group {}", number);
                first = next;
            }
            prop_assert_eq!(first, weights.len(), "elements were lost");
        }
    }
}
