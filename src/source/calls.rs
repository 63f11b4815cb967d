//! A pipeline as a service: calls come in as elements that carry their answer's way back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};
use tower_service::Service;

use super::queue::{Offered, Queue, queue};
use crate::flow::Flow;

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The pipeline has ended, or was never run.
    #[error("the pipeline has ended")]
    Closed,
    /// The pipeline dropped the call: its element was filtered, failed or cancelled.
    #[error("the pipeline dropped the call")]
    Dropped,
}

/// A request on its way through a pipeline.
#[derive(Debug)]
pub struct Call<Req, Resp> {
    /// What was asked.
    pub request: Req,
    /// Where the answer goes.
    pub reply: Reply<Resp>,
}

/// The way back. Dropping it tells the caller [`CallError::Dropped`].
pub struct Reply<Resp> {
    answer: oneshot::Sender<Resp>,
    /// The place of the call: free for the next once this is gone.
    _place: OwnedSemaphorePermit,
}

impl<Resp> fmt::Debug for Reply<Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<Resp> Reply<Resp> {
    /// Answers. The answer comes back if the caller is gone.
    ///
    /// # Errors
    /// Nobody waits for it any more.
    pub fn send(self, answer: Resp) -> Result<(), Resp> {
        self.answer.send(answer)
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Calls a pipeline: a `tower::Service`. It is ready while fewer calls than its capacity are
/// inside. Clone it for each caller.
pub struct Calls<Req, Resp> {
    queue: Queue<Call<Req, Resp>>,
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    acquiring: Option<Acquire>,
}

impl<Req, Resp> Clone for Calls<Req, Resp> {
    fn clone(&self) -> Self {
        Calls {
            queue: self.queue.clone(),
            places: Arc::clone(&self.places),
            place: None,
            acquiring: None,
        }
    }
}

impl<Req, Resp> fmt::Debug for Calls<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("free", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

impl<Req: Send + 'static, Resp: Send + 'static> Service<Req> for Calls<Req, Resp> {
    type Response = Resp;
    type Error = CallError;
    type Future = Answer<Resp>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if self.place.is_some() {
            return Poll::Ready(Ok(()));
        }
        let places = &self.places;
        let acquiring = self
            .acquiring
            .get_or_insert_with(|| Box::pin(Arc::clone(places).acquire_owned()));
        let place = ready!(acquiring.as_mut().poll(task));
        self.acquiring = None;
        self.place = Some(place.map_err(|_| CallError::Closed)?);
        Poll::Ready(Ok(()))
    }

    /// Sends a request in. Without a [`Calls::poll_ready`] before it that was ready, it takes a place
    /// if there is one, and is dropped otherwise.
    fn call(&mut self, request: Req) -> Answer<Resp> {
        let place = match self.place.take() {
            Some(place) => place,
            None => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => return Answer(Err(CallError::Dropped)),
            },
        };
        let (answer, answered) = oneshot::channel();
        let reply = Reply {
            answer,
            _place: place,
        };
        match self.queue.try_offer(Call { request, reply }) {
            Offered::Enqueued => Answer(Ok(answered)),
            Offered::Dropped(..) => Answer(Err(CallError::Dropped)),
            Offered::Failed(..) | Offered::Closed(_) => Answer(Err(CallError::Closed)),
        }
    }
}

/// The answer to come.
#[derive(Debug)]
pub struct Answer<Resp>(Result<oneshot::Receiver<Resp>, CallError>);

impl<Resp> Future for Answer<Resp> {
    type Output = Result<Resp, CallError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answered) => Pin::new(answered)
                .poll(task)
                .map_err(|_| CallError::Dropped),
            Err(error) => Poll::Ready(Err(*error)),
        }
    }
}

/// A pipeline as a `tower::Service`: calls of at most that many requests at once, and the flow of
/// what was asked. Its sink, or whatever stage knows the answer, sends it by [`Reply::send`].
///
/// - *emits when* a call came and there is demand.
/// - *back-pressures when* as many calls as its capacity are unanswered: the service is not ready.
/// - *completes when* the last [`Calls`] is dropped, or the run is told to drain.
/// - *cancels when* downstream cancels: callers get [`CallError::Dropped`], later ones
///   [`CallError::Closed`].
/// - *settles when* its elements are settled downstream.
/// - *holds* nothing that has come in; as many calls as its capacity wait before it.
/// - *costs* two allocations a call.
///
/// # Example
/// ```
/// use forebay::source;
/// use std::future::poll_fn;
/// use tower_service::Service;
///
/// let runtime = tokio::runtime::Runtime::new().unwrap();
/// runtime.block_on(async {
///     let (mut calls, flow) = source::calls::<u64, u64>(16);
///     let mut running = flow
///         .for_each(|call| {
///             let _ = call.reply.send(call.request + 1);
///         })
///         .run()
///         .unwrap();
///     poll_fn(|task| calls.poll_ready(task)).await.unwrap();
///     assert_eq!(calls.call(1).await, Ok(2));
///     drop(calls);
///     running.join().await.unwrap();
/// });
/// ```
pub fn calls<Req, Resp>(capacity: usize) -> (Calls<Req, Resp>, Flow<Call<Req, Resp>>)
where
    Req: Send + 'static,
    Resp: Send + 'static,
{
    let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
    let (queue, flow) = queue(capacity);
    let calls = Calls {
        queue,
        places: Arc::new(Semaphore::new(capacity)),
        place: None,
        acquiring: None,
    };
    (calls, flow.named("calls"))
}
