//! Tests alone: drives an operator by hand, call by call, in a time that stands still until it is
//! told to go on.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::{Context, Control, Demand, Fill, Held, Input, Operator, Spawn, Stage, Turn};
use crate::chunk::{Chunk, Element, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::Outcome;
use crate::time::{self, Clock, Time};

/// A clock that is set by hand.
#[derive(Default)]
pub(super) struct HandClock {
    now_ns: AtomicU64,
    timers: Mutex<BTreeMap<u64, (Time, Waker)>>,
    number: AtomicU64,
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time::from_nanos(self.now_ns.load(Ordering::Relaxed))
    }

    fn wake_at(&self, at: Time, waker: &Waker) -> u64 {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.timers
            .lock()
            .unwrap()
            .insert(number, (at, waker.clone()));
        number
    }

    fn forget(&self, timer: u64) {
        self.timers.lock().unwrap().remove(&timer);
    }

    fn work(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }

    #[cfg(feature = "testkit")]
    fn step(&self, _: Time) -> bool {
        false
    }

    fn lacks_tokio(&self) {}
}

impl HandClock {
    /// The next time at which somebody wants to be woken, none later than `until`.
    fn next(&self, until: Time) -> Option<Time> {
        let timers = self.timers.lock().unwrap();
        timers
            .values()
            .map(|(at, _)| *at)
            .filter(|at| *at <= until)
            .min()
    }

    fn set(&self, now: Time) {
        self.now_ns.store(now.as_nanos(), Ordering::Relaxed);
        let mut timers = self.timers.lock().unwrap();
        timers.retain(|_, (at, waker)| {
            if *at <= now {
                waker.wake_by_ref();
            }
            *at > now
        });
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct NoSpawn;

impl Spawn for NoSpawn {
    fn spawn(&self, name: &str, _: Pin<Box<dyn Future<Output = ()> + Send>>) {
        unreachable!("{name} is not to be started in a rig");
    }
}

/// What upstream does next.
pub(super) enum Event<T> {
    Element { value: T, bytes: u64 },
    Mark(Mark),
    Stop,
}

/// What was asked of the scripted upstream, and when it gave what.
#[derive(Default, Debug)]
pub(super) struct Record {
    /// The time at which each element was taken.
    pub(super) taken_at: Vec<Time>,
    /// When the end was told.
    pub(super) ended_at: Option<Time>,
    pub(super) cancelled: bool,
}

/// An upstream that has its elements at given times, and then completes.
struct Script<T> {
    events: VecDeque<(Time, Event<T>)>,
    record: Arc<Mutex<Record>>,
    timer: time::Sleep,
}

impl<T: Send> Operator<T> for Script<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let now = time::now();
        let mut record = self.record.lock().unwrap();
        while self.events.front().is_some_and(|(at, _)| *at <= now) {
            let is_element = matches!(self.events.front(), Some((_, Event::Element { .. })));
            if is_element && out.len() >= want.items {
                return Ok(if out.is_empty() {
                    Fill::Pending
                } else {
                    Fill::More
                });
            }
            if !is_element && !out.is_empty() {
                return Ok(Fill::More);
            }
            match self.events.pop_front() {
                Some((_, Event::Element { value, bytes })) => {
                    let too_heavy = out.bytes() + bytes > want.bytes && !out.is_empty();
                    if too_heavy {
                        let back = Event::Element { value, bytes };
                        self.events.push_front((now, back));
                        return Ok(Fill::More);
                    }
                    let meta = Meta {
                        bytes,
                        ..Meta::default()
                    };
                    out.push(Element { value, meta });
                    record.taken_at.push(now);
                }
                Some((_, Event::Mark(mark))) => return Ok(Fill::Mark(mark)),
                Some((_, Event::Stop)) => return Err(Stop::error("as planned")),
                None => {}
            }
        }
        let Some((at, _)) = self.events.front() else {
            record.ended_at.get_or_insert(now);
            return Ok(Fill::Done);
        };
        self.timer.reset(*at);
        let _ = Pin::new(&mut self.timer).poll(cx.task());
        Ok(Fill::Pending)
    }

    fn control(&mut self, _: &mut Context<'_, '_>, signal: Control) {
        self.record.lock().unwrap().cancelled |= signal == Control::Cancel;
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

/// An operator between a scripted upstream and a downstream that is played by the test.
pub(super) struct Rig<U> {
    input: Input<U>,
    stage: Arc<Stage>,
    sink: Stage,
    turn: Turn,
    clock: Arc<HandClock>,
    flag: Arc<Flag>,
    pub(super) record: Arc<Mutex<Record>>,
    /// What was handed on, with the time.
    pub(super) out: Vec<(U, Time)>,
    /// Groups or elements still asked for.
    pub(super) demand: usize,
    pub(super) marks: Vec<(Mark, usize)>,
    pub(super) ended: Option<Result<(), Stop>>,
    pub(super) held_peak: usize,
}

impl<U: Send + 'static> Rig<U> {
    pub(super) fn new<T, O>(
        events: Vec<(Time, Event<T>)>,
        make: impl FnOnce(Input<T>) -> O,
    ) -> Rig<U>
    where
        T: Send + 'static,
        O: Operator<U> + 'static,
    {
        let record = Arc::new(Mutex::new(Record::default()));
        let script = Script {
            events: events.into(),
            record: Arc::clone(&record),
            timer: time::sleep_until(Time::ZERO),
        };
        let clock = Arc::new(HandClock::default());
        let _guard = time::enter(Arc::clone(&clock) as Arc<dyn Clock>);
        let source = Arc::new(Stage::new(1, true, false));
        let stage = Arc::new(Stage::new(2, false, false));
        let operator = make(Input::new(Box::new(script), source));
        Rig {
            input: Input::new(Box::new(operator), Arc::clone(&stage)),
            stage,
            sink: Stage::new(3, false, false),
            turn: Turn::new(Arc::new(NoSpawn)),
            clock,
            flag: Arc::default(),
            record,
            out: Vec::new(),
            demand: 0,
            marks: Vec::new(),
            ended: None,
            held_peak: 0,
        }
    }

    /// Asks for that many more, as a sink does that has become ready.
    pub(super) fn ask(&mut self, count: usize) {
        self.demand += count;
        self.poll();
    }

    /// Lets time go on. The operator is called when it was woken, and at no other time.
    pub(super) fn advance(&mut self, span: Duration) {
        let until = self.clock.now() + span;
        while let Some(at) = self.clock.next(until) {
            self.clock.set(at);
            if self.flag.0.load(Ordering::Relaxed) {
                self.poll();
            }
        }
        self.clock.set(until);
    }

    /// What an island does in one turn.
    pub(super) fn poll(&mut self) {
        let _guard = time::enter(Arc::clone(&self.clock) as Arc<dyn Clock>);
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut task = std::task::Context::from_waker(&waker);
        self.turn.now.set(time::now());
        while self.ended.is_none() {
            self.flag.0.store(false, Ordering::Relaxed);
            let mut cx = Context::new(&mut task, &self.sink, &self.turn);
            let mut chunk = Chunk::default();
            let fill = self
                .input
                .fill(&mut cx, &mut chunk, Demand::items(self.demand));
            self.demand -= chunk.len();
            self.held_peak = self.held_peak.max(self.input.held().items);
            for element in chunk.drain() {
                cx.settle(element.meta, Outcome::Delivered);
                self.out.push((element.value, time::now()));
            }
            match fill {
                Ok(Fill::More) => {}
                Ok(Fill::Mark(mark)) => self.marks.push((mark, self.out.len())),
                Ok(Fill::Done) => self.ended = Some(Ok(())),
                Err(stop) => self.ended = Some(Err(stop)),
                Ok(Fill::Pending) if self.flag.0.load(Ordering::Relaxed) => {}
                Ok(Fill::Pending) => return,
            }
        }
    }

    pub(super) fn cancel(&mut self) {
        let _guard = time::enter(Arc::clone(&self.clock) as Arc<dyn Clock>);
        let mut task = std::task::Context::from_waker(Waker::noop());
        let mut cx = Context::new(&mut task, &self.sink, &self.turn);
        self.input.control(&mut cx, Control::Cancel);
    }

    /// Elements the operator lost (positive) or doubled (negative).
    pub(super) fn missing(&self) -> i64 {
        self.stage.ledger.counts().missing()
    }
}
