//! A boundary by class with both of its sides driven by hand, call by call, in simulated time.
#![allow(clippy::unwrap_used)]

mod aside;
mod ends;
mod model;
mod room;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{ClassBuffer, ClassQueueSnapshot, ClassSink, ClassSource, Policies, by_class};
use crate::boundary::by_hand::{NoSpawn, Task};
use crate::chunk::{Chunk, Element};
use crate::class::Class;
use crate::control::{Aging, PrioritySettings};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator, Sink, Stage, Turn};
use crate::outcome::Outcome;
use crate::position::{Generation, SourceId};
use crate::receipt::Receipt;
use crate::testkit::Simulation;

const MS: Duration = Duration::from_millis(1);
const HIGH: Class = Class::HIGH;
const MEDIUM: Class = Class::MEDIUM;
const LOW: Class = Class::LOW;

/// What the consumer got.
#[derive(Debug)]
enum Got {
    Values(Vec<u64>),
    Pending,
    Done,
    Mark,
    Stopped(Stop),
}

impl Got {
    #[track_caller]
    fn values(self) -> Vec<u64> {
        match self {
            Got::Values(values) => values,
            other => panic!("no values, but {other:?}"),
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Got::Pending)
    }
}

/// Both sides, and what becomes of the elements.
struct Pair {
    sink: ClassSink<u64>,
    source: ClassSource<u64>,
    buffer: ClassBuffer,
    stage: Arc<Stage>,
    turn: Turn,
    producer: Arc<Task>,
    consumer: Arc<Task>,
    /// Values with how they ended, in the order of their ends.
    ends: Arc<Mutex<Vec<(u64, Outcome)>>>,
}

fn room_for(items: usize) -> PrioritySettings {
    PrioritySettings::items(items).aging(Aging::none())
}

fn in_simulation(run: impl Future<Output = ()> + Send + 'static) {
    Simulation::new(1).block_on(run).unwrap();
}

/// Elements of a class.
fn of(class: Class, values: impl IntoIterator<Item = u64>) -> Vec<Element<u64>> {
    weighing(class, 0, values)
}

/// Elements of a class, each of so many bytes.
fn weighing(class: Class, bytes: u64, values: impl IntoIterator<Item = u64>) -> Vec<Element<u64>> {
    let element = |value| {
        let mut element = Element::new(value);
        element.meta.class = Some(class);
        element.meta.bytes = bytes;
        element
    };
    values.into_iter().map(element).collect()
}

impl Pair {
    fn new(buffer: impl Into<ClassBuffer>) -> Pair {
        let buffer = buffer.into();
        let stage = Arc::new(Stage::new(1, false, false));
        let policies = Policies::new(&buffer, true).unwrap();
        let (sink, source) = by_class(policies, &buffer.view(), &stage, None);
        Pair {
            sink,
            source,
            buffer,
            stage,
            turn: Turn::new(Arc::new(NoSpawn)),
            producer: Arc::default(),
            consumer: Arc::default(),
            ends: Arc::default(),
        }
    }

    fn at_sink<R>(&mut self, f: impl FnOnce(&mut ClassSink<u64>, &mut Context<'_, '_>) -> R) -> R {
        let waker = Waker::from(Arc::clone(&self.producer));
        let mut task = std::task::Context::from_waker(&waker);
        f(
            &mut self.sink,
            &mut Context::new(&mut task, &self.stage, &self.turn),
        )
    }

    fn at_source<R>(
        &mut self,
        f: impl FnOnce(&mut ClassSource<u64>, &mut Context<'_, '_>) -> R,
    ) -> R {
        let waker = Waker::from(Arc::clone(&self.consumer));
        let mut task = std::task::Context::from_waker(&waker);
        f(
            &mut self.source,
            &mut Context::new(&mut task, &self.stage, &self.turn),
        )
    }

    /// What the producer may hand over: `None` if nothing more is wanted.
    fn ready(&mut self) -> Poll<Option<Demand>> {
        self.at_sink(ClassSink::poll_ready).map(Result::unwrap)
    }

    /// How many elements the producer may hand over; 0 if it must wait.
    #[track_caller]
    fn credit(&mut self) -> usize {
        match self.ready() {
            Poll::Ready(demand) => demand.expect("more is wanted").items,
            Poll::Pending => 0,
        }
    }

    /// Hands over a chunk.
    fn send(&mut self, elements: Vec<Element<u64>>) {
        let mut chunk = Chunk::default();
        for mut element in elements {
            let (ends, value) = (Arc::clone(&self.ends), element.value);
            element.meta.receipt =
                Receipt::on_settle(move |end| ends.lock().unwrap().push((value, end)));
            chunk.push(element);
        }
        self.at_sink(|sink, cx| sink.accept(cx, &mut chunk));
        assert!(chunk.is_empty(), "it takes all it is given");
    }

    fn mark(&mut self) -> Poll<()> {
        let mark = Mark::Rewind(SourceId::new(0), Generation(1));
        let told = self.at_sink(|sink, cx| sink.mark(cx, &mark));
        told.map(Result::unwrap)
    }

    /// Asks for that, and delivers what comes.
    fn fill(&mut self, want: Demand) -> Got {
        let mut chunk = Chunk::default();
        let fill = self.at_source(|source, cx| source.fill(cx, &mut chunk, want));
        let values = chunk.values().to_vec();
        self.at_source(|_, cx| cx.settle_chunk(&mut chunk, Outcome::Delivered));
        match fill {
            Ok(Fill::More) => {
                assert!(!values.is_empty() && values.len() <= want.items);
                Got::Values(values)
            }
            Ok(Fill::Pending) => Got::Pending,
            Ok(Fill::Done) => Got::Done,
            Ok(Fill::Mark(_)) => Got::Mark,
            Err(stop) => Got::Stopped(stop),
        }
    }

    fn take(&mut self, items: usize) -> Got {
        self.fill(Demand::items(items))
    }

    fn control(&mut self, signal: Control) {
        self.at_source(|source, cx| source.control(cx, signal));
    }

    fn close(&mut self) -> Poll<()> {
        self.at_sink(Sink::poll_close).map(Result::unwrap)
    }

    /// What ended other than by delivery since this was last asked.
    fn lost(&mut self) -> Vec<(u64, Outcome)> {
        let ends = std::mem::take(&mut *self.ends.lock().unwrap());
        ends.into_iter()
            .filter(|(_, end)| *end != Outcome::Delivered)
            .collect()
    }

    /// What is inside, as both sides and the account of the stage see it without the lock.
    #[track_caller]
    fn held(&self) -> Held {
        let held = self.sink.held();
        assert_eq!(held, self.source.held());
        assert_eq!(held.items as u64, self.stage.ledger.held());
        held
    }

    fn snapshot(&self) -> ClassQueueSnapshot {
        self.buffer.view().snapshot().unwrap()
    }
}
