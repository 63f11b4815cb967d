//! Stages that make one element of many.

use std::future::Future;

use super::Flow;
use crate::control::{BatchHandle, BatchLimits, BatchSample};
use crate::operator::Calls;
use crate::operator::aggregate::Aggregate;
use crate::operator::batch::Batch;
use crate::operator::grouped::Grouped;
use crate::time;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Gathers that many elements into a vector; the last may have fewer. 0 is refused.
    ///
    /// - *emits when* so many elements arrived, or before a barrier, completion or failure of
    ///   upstream fewer, but one at least
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes and the last group was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* never: a group's receipt stands for all its elements
    /// - *holds* the group that gathers; one that is larger than the window of its source is refused
    /// - *costs* a vector for each group
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let pairs = source::iter(1..=5).grouped(2).collect().block_on()?;
    /// assert_eq!(pairs, [vec![1, 2], vec![3, 4], vec![5]]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn grouped(self, items: usize) -> Flow<Vec<T>> {
        let spec = NodeSpec::new("grouped")
            .changes_count()
            .holds(items)
            .gathers(items)
            .note(format!("{items} each"));
        let flow = self.then(spec, |input| Grouped::new(input, BatchLimits::items(items)));
        if items == 0 {
            flow.plan
                .refuse(&flow.stage, "a group has one element at least, not 0");
        }
        flow
    }

    /// Gathers elements into vectors by number, bytes and time, whichever is reached first.
    ///
    /// `(items, within)`, or [`BatchLimits`] for a limit of bytes as well. A group is closed with its
    /// last element, by the element that would exceed its bytes (which begins the next one), or when
    /// its time is up, which runs from its first element. Never is a group empty, and never does the
    /// time of one group cut the next.
    ///
    /// Without demand it never emits and never loses: the group that is closed waits, one more gathers
    /// behind it by the same rules, and then nothing more is taken in.
    ///
    /// - *emits when* a group is closed: by a limit, or before a barrier, completion or failure of
    ///   upstream
    /// - *back-pressures when* two groups are closed and downstream asks for none
    /// - *completes when* upstream completes and the last group was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* never: a group's receipt stands for all its elements
    /// - *holds* two groups: one closed, and the one that gathers (with a limit of bytes, or the
    ///   element that did not fit into that); never more than twice `items`
    /// - *costs* a vector for each group, a timer only when it waits for more, and reading the
    ///   clock once for each chunk taken in
    ///
    /// # Example
    /// ```
    /// use forebay::control::BatchLimits;
    /// use forebay::source;
    /// use std::time::Duration;
    ///
    /// let limits = BatchLimits::new(1000, Duration::from_secs(10)).bytes(10);
    /// let groups = source::iter(["four", "more", "last"])
    ///     .weigh(|text| text.len() as u64)
    ///     .grouped_within(limits)
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(groups, [vec!["four", "more"], vec!["last"]]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn grouped_within(self, limits: impl Into<BatchLimits>) -> Flow<Vec<T>> {
        let limits = limits.into();
        let bytes = limits.max_bytes();
        let mut note = format!("{} or {:?}", limits.max_items(), limits.window());
        if bytes != u64::MAX {
            note = format!("{bytes} bytes, {note}");
        }
        let spec = NodeSpec::new("grouped_within")
            .changes_count()
            .holds(limits.max_items().saturating_mul(2))
            .holds_bytes(bytes.saturating_mul(2))
            .note(note);
        self.then(spec, |input| Grouped::new(input, limits))
    }

    /// Takes as many elements at once as are there, up to a size that adapts: nobody waits for a batch
    /// to fill unless the size says so. Under load batches grow by themselves.
    ///
    /// Unlike [`grouped_within`](Flow::grouped_within) it takes nothing before a batch is asked for:
    /// what waits does so in the buffer before it, by its class.
    ///
    /// - *emits when* a batch is asked for and there is an element: at once, when the batch is full, or
    ///   when it has waited as long as the size says
    /// - *back-pressures when* downstream asks for no batch
    /// - *completes when* upstream completes and the last batch was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* never; a batch stands for all its elements
    /// - *holds* the batch that fills, at most as many as the size can ever be
    /// - *costs* a vector and a lock a batch
    ///
    /// # Example
    /// ```
    /// use forebay::control::BatchHandle;
    /// use forebay::control::batch_size::Natural;
    /// use forebay::source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let size = BatchHandle::new(Natural::builder().bounds(1, 10).build()?);
    /// let batches = source::iter(0..100).batch(&size).collect().block_on()?;
    /// assert!(batches.iter().all(|batch| batch.len() <= 10));
    /// assert_eq!(batches.concat(), (0..100).collect::<Vec<_>>());
    /// # Ok(()) }
    /// ```
    pub fn batch(self, size: &BatchHandle) -> Flow<Vec<T>> {
        let most = size.snapshot().most;
        let spec = NodeSpec::new("batch")
            .changes_count()
            .holds(most)
            .note(format!("up to {most}"));
        let size = size.clone();
        self.then(spec, |input| Batch::new(input, size, most))
    }

    /// [`batch`](Flow::batch) and [`map_async`](Flow::map_async): one call a batch, and the size learns
    /// how long it took.
    ///
    /// - *emits when* the call of the oldest batch inside has ended
    /// - *back-pressures when* as many calls run as may
    /// - *completes when* upstream completes and all calls have ended
    /// - *cancels when* downstream cancels; calls in flight are dropped where they stand
    /// - *settles when* a call panics: all elements of its batch as failed
    /// - *holds* the batch that fills, and those in flight
    /// - *costs* what both do
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::control::BatchHandle;
    /// use forebay::control::batch_size::LatencyTarget;
    /// use forebay::source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let size = LatencyTarget::builder(Duration::from_millis(5)).bounds(1, 50).build()?;
    /// let size = BatchHandle::new(size);
    /// let sums = source::iter(1..=100_u64)
    ///     .map_batches(&size, 1, |batch| async move { batch.iter().sum::<u64>() })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(sums.iter().sum::<u64>(), 5050);
    /// assert_eq!(size.snapshot().batches, sums.len() as u64);
    /// # Ok(()) }
    /// ```
    pub fn map_batches<U, F, Fut>(
        self,
        size: &BatchHandle,
        calls: impl Into<Calls>,
        mut f: F,
    ) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(Vec<T>) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        let learns = size.clone();
        self.batch(size).map_async(calls, move |batch| {
            let (size, items, began) = (learns.clone(), batch.len(), time::now());
            let call = f(batch);
            async move {
                let output = call.await;
                let now = time::now();
                let sample = BatchSample {
                    items,
                    service: now.since(began),
                    ..BatchSample::default()
                };
                size.on_batch(now, &sample);
                output
            }
        })
    }

    /// Changes a state by each value, and hands the last state on as the one element.
    ///
    /// Like the sink [`fold`](Flow::fold), for a flow that goes on. An element is delivered when it
    /// has changed the state, before the result has reached a sink: refused under a named guarantee.
    /// If upstream fails there is no result.
    ///
    /// - *emits when* upstream has completed: one element, which is made here and stands for none
    ///   of those before
    /// - *back-pressures when* downstream asks for nothing
    /// - *completes when* the result was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* an element has changed the state: as delivered; when the closure panics:
    ///   that element as failed, and the run stops
    /// - *holds* nothing but the state
    /// - *costs* the closure
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let average = source::iter([2, 4, 9])
    ///     .aggregate((0, 0), |(sum, count), n| {
    ///         *sum += n;
    ///         *count += 1;
    ///     })
    ///     .map(|(sum, count)| sum / count)
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(average, [5]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn aggregate<S, F>(self, state: S, f: F) -> Flow<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        let spec = NodeSpec::new("aggregate")
            .changes_count()
            .loses("settles elements before its result is delivered: use the sink `fold`")
            .no_barrier("holds its state across barriers")
            .no_rewind("has state that a rewind would have to rebuild");
        self.then(spec, |input| Aggregate::new(input, state, f))
    }
}
