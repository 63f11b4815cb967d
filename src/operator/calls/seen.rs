//! What was seen of the calls of a stage, between two readings of the clock and since it was told last.

use std::collections::VecDeque;
use std::time::Duration;

use super::aloft::Aloft;
use super::begun::How;
use crate::control::{Call, Pass, Sample};
use crate::time::Time;

#[derive(Default)]
pub(super) struct State {
    /// By what the elements were let through that passed the gate and whose calls have not begun yet:
    /// in their order.
    pub(super) passes: VecDeque<(Pass, usize)>,
    /// Elements that have ended: their places are free.
    pub(super) freed: usize,
    /// When the clock was read last, and how often it was.
    pub(super) looked: Time,
    looks: u64,
    /// Calls that began since then.
    begun: usize,
    /// Of those, the ones in flight.
    fresh: usize,
    /// The other calls in flight.
    aloft: Aloft,
    pub(super) in_flight: usize,
    /// What ended since then.
    pub(super) ended: Vec<Ended>,
    /// What was seen of calls that limit and admission were not told of yet.
    seen: Seen,
}

/// A call that has ended.
pub(super) struct Ended {
    pub(super) pass: Option<Pass>,
    begun: Start,
    how: How,
    /// What it took, once the clock was read.
    service_ns: u64,
}

/// When a call began: at which reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    at: Time,
    look: u64,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) sample: Sample,
    /// What the calls took that say something about the service time.
    service_ns: u64,
    /// What all calls took that ended.
    pub(super) busy_ns: u64,
    pub(super) well: u64,
}

impl State {
    /// The clock was read: what began and ended since the last reading took the time between.
    ///
    /// Of calls that began *and* ended there each takes its part of that time: they ran one after the
    /// other, in this task, and only their sum is known.
    pub(super) fn look(&mut self, now: Time) {
        let now = now.max(self.looked);
        let now_ns = now.as_nanos();
        let part_ns = (now_ns - self.looked.as_nanos()) / self.begun.max(1) as u64;
        for one in &mut self.ended {
            one.service_ns = if one.begun.look == self.looks {
                part_ns
            } else {
                now_ns - one.begun.at.as_nanos()
            };
            self.seen.add(one.how, one.service_ns);
        }
        self.aloft
            .begin(self.looked, std::mem::take(&mut self.fresh));
        self.begun = 0;
        self.looked = now;
        self.looks += 1;
    }

    /// What was seen since it was asked last.
    pub(super) fn sample(&mut self, now: Time) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        let answered = seen.sample.answered().max(1) as u64;
        seen.sample.service = Duration::from_nanos(seen.service_ns / answered);
        seen.sample.in_flight = self.in_flight;
        seen.sample.oldest = now.since(self.aloft.oldest().unwrap_or(now));
        self.seen.sample.in_flight_peak = self.in_flight;
        seen
    }

    /// By what the next element that passed the gate is let through.
    pub(super) fn next_pass(&mut self) -> Option<Pass> {
        let (pass, left) = self.passes.front_mut()?;
        let pass = *pass;
        *left -= 1;
        if *left == 0 {
            self.passes.pop_front();
        }
        Some(pass)
    }

    /// A call begins.
    fn start(&mut self) -> Start {
        self.begun += 1;
        let peak = &mut self.seen.sample.in_flight_peak;
        *peak = (*peak).max(self.in_flight + 1);
        Start {
            at: self.looked,
            look: self.looks,
        }
    }

    /// A call begins, and is in flight.
    pub(super) fn take_off(&mut self) -> Start {
        let start = self.start();
        self.fresh += 1;
        self.in_flight += 1;
        start
    }

    /// A call that was in flight has ended.
    pub(super) fn land(&mut self, pass: Option<Pass>, start: Start, how: How, frees: bool) {
        self.in_flight -= 1;
        if start.look == self.looks {
            self.fresh -= 1;
        } else {
            self.aloft.end(start.at);
        }
        self.end(pass, start, how, frees);
    }

    /// A call has begun and ended.
    pub(super) fn end_at_once(&mut self, how: How, frees: bool) {
        let (pass, start) = (self.next_pass(), self.start());
        self.end(pass, start, how, frees);
    }

    fn end(&mut self, pass: Option<Pass>, begun: Start, how: How, frees: bool) {
        self.freed += usize::from(frees);
        self.ended.push(Ended {
            pass,
            begun,
            how,
            service_ns: 0,
        });
    }
}

impl Seen {
    fn add(&mut self, how: How, service_ns: u64) {
        if how == How::Abandoned {
            return;
        }
        self.busy_ns += service_ns;
        self.sample.count += 1;
        match how {
            How::Dropped => self.sample.drops += 1,
            How::Failure => self.sample.failures += 1,
            How::Success | How::Abandoned => self.well += 1,
        }
        if how != How::Dropped {
            self.service_ns += service_ns;
        }
    }
}

impl Ended {
    pub(super) fn call(&self) -> Call {
        let service = Duration::from_nanos(self.service_ns);
        match self.how {
            How::Success => Call::Success(service),
            How::Failure | How::Dropped => Call::Failure(service),
            How::Abandoned => Call::Abandoned,
        }
    }
}
