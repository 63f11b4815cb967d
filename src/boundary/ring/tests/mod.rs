//! A ring with both of its sides driven by hand, call by call.
#![allow(clippy::unwrap_used)]

mod credit;
mod ends;
mod shed;

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::{RingSink, RingSource, ring};
use crate::boundary::by_hand::{NoSpawn, Task};
use crate::boundary::{Buffer, WhenFull};
use crate::chunk::{Chunk, Element, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Operator, Sink, Stage, Turn};
use crate::outcome::Outcome;
use crate::position::{Generation, SourceId};
use crate::receipt::Receipt;

/// What the consumer got.
#[derive(Debug)]
enum Got {
    Values(Vec<u64>),
    Pending,
    Done,
    /// A rewind to that generation.
    Mark(u64),
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

    #[track_caller]
    fn stop(self) -> Stop {
        match self {
            Got::Stopped(stop) => stop,
            other => panic!("no stop, but {other:?}"),
        }
    }
}

/// Values with how they ended, in the order of their ends.
type Ends = Arc<Mutex<Vec<(u64, Outcome)>>>;

/// Both sides, and what becomes of the elements.
struct Pair {
    sink: RingSink<u64>,
    source: RingSource<u64>,
    stage: Arc<Stage>,
    turn: Turn,
    producer: Arc<Task>,
    consumer: Arc<Task>,
    ends: Ends,
}

impl Pair {
    fn new(buffer: Buffer) -> Pair {
        let stage = Arc::new(Stage::new(1, false, false));
        let (sink, source) = ring(buffer, &stage);
        Pair {
            sink,
            source,
            stage,
            turn: Turn::new(Arc::new(NoSpawn)),
            producer: Arc::default(),
            consumer: Arc::default(),
            ends: Ends::default(),
        }
    }

    fn that(when_full: WhenFull, items: usize) -> Pair {
        Pair::new(Buffer::items(items).when_full(when_full))
    }

    fn at_sink<R>(&mut self, f: impl FnOnce(&mut RingSink<u64>, &mut Context<'_, '_>) -> R) -> R {
        let waker = Waker::from(Arc::clone(&self.producer));
        let mut task = std::task::Context::from_waker(&waker);
        f(
            &mut self.sink,
            &mut Context::new(&mut task, &self.stage, &self.turn),
        )
    }

    fn at_source<R>(
        &mut self,
        f: impl FnOnce(&mut RingSource<u64>, &mut Context<'_, '_>) -> R,
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
        self.at_sink(RingSink::poll_ready).map(Result::unwrap)
    }

    /// How many elements the producer may hand over; 0 if it must wait.
    #[track_caller]
    fn credit(&mut self) -> usize {
        match self.ready() {
            Poll::Ready(demand) => demand.expect("more is wanted").items,
            Poll::Pending => 0,
        }
    }

    /// The same for a task that has not asked yet: nothing that was known before is used.
    #[track_caller]
    fn credit_anew(&mut self) -> usize {
        self.producer = Arc::default();
        self.credit()
    }

    /// Hands over a chunk of elements, each of that weight.
    fn send_weighed(&mut self, elements: impl IntoIterator<Item = (u64, u64)>) {
        let mut chunk = Chunk::default();
        for (value, bytes) in elements {
            let ends = Arc::clone(&self.ends);
            let meta = Meta {
                receipt: Receipt::on_settle(move |end| ends.lock().unwrap().push((value, end))),
                bytes,
                ..Meta::default()
            };
            chunk.push(Element { value, meta });
        }
        self.at_sink(|sink, cx| sink.accept(cx, &mut chunk));
        assert!(chunk.is_empty(), "the ring takes all it is given");
    }

    fn send(&mut self, values: impl IntoIterator<Item = u64>) {
        self.send_weighed(values.into_iter().map(|value| (value, 0)));
    }

    fn mark(&mut self, generation: u64) {
        let mark = Mark::Rewind(SourceId::new(0), Generation(generation));
        let told = self.at_sink(|sink, cx| sink.mark(cx, &mark));
        assert!(matches!(told, Poll::Ready(Ok(()))));
    }

    /// Takes at most so many elements, and delivers them.
    fn take(&mut self, items: usize) -> Got {
        let mut chunk = Chunk::default();
        let fill = self.at_source(|source, cx| source.fill(cx, &mut chunk, Demand::items(items)));
        let values = chunk.values().to_vec();
        self.at_source(|_, cx| cx.settle_chunk(&mut chunk, Outcome::Delivered));
        match fill {
            Ok(Fill::More) => {
                assert!(!values.is_empty() && values.len() <= items);
                Got::Values(values)
            }
            Ok(Fill::Pending) => Got::Pending,
            Ok(Fill::Done) => Got::Done,
            Ok(Fill::Mark(Mark::Rewind(_, generation))) => Got::Mark(generation.0),
            Ok(Fill::Mark(other)) => panic!("nobody sent {other:?}"),
            Err(stop) => Got::Stopped(stop),
        }
    }

    fn control(&mut self, signal: Control) {
        self.at_source(|source, cx| source.control(cx, signal));
    }

    /// What ended other than by delivery since this was last asked.
    fn lost(&mut self) -> Vec<(u64, Outcome)> {
        let ends = std::mem::take(&mut *self.ends.lock().unwrap());
        ends.into_iter()
            .filter(|(_, end)| *end != Outcome::Delivered)
            .collect()
    }

    /// How many elements are inside, as the account of the stage sees it.
    fn held(&self) -> u64 {
        self.stage.ledger.held()
    }
}
