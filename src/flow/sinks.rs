//! Where flows end.

use super::{Flow, Pipeline};
use crate::error::BoxError;
use crate::operator::Sink;
use crate::operator::sinks::file::{self, FileSink, OutFile, Written};
use crate::operator::sinks::for_each::Fold;
use crate::operator::sinks::futures_sink::{self, FuturesSink};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Ends the flow in a sink of one's own; the pipeline's output is what the sink shows at the end.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* the sink says so.
    /// - *completes when* upstream completes and the sink has closed.
    /// - *cancels when* the sink wants no more.
    /// - *settles when* the sink settles them.
    /// - *holds* what the sink holds; declare it by `to_stage`.
    /// - *costs* what the sink costs.
    ///
    /// # Example
    /// ```
    /// use std::task::Poll;
    /// use forebay::chunk::Chunk;
    /// use forebay::error::Stop;
    /// use forebay::operator::{Context, Demand, Sink};
    /// use forebay::outcome::Outcome;
    /// use forebay::source;
    ///
    /// struct Count(usize);
    ///
    /// impl Sink<u64> for Count {
    ///     type Output = usize;
    ///     fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
    ///         Poll::Ready(Ok(Some(Demand::items(16))))
    ///     }
    ///     fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
    ///         self.0 += chunk.len();
    ///         cx.settle_chunk(chunk, Outcome::Delivered);
    ///     }
    ///     fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<usize, Stop>> {
    ///         Poll::Ready(Ok(self.0))
    ///     }
    /// }
    ///
    /// assert_eq!(source::iter(0..100).to(Count(0)).block_on()?, 100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn to<S: Sink<T> + 'static>(self, sink: S) -> Pipeline<S::Output> {
        self.to_named(NodeSpec::new("sink"), sink)
    }

    /// Ends the flow in a sink of one's own that declares more than its kind: what it holds, whether
    /// it runs threads.
    pub fn to_stage<S: Sink<T> + 'static>(
        self,
        spec: impl Into<NodeSpec>,
        sink: S,
    ) -> Pipeline<S::Output> {
        self.to_named(spec.into(), sink)
    }

    pub(crate) fn to_named<S: Sink<T> + 'static>(
        self,
        spec: NodeSpec,
        sink: S,
    ) -> Pipeline<S::Output> {
        let stage = self.plan.add(spec, &[&self.stage], false);
        self.plan.close(&stage);
        let (plan, output) = self.end_island(sink, stage.clone());
        Pipeline::new(plan, stage, output)
    }

    /// Runs a closure on each value, which delivers it.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* its closure is busy: elements are taken a chunk at a time.
    /// - *completes when* upstream completes.
    /// - *cancels when* it never does.
    /// - *settles when* the closure has returned: delivered; if it panics: failed, and the next ones go on.
    /// - *holds* nothing.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// source::iter(1..=3).for_each(move |n| sender.send(n).unwrap()).block_on()?;
    /// assert_eq!(receiver.iter().sum::<i32>(), 6);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn for_each<F: FnMut(T) + Send + 'static>(self, mut f: F) -> Pipeline<()> {
        let sink = Fold::new((), move |(): &mut (), value| f(value));
        self.to_named(NodeSpec::new("for_each"), sink)
    }

    /// Changes a state by each value, which delivers it; the pipeline's output is the last state.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* its closure is busy: elements are taken a chunk at a time.
    /// - *completes when* upstream completes.
    /// - *cancels when* it never does.
    /// - *settles when* the closure has returned: delivered; if it panics: failed, and the state is used on.
    /// - *holds* the state.
    /// - *costs* a call an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// assert_eq!(source::iter(1..=4).fold(1, |product, n| *product *= n).block_on()?, 24);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn fold<S, F>(self, state: S, f: F) -> Pipeline<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        self.to_named(NodeSpec::new("fold"), Fold::new(state, f))
    }

    /// Collects all values. The one sink without a bound: for tests and small results.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* never.
    /// - *completes when* upstream completes.
    /// - *cancels when* it never does.
    /// - *settles when* they were taken: delivered.
    /// - *holds* all values, as its output.
    /// - *costs* a move an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// assert_eq!(source::iter(1..=3).collect().block_on()?, [1, 2, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn collect(self) -> Pipeline<Vec<T>> {
        let sink = Fold::new(Vec::new(), |all: &mut Vec<T>, value| all.push(value));
        self.to_named(NodeSpec::new("collect"), sink)
    }

    /// Delivers each value to nobody.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* never.
    /// - *completes when* upstream completes.
    /// - *cancels when* it never does.
    /// - *settles when* they were dropped: delivered.
    /// - *holds* nothing.
    /// - *costs* a drop an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// source::iter(1..=3).ignore().block_on()?;
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn ignore(self) -> Pipeline<()> {
        self.to_named(
            NodeSpec::new("ignore"),
            Fold::new((), |(): &mut (), value| drop(value)),
        )
    }

    /// Appends each value to a file: a path is a file of lines, [`OutFile`] says more. The output tells
    /// what was written. A thread of its own writes.
    ///
    /// When a source goes back, its elements that have gathered are dropped and come again; what the
    /// thread has got is written all the same, and comes a second time.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* 1024 elements have gathered while others are being written.
    /// - *completes when* upstream completes and all is written.
    /// - *cancels when* it never does.
    /// - *settles when* its bytes were written (and synced, where declared): delivered.
    /// - *holds* at most 2048 elements.
    /// - *costs* a thread; a copy of the bytes, a write a batch.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("numbers");
    /// let written = source::iter(["one", "two"]).to_file(&path).block_on()?;
    /// assert_eq!(written.records, 2);
    /// assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn to_file(self, file: impl Into<OutFile>) -> Pipeline<Written>
    where
        T: AsRef<[u8]>,
    {
        let mut spec = NodeSpec::new("to_file").holds(file::HOLDS);
        spec.threads = true;
        self.to_named(spec, FileSink::new(file.into()))
    }

    /// Sends each value into any sink of the `futures` crates. An error of it stops the run.
    ///
    /// When a source goes back, its elements that wait here are dropped and come again; what the sink
    /// has got, flushed or not, stays, and comes a second time.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* the sink is not ready.
    /// - *completes when* upstream completes and the sink is closed.
    /// - *cancels when* it never does.
    /// - *settles when* the sink was flushed: delivered.
    /// - *holds* at most 1280 elements: a chunk to be sent, and what is not flushed.
    /// - *costs* what the sink costs.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (sender, receiver) = futures_channel();
    /// source::iter(1..=3).to_futures_sink(sender).block_on()?;
    /// assert_eq!(receiver.collect(), [1, 2, 3]);
    /// # use std::sync::{Arc, Mutex};
    /// # struct Receiver(Arc<Mutex<Vec<i32>>>);
    /// # impl Receiver { fn collect(self) -> Vec<i32> { self.0.lock().unwrap().clone() } }
    /// # fn futures_channel() -> (impl futures_util::Sink<i32, Error = std::convert::Infallible> + Send, Receiver) {
    /// #     let all = Arc::new(Mutex::new(Vec::new()));
    /// #     let keep = Arc::clone(&all);
    /// #     (futures_util::sink::unfold((), move |(), n| {
    /// #         keep.lock().unwrap().push(n);
    /// #         async { Ok(()) }
    /// #     }), Receiver(all))
    /// # }
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn to_futures_sink<S>(self, sink: S) -> Pipeline<()>
    where
        S: futures_util::Sink<T> + Send + 'static,
        S::Error: Into<BoxError>,
    {
        let spec = NodeSpec::new("futures_sink").holds(futures_sink::HOLDS);
        self.to_named(spec, FuturesSink::new(sink, false))
    }

    /// Sends each value into a channel of tokio.
    ///
    /// When a source goes back, its elements that wait here are dropped and come again; one that is
    /// being sent stays, and comes a second time.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* the channel is full.
    /// - *completes when* upstream completes and all is sent; the sender is dropped then.
    /// - *cancels when* the receiver is gone.
    /// - *settles when* the channel has taken it: delivered.
    /// - *holds* at most a chunk and one element.
    /// - *costs* a send an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
    /// source::iter(1..=3).to_tokio_mpsc(sender).block_on()?;
    /// assert_eq!(receiver.blocking_recv(), Some(1));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn to_tokio_mpsc(self, sender: tokio::sync::mpsc::Sender<T>) -> Pipeline<()> {
        let sink = futures_util::sink::unfold(sender, |sender, value| async move {
            sender.send(value).await.map_err(|_| Gone)?;
            Ok::<_, Gone>(sender)
        });
        let spec = NodeSpec::new("tokio_mpsc").holds(futures_sink::HOLDS);
        self.to_named(spec, FuturesSink::new(sink, true))
    }

    /// Sends each value into an `async_channel`.
    ///
    /// When a source goes back, its elements that wait here are dropped and come again; one that is
    /// being sent stays, and comes a second time.
    ///
    /// - *emits when* never: elements end here.
    /// - *back-pressures when* the channel is full.
    /// - *completes when* upstream completes and all is sent; the sender is dropped then.
    /// - *cancels when* the channel is closed or its receivers are gone.
    /// - *settles when* the channel has taken it: delivered.
    /// - *holds* at most a chunk and one element.
    /// - *costs* a send an element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let (sender, receiver) = async_channel::bounded(8);
    /// source::iter(1..=3).to_async_channel(sender).block_on()?;
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn to_async_channel(self, sender: async_channel::Sender<T>) -> Pipeline<()> {
        let sink = futures_util::sink::unfold(sender, |sender, value| async move {
            sender.send(value).await.map_err(|_| Gone)?;
            Ok::<_, Gone>(sender)
        });
        let spec = NodeSpec::new("async_channel").holds(futures_sink::HOLDS);
        self.to_named(spec, FuturesSink::new(sink, true))
    }
}

/// The receiver of a channel is gone.
#[derive(Debug, thiserror::Error)]
#[error("the receiver is gone")]
struct Gone;
