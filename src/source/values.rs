//! Sources of values at hand.

use std::future::Future;
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream;

use crate::error::{BoxError, Stop};
use crate::flow::Flow;
use crate::operator::sources::failed::Failed;
use crate::operator::sources::iter::Iter;
use crate::operator::sources::stream::StreamSource;
use crate::operator::sources::tick::{Tick, TickSource};
use crate::topology::NodeSpec;

/// The elements of an iterator, which is asked for as many as are wanted and no more.
///
/// - *emits when* there is demand.
/// - *back-pressures when* there is none: the iterator rests.
/// - *completes when* the iterator ends; a panic of it stops the run.
/// - *cancels when* downstream cancels: the iterator is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one loop over the iterator a chunk.
///
/// # Example
/// ```
/// use forebay::source;
///
/// assert_eq!(source::iter(1..=3).collect().block_on()?, [1, 2, 3]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn iter<I>(iter: I) -> Flow<I::Item>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Send + 'static,
{
    let iter = iter.into_iter();
    let spec = NodeSpec::from("iter");
    let spec = match iter.size_hint() {
        (_, Some(_)) => spec.ends(),
        _ => spec,
    };
    Flow::from_source(spec, Iter::new(iter))
}

/// The elements of any stream, which is polled only while there is demand.
///
/// - *emits when* the stream is ready and there is demand.
/// - *back-pressures when* there is no demand: the stream is not polled.
/// - *completes when* the stream ends; a panic of it stops the run.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one poll of the stream an element.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let flow = source::stream(futures_util::stream::iter([1, 2]));
/// assert_eq!(flow.collect().block_on()?, [1, 2]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn stream<S>(stream: S) -> Flow<S::Item>
where
    S: Stream + Send + 'static,
    S::Item: Send + 'static,
{
    Flow::from_source("stream", StreamSource::new(stream))
}

/// Elements made one after the other by a future each, from a state that goes on: a cursor, the next
/// page. The future gives the next state and an element, or `None` at the end.
///
/// - *emits when* the future is ready.
/// - *back-pressures when* there is no demand: the next future is not started.
/// - *completes when* a future gives `None`; a panic stops the run.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one future an element.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let flow = source::unfold_async(0, |n| async move { (n < 3).then_some((n + 1, n * n)) });
/// assert_eq!(flow.collect().block_on()?, [0, 1, 4]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn unfold_async<S, T, F, Fut>(state: S, f: F) -> Flow<T>
where
    S: Send + 'static,
    T: Send + 'static,
    F: FnMut(S) -> Fut + Send + 'static,
    Fut: Future<Output = Option<(S, T)>> + Send + 'static,
{
    // The stream takes (element, state); a source reads better the other way round.
    let mut f = f;
    let step = move |state| {
        let next = f(state);
        async move { next.await.map(|(state, value)| (value, state)) }
    };
    Flow::from_source(
        "unfold_async",
        StreamSource::new(stream::unfold(state, step)),
    )
}

/// A tick each interval, the first at once. Ticks for which there is no demand are not kept: of
/// several that are due the last is handed over, and it says how many were missed. The rhythm stays
/// that of the clock.
///
/// - *emits when* a tick is due and there is demand.
/// - *back-pressures when* there is no demand: ticks pass, and [`Tick::missed`] counts them.
/// - *completes when* never, but by a drain or a cancellation.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* a timer.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::source;
///
/// let ticks = source::tick(Duration::from_millis(1)).take(3).collect().block_on()?;
/// assert_eq!(ticks[0].number, 0);
/// assert_eq!(ticks[2].number, 2 + ticks[1].missed + ticks[2].missed);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn tick(interval: Duration) -> Flow<Tick> {
    Flow::from_source("tick", TickSource::new(interval))
}

/// One value again and again, as often as it is asked for.
///
/// - *emits when* there is demand.
/// - *back-pressures when* there is none.
/// - *completes when* never, but by a drain or a cancellation.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* a clone an element.
///
/// # Example
/// ```
/// use forebay::source;
///
/// assert_eq!(source::repeat("a").take(2).collect().block_on()?, ["a", "a"]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn repeat<T: Clone + Send + 'static>(value: T) -> Flow<T> {
    Flow::from_source("repeat", Iter::new(std::iter::repeat(value)))
}

/// No elements.
///
/// - *emits when* never.
/// - *back-pressures when* never.
/// - *completes when* it is asked first.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* never.
/// - *holds* nothing.
/// - *costs* nothing.
///
/// # Example
/// ```
/// use forebay::source;
///
/// assert!(source::empty::<u8>().collect().block_on()?.is_empty());
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn empty<T: Send + 'static>() -> Flow<T> {
    Flow::from_source("empty", Iter::new(std::iter::empty()))
}

/// An error, and no elements.
///
/// - *emits when* never.
/// - *back-pressures when* never.
/// - *completes when* never: it stops the run when it is asked first.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* never.
/// - *holds* nothing.
/// - *costs* nothing.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let error = source::failed::<u8>("no such table").collect().block_on().unwrap_err();
/// assert_eq!(error.to_string(), "stage `failed`: no such table");
/// ```
pub fn failed<T: Send + 'static>(error: impl Into<BoxError>) -> Flow<T> {
    Flow::from_source("failed", Failed::new(Stop::error(error)))
}

/// What comes through a channel of tokio. What is still in the channel when the run ends is left there
/// and dropped with the receiver; it never came in.
///
/// - *emits when* a value is in the channel and there is demand.
/// - *back-pressures when* there is no demand: the channel fills up.
/// - *completes when* all senders are gone and the channel is empty.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one receive an element.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let (sender, receiver) = tokio::sync::mpsc::channel(4);
/// sender.try_send(1).unwrap();
/// drop(sender);
/// assert_eq!(source::tokio_mpsc(receiver).collect().block_on()?, [1]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn tokio_mpsc<T: Send + 'static>(mut receiver: tokio::sync::mpsc::Receiver<T>) -> Flow<T> {
    let stream = stream::poll_fn(move |task| receiver.poll_recv(task));
    Flow::from_source("tokio_mpsc", StreamSource::new(stream))
}

/// What comes through an `async_channel`, which other receivers may share. What is still in the channel
/// when the run ends is left there.
///
/// - *emits when* a value is in the channel and there is demand.
/// - *back-pressures when* there is no demand: the channel fills up.
/// - *completes when* all senders are gone or the channel is closed, and it is empty.
/// - *cancels when* downstream cancels: it is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one receive an element.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let (sender, receiver) = async_channel::bounded(4);
/// sender.try_send(1).unwrap();
/// drop(sender);
/// assert_eq!(source::async_channel(receiver).collect().block_on()?, [1]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn async_channel<T: Send + 'static>(receiver: async_channel::Receiver<T>) -> Flow<T> {
    Flow::from_source("async_channel", StreamSource::new(receiver))
}
