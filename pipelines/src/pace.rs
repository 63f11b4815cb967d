//! A stage of one's own: hands on so many elements a second at most.
//!
//! It asks for no more than the rate allows, so that the source is slowed down and nothing is queued
//! here. After a pause it makes up for a tenth of a second at most.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::Stop;
use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use forebay::time::{Sleep, Time, sleep_until};

/// The most that is made up for.
const BURST: Duration = Duration::from_millis(100);
/// How long it waits at least, so that many elements are handed on at once when the rate is high.
const TICK: Duration = Duration::from_millis(2);

/// Hands on `per_second` elements a second at most.
pub(crate) struct Pace<T> {
    input: Input<T>,
    each: Duration,
    /// When the next element may go.
    next: Option<Time>,
    timer: Sleep,
}

impl<T> Pace<T> {
    pub(crate) fn new(input: Input<T>, per_second: u32) -> Pace<T> {
        let each = Duration::from_secs(1) / per_second.max(1);
        Pace {
            input,
            each,
            next: None,
            timer: sleep_until(Time::ZERO),
        }
    }

    /// How many elements may go now.
    fn allowed(&mut self, now: Time) -> usize {
        let earliest = Time::from_nanos(now.as_nanos().saturating_sub(BURST.as_nanos() as u64));
        let next = self.next.map_or(now, |next| next.max(earliest));
        self.next = Some(next);
        if next > now {
            return 0;
        }
        (now.since(next).as_nanos() / self.each.as_nanos().max(1)) as usize + 1
    }
}

impl<T: Send> Operator<T> for Pace<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let now = cx.now();
        let demand = want.at_most(self.allowed(now));
        let fill = self.input.fill(cx, out, demand)?;
        if let Some(next) = &mut self.next {
            *next = *next + self.each * u32::try_from(out.len()).unwrap_or(u32::MAX);
        }
        if matches!(fill, Fill::Pending) && demand.is_none() && !want.is_none() {
            let next = self.next.unwrap_or(now).max(now + TICK);
            self.timer.reset(next);
            if Pin::new(&mut self.timer).poll(cx.task()).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn a_rate_is_kept() {
        let started = Instant::now();
        let all = forebay::source::iter(0..300)
            .stage("pace", |input| Pace::new(input, 1000))
            .collect()
            .block_on()
            .unwrap();
        assert_eq!(all.len(), 300);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(290), "{took:?}");
    }
}
