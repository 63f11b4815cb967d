//! Where a flow is taken from by hand: as a stream, or by a subscription.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Flow, Pipeline};
use crate::error::{Refused, RunError};
use crate::operator::sinks::subscription::{Asking, Subscription, SubscriptionSink, subscription};
use crate::runtime::{Running, Snapshot};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Lets a consumer outside ask for elements: by hand, or ahead as [`Asking`] says. The
    /// subscription lives by the pipeline, which is to be run.
    ///
    /// - *emits when* elements were asked for and there are some: into the subscription.
    /// - *back-pressures when* nothing is asked for.
    /// - *completes when* upstream completes and all that is held was taken.
    /// - *cancels when* the subscription is cancelled or dropped.
    /// - *settles when* an element is taken: delivered.
    /// - *holds* at most the capacity of [`Asking`] (100 by default).
    /// - *costs* a lock an element on either side.
    ///
    /// # Example
    /// ```
    /// use forebay::sink::Asking;
    /// use forebay::source;
    ///
    /// let runtime = tokio::runtime::Runtime::new().unwrap();
    /// runtime.block_on(async {
    ///     let (mut numbers, pipeline) = source::iter(1..).into_subscription(Asking::by_hand(8));
    ///     let mut running = pipeline.run().unwrap();
    ///     numbers.request(2);
    ///     assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    ///     assert_eq!(numbers.next().await.unwrap().unwrap(), 2);
    ///     numbers.cancel();
    ///     running.join().await.unwrap();
    /// });
    /// ```
    pub fn into_subscription(self, asking: Asking) -> (Subscription<T>, Pipeline<()>) {
        let (publisher, subscription) = subscription(asking);
        let spec = NodeSpec::new("subscription").holds(asking.capacity());
        let stage = self.plan.add(spec, &[&self.stage], false);
        self.plan.close(&stage);
        let sink = SubscriptionSink::new(publisher);
        sink.attach(&stage);
        let (plan, output) = self.end_island(sink, stage.clone());
        (subscription, Pipeline::new(plan, stage, output))
    }

    /// Runs the flow as a stream, which asks for an element when it is polled. An error of the run
    /// is its last item. Dropping the stream aborts the run.
    ///
    /// - *emits when* the stream is polled and there is an element.
    /// - *back-pressures when* the stream is not polled.
    /// - *completes when* upstream completes.
    /// - *cancels when* the stream is dropped.
    /// - *settles when* an item is taken: delivered.
    /// - *holds* one element.
    /// - *costs* two turns of tasks an element: `buffer` before it does not help, chunks do.
    ///
    /// # Errors
    /// What is wrong with the declaration; it must be called within a tokio runtime.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use futures_util::StreamExt;
    ///
    /// let runtime = tokio::runtime::Runtime::new().unwrap();
    /// runtime.block_on(async {
    ///     let stream = source::iter(1..=3).into_stream().unwrap();
    ///     let all: Vec<i32> = stream.map(Result::unwrap).collect().await;
    ///     assert_eq!(all, [1, 2, 3]);
    /// });
    /// ```
    pub fn into_stream(self) -> Result<FlowStream<T>, Refused> {
        let (subscription, pipeline) = self.into_subscription(Asking::by_hand(1));
        Ok(FlowStream {
            subscription,
            state: StreamState::Running(Box::new(pipeline.run()?)),
        })
    }
}

type Ended = (Box<Running<()>>, Result<(), RunError>);

enum StreamState {
    Running(Box<Running<()>>),
    Ending(Pin<Box<dyn Future<Output = Ended> + Send>>),
    Ended(Box<Running<()>>),
    Moving,
}

/// A running flow as a stream: see [`Flow::into_stream`].
#[must_use = "dropping the stream aborts the run"]
pub struct FlowStream<T> {
    subscription: Subscription<T>,
    state: StreamState,
}

impl<T> fmt::Debug for FlowStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowStream")
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}

impl<T> FlowStream<T> {
    /// The accounts now; `None` while the end of the run is awaited.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        match &self.state {
            StreamState::Running(running) | StreamState::Ended(running) => Some(running.snapshot()),
            StreamState::Ending(_) | StreamState::Moving => None,
        }
    }
}

impl<T: Send + 'static> Stream for FlowStream<T> {
    type Item = Result<T, RunError>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                StreamState::Running(_) => {
                    if this.subscription.held() + this.subscription.outstanding() == 0 {
                        this.subscription.request(1);
                    }
                    // What stopped the run is told by the run, with the stage by name.
                    if let Some(Ok(value)) = ready!(this.subscription.poll_next(task)) {
                        return Poll::Ready(Some(Ok(value)));
                    }
                    let StreamState::Running(mut running) =
                        std::mem::replace(&mut this.state, StreamState::Moving)
                    else {
                        return Poll::Ready(None);
                    };
                    this.state = StreamState::Ending(Box::pin(async move {
                        let result = running.join().await;
                        (running, result)
                    }));
                }
                StreamState::Ending(ending) => {
                    let (running, result) = ready!(ending.as_mut().poll(task));
                    this.state = StreamState::Ended(running);
                    return Poll::Ready(result.err().map(Err));
                }
                StreamState::Ended(_) | StreamState::Moving => return Poll::Ready(None),
            }
        }
    }
}
