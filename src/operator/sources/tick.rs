//! A source of ticks.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::operator::{Context, Demand, Fill, Source};
use crate::time::{self, Sleep, Time};

/// One tick of [`source::tick`](crate::source::tick()).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// Its number by the clock: 0 for the first; missed ticks have numbers too.
    pub number: u64,
    /// When it was due.
    pub at: Time,
    /// How many ticks before it were missed since the last that was handed over.
    pub missed: u64,
}

pub(crate) struct TickSource {
    interval: Duration,
    /// The number of the next tick, and the timer for it: set at the first demand.
    next: u64,
    timer: Option<Sleep>,
}

impl TickSource {
    pub(crate) fn new(interval: Duration) -> TickSource {
        TickSource {
            interval: interval.max(Duration::from_nanos(1)),
            next: 0,
            timer: None,
        }
    }
}

impl Source<Tick> for TickSource {
    type Position = ();

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Tick>,
        positions: &mut Vec<()>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if want.is_none() {
            return Ok(Fill::Pending);
        }
        let timer = self
            .timer
            .get_or_insert_with(|| time::sleep_until(cx.clock()));
        if Pin::new(&mut *timer).poll(cx.task()).is_pending() {
            return Ok(Fill::Pending);
        }
        // Of several that are due only the last is handed over: a tick says what time it is.
        let due = timer.deadline();
        let late = cx.clock().since(due).as_nanos() / self.interval.as_nanos();
        let missed = u64::try_from(late).unwrap_or(u64::MAX);
        let span = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let at = Time::from_nanos(due.as_nanos().saturating_add(span.saturating_mul(missed)));
        out.push_value(Tick {
            number: self.next + missed,
            at,
            missed,
        });
        positions.push(());
        self.next += missed + 1;
        timer.reset(at + self.interval);
        Ok(Fill::More)
    }
}
