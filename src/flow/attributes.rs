//! Stages that give elements what they carry, and end those that are of no use any more.

use std::time::Duration;

use super::Flow;
use crate::chunk::Chunk;
use crate::class::Class;
use crate::operator::classify::classify;
use crate::operator::deadline::{deadline, deadline_by};
use crate::operator::expire::expire;
use crate::operator::weigh::Weigh;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Gives each element a class.
    ///
    /// Order, admission and shedding further down go by it. The account of the source goes by the
    /// first class an element is given; a later one changes its order, not its account.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed, unclassified
    /// - *holds* nothing
    /// - *costs* the closure; with receipts, an atomic step for each class among 64 neighbours
    ///
    /// # Example
    /// ```
    /// use forebay::class::Class;
    /// use forebay::source;
    ///
    /// let orders = source::iter([250, 30, 5]);
    /// let orders = orders.classify(|amount| match amount {
    ///     100.. => Class::HIGH,
    ///     20.. => Class::MEDIUM,
    ///     _ => Class::LOW,
    /// });
    /// orders.ignore().block_on()?;
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn classify<F>(self, f: F) -> Flow<T>
    where
        F: FnMut(&T) -> Class + Send + 'static,
    {
        self.then(NodeSpec::new("classify"), |input| classify(input, f))
    }

    /// Gives all elements a deadline: so long after their source took them in. An earlier one they
    /// have already stands.
    ///
    /// The deadline travels with the element; nothing leaves here. Elements leave, as expired, at the
    /// points declared with [`expire`](Flow::expire).
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* never
    /// - *holds* nothing
    /// - *costs* a few nanoseconds a chunk
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use std::time::Duration;
    ///
    /// let fresh = source::iter(1..=3)
    ///     .deadline(Duration::from_secs(60))
    ///     .buffer(100)
    ///     .expire()
    ///     .collect();
    /// assert_eq!(fresh.block_on()?, [1, 2, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn deadline(self, span: Duration) -> Flow<T> {
        let spec = NodeSpec::new("deadline").note(format!("{span:?}"));
        self.then(spec, |input| deadline(input, span))
    }

    /// Gives each element a deadline of its own: so long after its source took it in, or none. An
    /// earlier one it has already stands.
    ///
    /// The deadline travels with the element; nothing leaves here. Elements leave, as expired, at the
    /// points declared with [`expire`](Flow::expire).
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed
    /// - *holds* nothing
    /// - *costs* the closure
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use std::time::Duration;
    ///
    /// let rest = source::iter(["keep", "late"])
    ///     .deadline_by(|kind| (*kind == "late").then_some(Duration::ZERO))
    ///     .expire()
    ///     .collect();
    /// assert_eq!(rest.block_on()?, ["keep"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn deadline_by<F>(self, f: F) -> Flow<T>
    where
        F: FnMut(&T) -> Option<Duration> + Send + 'static,
    {
        self.then(NodeSpec::new("deadline"), |input| deadline_by(input, f))
    }

    /// Lets the elements go whose deadline has passed: put it before what is dear, and behind what
    /// makes them wait.
    ///
    /// An element that waits further down may still become late there: this is the point where it is
    /// looked at, and the only one.
    ///
    /// - *emits when* an element arrives that is in time, or has no deadline
    /// - *back-pressures when* downstream does
    /// - *completes when* upstream completes
    /// - *cancels when* downstream cancels
    /// - *settles when* an element is late: as expired. A pipeline that names a guarantee is
    ///   refused with it, because it may lose elements
    /// - *holds* nothing
    /// - *costs* reading the clock once a chunk, where elements have deadlines
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use std::time::Duration;
    ///
    /// let late = source::iter(1..=3).deadline(Duration::ZERO).expire().collect();
    /// assert!(late.block_on()?.is_empty());
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn expire(self) -> Flow<T> {
        let spec = NodeSpec::new("expire")
            .changes_count()
            .loses("lets late elements go (expired): leave it out");
        self.then(spec, expire)
    }

    /// Weighs each element, in bytes: limits of bytes further down go by that, until another
    /// `weigh`. Without one, or where the closure returns 0, a group by bytes takes the size of the
    /// value and of its origin; buffers count such an element as weightless.
    ///
    /// - *emits when* an element arrives
    /// - *back-pressures when* downstream does, by elements or by bytes
    /// - *completes when* upstream completes and nothing is held
    /// - *cancels when* downstream cancels
    /// - *settles when* the closure panics: that element as failed
    /// - *holds* what came in and turned out to be more bytes than were asked for: at most one
    ///   chunk less an element; nothing where downstream has no limit of bytes
    /// - *costs* the closure
    ///
    /// # Example
    /// ```
    /// use forebay::boundary::Buffer;
    /// use forebay::source;
    ///
    /// let texts = source::iter(["a", "bcd"].map(str::to_owned));
    /// let texts = texts.weigh(|text| text.len() as u64).buffer(Buffer::items(100).bytes(1 << 20));
    /// assert_eq!(texts.collect().block_on()?, ["a", "bcd"]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn weigh<F>(self, f: F) -> Flow<T>
    where
        F: FnMut(&T) -> u64 + Send + 'static,
    {
        let spec = NodeSpec::new("weigh").holds(Chunk::<T>::MAX - 1);
        self.then(spec, |input| Weigh::new(input, f))
    }
}
