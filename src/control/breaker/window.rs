//! How the last calls ended: in a ring of calls, or of spans of time. A sample is O(1), the memory
//! is what was declared.

use std::time::Duration;

use super::settings::BreakerWindow;
use crate::time::Time;

/// Calls by how they ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: usize,
    pub(super) failed: usize,
    pub(super) slow: usize,
}

impl Tally {
    pub(super) fn one(failed: bool, slow: bool) -> Tally {
        Tally {
            calls: 1,
            failed: usize::from(failed),
            slow: usize::from(slow),
        }
    }

    fn add(&mut self, other: Tally) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    fn remove(&mut self, other: Tally) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

/// The calls of the last span, in buckets. What it holds is never older than the span, and reaches
/// back by all of it but one bucket.
#[derive(Clone, Debug)]
pub(super) struct SpanWindow {
    width_ns: u64,
    buckets: Box<[Tally]>,
    /// The newest bucket, counted from the start of the clock.
    newest: u64,
    sum: Tally,
}

impl SpanWindow {
    pub(super) fn new(span: Duration, buckets: usize) -> SpanWindow {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        SpanWindow {
            width_ns: (span_ns / buckets as u64).max(1),
            buckets: vec![Tally::default(); buckets].into(),
            newest: 0,
            sum: Tally::default(),
        }
    }

    /// Lets what is too old leave.
    pub(super) fn advance(&mut self, now: Time) {
        // Nearly always: no division then.
        if now < self.turns_at() {
            return;
        }
        let newest = now.as_nanos() / self.width_ns;
        let length = self.buckets.len() as u64;
        for index in (self.newest + 1..=newest).rev().take(self.buckets.len()) {
            if let Some(bucket) = self.buckets.get_mut((index % length) as usize) {
                self.sum.remove(std::mem::take(bucket));
            }
        }
        self.newest = newest;
    }

    pub(super) fn add(&mut self, now: Time, one: Tally) {
        self.advance(now);
        let place = (self.newest % self.buckets.len() as u64) as usize;
        if let Some(bucket) = self.buckets.get_mut(place) {
            bucket.add(one);
            self.sum.add(one);
        }
    }

    pub(super) fn sum(&self) -> Tally {
        self.sum
    }

    /// When the next bucket begins, and the oldest leaves.
    pub(super) fn turns_at(&self) -> Time {
        Time::from_nanos((self.newest + 1).saturating_mul(self.width_ns))
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(Tally::default());
        self.sum = Tally::default();
    }
}

/// The last so many calls.
#[derive(Clone, Debug)]
pub(super) struct CallWindow {
    /// 1 is failed, 2 is slow.
    calls: Box<[u8]>,
    next: usize,
    sum: Tally,
}

impl CallWindow {
    fn new(calls: usize) -> CallWindow {
        CallWindow {
            calls: vec![0; calls].into(),
            next: 0,
            sum: Tally::default(),
        }
    }

    /// One call, or several of which none failed or was slow, into a window without such calls: there all
    /// places are alike.
    fn add(&mut self, one: Tally) {
        let length = self.calls.len();
        if one.failed + one.slow + self.sum.failed + self.sum.slow == 0 {
            self.sum.calls = (self.sum.calls + one.calls).min(length);
            self.next = (self.next + one.calls) % length.max(1);
            return;
        }
        debug_assert_eq!(one.calls, 1, "several calls at once are all well");
        if let Some(place) = self.calls.get_mut(self.next) {
            if self.sum.calls == length {
                self.sum
                    .remove(Tally::one(*place & 1 != 0, *place & 2 != 0));
            }
            *place = u8::from(one.failed > 0) | u8::from(one.slow > 0) << 1;
            self.sum.add(one);
        }
        self.next = (self.next + 1) % length.max(1);
    }
}

/// The window of either kind.
#[derive(Clone, Debug)]
pub(super) enum Window {
    Calls(CallWindow),
    Span(SpanWindow),
}

impl Window {
    pub(super) fn new(window: BreakerWindow) -> Window {
        match window {
            BreakerWindow::Calls(calls) => Window::Calls(CallWindow::new(calls)),
            BreakerWindow::Span(span) => Window::Span(SpanWindow::new(span, 20)),
        }
    }

    pub(super) fn add(&mut self, now: Time, one: Tally) {
        match self {
            Window::Calls(window) => window.add(one),
            Window::Span(window) => window.add(now, one),
        }
    }

    pub(super) fn advance(&mut self, now: Time) {
        if let Window::Span(window) = self {
            window.advance(now);
        }
    }

    pub(super) fn sum(&self) -> Tally {
        match self {
            Window::Calls(window) => window.sum,
            Window::Span(window) => window.sum,
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Window::Calls(window) => *window = CallWindow::new(window.calls.len()),
            Window::Span(window) => window.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn total<'a>(of: impl Iterator<Item = &'a Tally>) -> Tally {
        of.fold(Tally::default(), |mut sum, one| {
            sum.add(*one);
            sum
        })
    }

    proptest! {
        #[test]
        fn a_count_window_holds_the_last_calls(
            length in 1..9_usize,
            ends in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut window = Window::new(BreakerWindow::Calls(length));
            let mut model = VecDeque::new();
            for (failed, slow) in ends {
                // Before the first that is not well, three at once.
                let well = model.iter().all(|one| *one == Tally::one(false, false));
                let calls = if well && !failed && !slow { 3 } else { 1 };
                let one = Tally { calls, ..Tally::one(failed, slow) };
                window.add(Time::ZERO, one);
                for _ in 0..calls {
                    model.push_back(Tally::one(failed, slow));
                    if model.len() > length {
                        model.pop_front();
                    }
                }
                prop_assert_eq!(window.sum(), total(model.iter()));
            }
        }

        /// Between what ended within the span less a bucket, and what ended within the span.
        #[test]
        fn a_time_window_holds_the_calls_of_its_span(
            span in 1..400_u64,
            ends in proptest::collection::vec((0..90_u64, any::<bool>(), any::<bool>()), 0..60),
        ) {
            let mut window = Window::new(BreakerWindow::Span(Duration::from_nanos(span)));
            let mut model: Vec<(u64, Tally)> = Vec::new();
            let mut now = 0;
            for (after, failed, slow) in ends {
                now += after;
                window.add(Time::from_nanos(now), Tally::one(failed, slow));
                model.push((now, Tally::one(failed, slow)));
                let width = (span / 20).max(1);
                let within = |age: u64| model.iter().filter(move |(at, _)| now - at < age).count();
                let calls = window.sum().calls;
                prop_assert!(calls >= within((width * 19).min(span)) && calls <= within(width * 20));
                prop_assert!(window.sum().failed <= calls && window.sum().slow <= calls);
            }
            window.advance(Time::from_nanos(now + 20 * span.max(20)));
            prop_assert_eq!(window.sum(), Tally::default());
        }
    }
}
