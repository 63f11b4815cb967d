//! `for_each_async`: a future for each element, delivered when it has ended.

use std::future::Future;
use std::task::Poll;

use crate::chunk::{Chunk, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::in_flight::InFlight;
use crate::operator::{Context, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};

/// How many rounds of futures that wake themselves one call may poll.
const ROUNDS: usize = 8;

pub(crate) struct ForEachAsync<F, Fut> {
    f: F,
    flight: InFlight<Fut, Meta>,
}

impl<F, Fut: Future<Output = ()>> ForEachAsync<F, Fut> {
    pub(crate) fn new(concurrency: usize, f: F) -> ForEachAsync<F, Fut> {
        ForEachAsync {
            f,
            flight: InFlight::new(concurrency),
        }
    }

    /// Settles what has ended, and has the task woken when more does.
    fn drive(&mut self, cx: &mut Context<'_, '_>) {
        for _ in 0..ROUNDS {
            self.flight
                .poll_woken(|one| cx.settle(one.meta, outcome(&one.result)));
            if self.flight.sleep(cx.waker()) {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }
}

fn outcome(result: &Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Delivered,
        Err(_) => Outcome::Failed(Reason::Panicked),
    }
}

impl<T, F, Fut> Sink<T> for ForEachAsync<F, Fut>
where
    T: Send,
    F: FnMut(T) -> Fut + Send,
    Fut: Future<Output = ()> + Send,
{
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.drive(cx);
        match self.flight.room() {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for element in chunk.drain() {
            let mut meta = Some(element.meta);
            let f = &mut self.f;
            let result = self
                .flight
                .start(|| f(element.value), || (0, meta.take().unwrap_or_default()));
            if let (Some(result), Some(meta)) = (result, meta) {
                cx.settle(meta, outcome(&result));
            }
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Rewind(source, _) = mark {
            let of = |_, meta: &Meta| meta.receipt.is_of(*source);
            let rewound = Outcome::Cancelled(Reason::Rewound);
            self.flight.cancel(of, |_, meta| cx.settle(meta, rewound));
            return Poll::Ready(Ok(()));
        }
        self.poll_ended(cx).map(Ok)
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.poll_ended(cx).map(Ok)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        self.flight
            .cancel(|_, _| true, |_, meta| cx.settle(meta, outcome));
    }

    fn held(&self) -> Held {
        Held::items(self.flight.running())
    }
}

impl<F, Fut: Future<Output = ()>> ForEachAsync<F, Fut> {
    /// Ready when nothing is in flight.
    fn poll_ended(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        self.drive(cx);
        if self.flight.running() == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
