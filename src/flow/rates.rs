//! Stages between producers and consumers of different speed.

use super::Flow;
use crate::boundary::Buffer;
use crate::chunk::Chunk;
use crate::control::{AdmissionHandle, BreakerHandle, ThrottleMode, Throttled};
use crate::operator::Rate;
use crate::operator::admit::admit;
use crate::operator::conflate::{self, Conflate, Merging};
use crate::operator::expand::Expand;
use crate::operator::throttle::ThrottleStage;
use crate::time;
use crate::topology::NodeSpec;

const MERGED: &str = "merges values, and cannot take those of one source out again";

impl<T: Send + 'static> Flow<T> {
    /// Merges elements for as long as downstream asks for none: of what came meanwhile it gets one.
    ///
    /// Never back-pressures on account of a slow consumer. The receipt of what is handed on stands
    /// for all elements in it, so a tracked source goes on until its window is full of them: give it
    /// a larger [`window`](Flow::window), or none ([`untracked`](Flow::untracked)).
    ///
    /// - *emits when* downstream asks and there is a value
    /// - *back-pressures when* never
    /// - *completes when* upstream completes and the last value was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed, and the run stops
    /// - *holds* one value, the receipts of the elements in it, and a chunk behind it
    /// - *costs* the closure for each element nobody asked for; nothing for others
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sum = source::iter(1..=100).conflate(|sum, n| *sum += n);
    /// let parts = sum.collect().block_on()?;
    /// assert_eq!(parts.iter().sum::<i32>(), 5050, "in however many parts");
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn conflate<F>(self, merge: F) -> Flow<T>
    where
        F: FnMut(&mut T, T) + Send + 'static,
    {
        self.merging(
            "conflate",
            Merging {
                seed: |value| value,
                merge,
                weight: |_: &T| 0,
                most: u64::MAX,
            },
        )
    }

    /// The same, into a value of another type: the first of the elements makes it.
    ///
    /// - *emits when* downstream asks and there is a value
    /// - *back-pressures when* never
    /// - *completes when* upstream completes and the last value was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* a closure panics: that element as failed, and the run stops
    /// - *holds* one value, the receipts of the elements in it, and a chunk behind it
    /// - *costs* `seed` for each value, `merge` for each element nobody asked for
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let counts = source::iter(["a"; 100]).conflate_with_seed(|_| 1, |count, _| *count += 1);
    /// assert_eq!(counts.collect().block_on()?.iter().sum::<u32>(), 100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn conflate_with_seed<S, Seed, F>(self, seed: Seed, merge: F) -> Flow<S>
    where
        S: Send + 'static,
        Seed: FnMut(T) -> S + Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        self.merging(
            "conflate_with_seed",
            Merging {
                seed,
                merge,
                weight: |_: &T| 0,
                most: u64::MAX,
            },
        )
    }

    /// The same, but no value gets heavier than `most`: then it back-pressures. An element that alone
    /// weighs more makes a value of its own.
    ///
    /// With a weight of 1 each, `most` is a number of elements.
    ///
    /// - *emits when* downstream asks and there is a value
    /// - *back-pressures when* the next element does not fit and downstream asks for none
    /// - *completes when* upstream completes and the last value was handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* a closure panics: that element as failed, and the run stops
    /// - *holds* one value, the receipts of the elements in it, and a chunk that did not fit
    /// - *costs* `weight` and `merge` for each element nobody asked for, `seed` for each value
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let lines = source::iter(["a", "b", "c", "d"])
    ///     .batch_with_seed(3, |_| 1, str::to_owned, |batch, line| batch.push_str(line))
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(lines.concat(), "abcd");
    /// assert!(lines.iter().all(|line| line.len() <= 3));
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn batch_with_seed<S, W, Seed, F>(
        self,
        most: u64,
        weight: W,
        seed: Seed,
        merge: F,
    ) -> Flow<S>
    where
        S: Send + 'static,
        W: FnMut(&T) -> u64 + Send + 'static,
        Seed: FnMut(T) -> S + Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
    {
        let flow = self.merging(
            "batch_with_seed",
            Merging {
                seed,
                merge,
                weight,
                most,
            },
        );
        flow.amended(|spec| {
            spec.note = Some(format!("up to {most}"));
        })
    }

    fn merging<S, Seed, F, W>(self, kind: &'static str, how: Merging<Seed, F, W>) -> Flow<S>
    where
        S: Send + 'static,
        Seed: FnMut(T) -> S + Send + 'static,
        F: FnMut(&mut S, T) + Send + 'static,
        W: FnMut(&T) -> u64 + Send + 'static,
    {
        let spec = NodeSpec::new(kind)
            .holds(conflate::HELD)
            .changes_count()
            .no_rewind(MERGED);
        self.then(spec, |input| Conflate::new(input, how))
    }

    /// Makes more elements of each, for as long as downstream asks and no newer one has come: the
    /// other way round than [`conflate`](Flow::conflate).
    ///
    /// The first value of the iterator stands for the element and bears its receipt; the further ones
    /// are made here. At least that first value is handed on of every element. An iterator without a
    /// value leaves the element out.
    ///
    /// - *emits when* downstream asks and there is a newer element, or a further value of the last
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* nothing is made of an element: as filtered (empty); when the closure panics:
    ///   as failed. A further value that panics stops the run
    /// - *holds* the iterator of the last element
    /// - *costs* the closure and an iterator for each element; elements are taken one by one
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sensor = source::iter([20.5, 21.0]).expand(std::iter::repeat);
    /// let readings = sensor.take(1).collect().block_on()?;
    /// assert_eq!(readings, [20.5]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn expand<U, I, F>(self, f: F) -> Flow<U>
    where
        U: Send + 'static,
        I: Iterator<Item = U> + Send + 'static,
        F: FnMut(T) -> I + Send + 'static,
    {
        let spec = NodeSpec::new("expand").changes_count();
        self.then(spec, |input| Expand::new(input, f))
    }

    /// Lets no more than a rate pass; each element costs 1.
    ///
    /// What comes too soon waits ([`Shaping`](ThrottleMode::Shaping)), stops the run with an error
    /// that says how much too soon ([`Enforcing`](ThrottleMode::Enforcing)), or is shed
    /// ([`Diverting`](ThrottleMode::Diverting); with a side output: [`throttle_diverting`]).
    /// The [`Rate`] can be shared between flows, and changed while they run.
    ///
    /// [`throttle_diverting`]: Flow::throttle_diverting
    ///
    /// - *emits when* an element arrives and the rate lets it pass
    /// - *back-pressures when* downstream does, or while shaping when the rate is used up
    /// - *completes when* upstream completes and what waits has passed
    /// - *cancels when* downstream cancels
    /// - *settles when* an element comes too soon: failed (enforcing) or shed (diverting), throttled
    /// - *holds* as many elements as may pass at once, the burst at most
    /// - *costs* a lock an element, a timer when one waits
    ///
    /// # Example
    /// ```
    /// use forebay::control::ThrottleMode;
    /// use forebay::flow::Rate;
    /// use forebay::source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rate = Rate::new(1.0, 3, ThrottleMode::Diverting)?;
    /// let passed = source::iter(0..100).throttle(&rate).collect().block_on()?;
    /// assert_eq!(passed, [0, 1, 2], "the burst");
    /// # Ok(()) }
    /// ```
    pub fn throttle(self, rate: &Rate) -> Flow<T> {
        self.throttle_by(rate, |_| 1)
    }

    /// The same, with a cost for each element: its bytes, its calls. A cost of 0 always passes; one
    /// above the burst waits until all of it has trickled in (shaping), or never passes.
    ///
    /// - *emits when* an element arrives and the rate lets it pass
    /// - *back-pressures when* downstream does, or while shaping when the rate is used up
    /// - *completes when* upstream completes and what waits has passed
    /// - *cancels when* downstream cancels
    /// - *settles when* an element comes too soon: failed (enforcing) or shed (diverting), throttled;
    ///   when the closure panics: that element as failed
    /// - *holds* as many elements as may pass at once, the burst at most
    /// - *costs* the closure and a lock an element, a timer when one waits
    ///
    /// # Example
    /// ```
    /// use forebay::control::ThrottleMode;
    /// use forebay::flow::Rate;
    /// use forebay::source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rate = Rate::new(1.0, 10, ThrottleMode::Diverting)?;
    /// let lines = source::iter(["four", "more", "last", "a"]);
    /// let passed = lines.throttle_by(&rate, |line| line.len() as u32).collect().block_on()?;
    /// assert_eq!(passed, ["four", "more", "a"]);
    /// # Ok(()) }
    /// ```
    pub fn throttle_by<C>(self, rate: &Rate, cost: C) -> Flow<T>
    where
        C: FnMut(&T) -> u32 + Send + 'static,
    {
        let snapshot = rate.snapshot();
        let note = format!(
            "{} a second, {} at once",
            snapshot.rate_per_s, snapshot.burst
        );
        let burst = usize::try_from(snapshot.burst).unwrap_or(usize::MAX);
        let mut spec = NodeSpec::new("throttle")
            .holds(burst.min(Chunk::<T>::MAX))
            .note(note);
        if rate.mode() == ThrottleMode::Diverting {
            spec = spec
                .changes_count()
                .loses("sheds what comes too soon: use shaping, or `throttle_diverting`");
        }
        let rate = rate.clone();
        self.then(spec, |input| ThrottleStage::new(input, rate, cost))
    }

    /// Sends what comes too soon another way: the flow of what passed, and that of the rest. Goes by
    /// the rate alone, whatever its mode.
    ///
    /// - *emits when* an element arrives, on either flow
    /// - *back-pressures when* the flow it is for does
    /// - *completes when* upstream completes
    /// - *cancels when* the flow of what passed cancels; when the other has ended, what is for it
    ///   counts as filtered
    /// - *settles when* the other flow has ended
    /// - *holds* the buffer of the side output, and at most one chunk of diverted elements
    /// - *costs* a lock an element
    ///
    /// # Example
    /// ```
    /// use forebay::control::ThrottleMode;
    /// use forebay::flow::{Flow, Rate};
    /// use forebay::source;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rate = Rate::new(1.0, 3, ThrottleMode::Diverting)?;
    /// let (passed, rest) = source::iter(0..10).throttle_diverting(&rate, 16);
    /// let both = passed.collect().and(rest.collect()).block_on()?;
    /// assert_eq!(both, (vec![0, 1, 2], (3..10).collect()));
    /// # Ok(()) }
    /// ```
    pub fn throttle_diverting(self, rate: &Rate, side: impl Into<Buffer>) -> (Flow<T>, Flow<T>) {
        let rate = rate.clone();
        self.divert(side, move |_| {
            !matches!(rate.ask(time::now(), 1), Throttled::Pass)
        })
    }

    /// Lets in what can be served, and sheds the rest by class: of the lowest class first, and of the
    /// class at the edge a share.
    ///
    /// How much can be served says the [`AdmissionHandle`], which hears it from a buffer by class and
    /// from calls behind this stage: declare both as [`feeding`](crate::operator::Calls::feeding) it.
    /// Without them everything is let in.
    ///
    /// Take it where elements have no deadline, where the queue behind it must be long or waits for
    /// room, and where a refusal must cost next to nothing. A short queue that evicts by class gains
    /// nothing by it, and loses one to two hundredths: it knows the next element, the gate only the rates
    /// of the last window. [The guide](crate::guide) has the figures.
    ///
    /// - *emits when* an element arrives that is let in
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* an element is not let in: shed (overload)
    /// - *holds* nothing
    /// - *costs* two loads and a compare an element while anything is refused, an addition a chunk else
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use forebay::boundary::ClassBuffer;
    /// use forebay::class::Class;
    /// use forebay::control::{AdmissionHandle, AdmissionSettings, PrioritySettings};
    /// use forebay::operator::Calls;
    /// use forebay::{source, time};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let admission = AdmissionHandle::new(AdmissionSettings::target(Duration::from_millis(5)))?;
    /// let queue = ClassBuffer::new(PrioritySettings::items(1000)).feeding(&admission);
    /// let calls = Calls::limit(4).feeding(&admission);
    /// let served = source::iter(0..100)
    ///     .classify(|n| if n % 10 == 0 { Class::HIGH } else { Class::LOW })
    ///     .admit(&admission)
    ///     .buffer_by_class(queue)
    ///     .map_async(calls, |n| async move { n })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(served.len(), 100, "there was room for all");
    /// # Ok(()) }
    /// ```
    pub fn admit(self, admission: &AdmissionHandle) -> Flow<T> {
        let spec = NodeSpec::new("admit")
            .changes_count()
            .loses("sheds what cannot be served: put a buffer with back-pressure in its place");
        let admission = admission.clone();
        self.then(spec, |input| admit(input, admission))
    }

    /// Sends elements another way for as long as that breaker permits no call: the flow of those for
    /// which there may be one, and that of the rest.
    ///
    /// - *emits when* an element arrives, on either flow
    /// - *back-pressures when* the flow it is for does
    /// - *completes when* upstream completes
    /// - *cancels when* the first flow cancels; when the other has ended, what is for it counts as
    ///   filtered
    /// - *settles when* the other flow has ended
    /// - *holds* the buffer of the side output, and at most one chunk of diverted elements
    /// - *costs* a load an element; a lock while the breaker is not closed
    ///
    /// # Example
    /// ```
    /// use forebay::control::{BreakerHandle, BreakerSettings};
    /// use forebay::{source, time};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let breaker = BreakerHandle::new(BreakerSettings::default(), time::now())?;
    /// breaker.force_open(time::now());
    /// let (calls, rest) = source::iter(0..10).divert_while_open(&breaker, 16);
    /// let both = calls.collect().and(rest.collect()).block_on()?;
    /// assert_eq!(both, (vec![], (0..10).collect()));
    /// # Ok(()) }
    /// ```
    pub fn divert_while_open(
        self,
        breaker: &BreakerHandle,
        side: impl Into<Buffer>,
    ) -> (Flow<T>, Flow<T>) {
        let breaker = breaker.clone();
        self.divert(side, move |_| breaker.check(time::now()).is_err())
    }
}
