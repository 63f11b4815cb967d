//! Stages between which elements are queued.

use std::sync::Arc;

use super::Flow;
use super::fan_out::branch;
use crate::boundary::{
    Buffer, ClassBuffer, DiskBuffer, HELD_BY_DISK, Policies, Stored, WAITING_BY_CLASS, WhenFull,
    budgeted, by_class, ring,
};
use crate::host::MemoryBudget;
use crate::operator::map::Map;
use crate::operator::{Input, Operator};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// A bounded buffer; what comes before it runs as an island of its own.
    ///
    /// What it does when full is its [`WhenFull`]: see the guide on
    /// [overflow](crate::guide::overflow).
    ///
    /// - *emits when* it holds an element
    /// - *back-pressures when* it is full, under [`WhenFull::Backpressure`]; otherwise never
    /// - *completes when* the flow before it completes and what it holds is handed on
    /// - *cancels when* downstream cancels; what it holds is cancelled
    /// - *settles when* it is full and sheds: the element given up is shed, with the strategy as
    ///   the reason; under [`WhenFull::Fail`] it fails and the run stops
    /// - *holds* at most its capacity in elements, and in bytes where it has one (one element may
    ///   exceed them, alone)
    /// - *costs* a lock and a wake-up a chunk; chunks are moved whole
    ///
    /// # Example
    /// ```
    /// use forebay::boundary::{Buffer, WhenFull};
    /// use forebay::source;
    ///
    /// let all = source::iter(0..100)
    ///     .buffer(Buffer::items(10).when_full(WhenFull::Backpressure))
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(all.len(), 100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn buffer(self, buffer: impl Into<Buffer>) -> Flow<T> {
        let buffer = buffer.into();
        self.boundary(
            NodeSpec::new("buffer").note(buffer.when_full.name()),
            buffer,
        )
    }

    /// A [`buffer`](Flow::buffer) with back-pressure whose bytes are on an account that it shares with
    /// others, of this pipeline or of any in the process: what is free there limits what is asked for.
    ///
    /// Elements have the bytes they were [weighed](Flow::weigh) with before; those that were not cost
    /// nothing. A buffer that is empty takes an element whatever is free, so that no buffer waits for
    /// ever for what others hold: the account is exceeded by one element a buffer at most, and by what
    /// an element weighs more than was left for it.
    ///
    /// - *emits when* it holds an element
    /// - *back-pressures when* it is full, or no byte is free and it holds an element
    /// - *completes when* the flow before it completes and what it holds is handed on
    /// - *cancels when* downstream cancels; what it holds is cancelled, and its bytes are free
    /// - *settles when* never, but for what a cancellation leaves behind; with another [`WhenFull`] than
    ///   back-pressure it is refused
    /// - *holds* at most its capacity, and what the account allows
    /// - *costs* what a buffer does, and two locks a chunk
    ///
    /// # Example
    /// ```
    /// use forebay::host::MemoryBudget;
    /// use forebay::source;
    ///
    /// let budget = MemoryBudget::new(1000);
    /// let lines = |word: &'static str| {
    ///     source::iter([word; 100]).weigh(|word| word.len() as u64).buffer_within(64, &budget)
    /// };
    /// let both = lines("one").collect().and(lines("another").collect()).block_on()?;
    /// assert_eq!((both.0.len(), both.1.len()), (100, 100));
    /// assert_eq!(budget.used_bytes(), 0);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn buffer_within(self, buffer: impl Into<Buffer>, budget: &MemoryBudget) -> Flow<T> {
        let buffer = buffer.into();
        let total = budget.total_bytes();
        let spec = NodeSpec::new("buffer_within")
            .boundary()
            .holds(buffer.items)
            .holds_bytes(buffer.bytes.min(total))
            .note(format!("back-pressure, within {total} bytes"));
        let plan = self.plan.clone();
        let stage = plan.add(spec, &[&self.stage], false);
        if buffer.when_full != WhenFull::Backpressure {
            let why = "a buffer within a budget waits: declare back-pressure";
            plan.refuse(&stage, why.to_owned());
        }
        let (sink, source) = budgeted(ring(buffer, &stage), budget);
        self.end_island(sink, stage.clone());
        Flow::from_parts(Box::new(source), stage, plan)
    }

    /// Lets what comes before run as an island of its own, on another core where there is one, with
    /// room for one chunk between.
    ///
    /// - *emits when* an element is between the islands
    /// - *back-pressures when* 256 elements are
    /// - *completes when* the flow before it completes and what is between is handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* never, but for what a cancellation leaves behind
    /// - *holds* at most 256 elements
    /// - *costs* a lock and a wake-up a chunk
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sum = source::iter(0..100)
    ///     .map(|n| n * 2)
    ///     .async_boundary()
    ///     .map(|n| n + 1)
    ///     .fold(0, |sum, n| *sum += n)
    ///     .block_on()?;
    /// assert_eq!(sum, 10_000);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn async_boundary(self) -> Flow<T> {
        self.boundary(NodeSpec::new("async_boundary"), Buffer::default())
    }

    /// A bounded buffer that serves the dearest class first and gives up the cheapest first; what
    /// comes before it runs as an island of its own.
    ///
    /// What each class does when there is no room, who makes way, in which order and by which turns
    /// they are served, is said by [`PrioritySettings`](crate::control::PrioritySettings); a
    /// [`ClassBuffer`] adds where elements are put aside, and from when on they are stale. Downstream
    /// gets only what it asks for: let it ask for little, because what was handed on can make way for
    /// nothing.
    ///
    /// - *emits when* it holds an element
    /// - *back-pressures when* 64 elements wait for room, or so many that they have an eighth of the
    ///   bytes it may have
    /// - *completes when* the flow before it completes and what it holds is handed on: what was put
    ///   aside as well, whatever the pressure
    /// - *cancels when* downstream cancels; what it holds is cancelled
    /// - *settles when* there is no room for an element (shed: no room, evicted), when its deadline
    ///   has passed or it was put aside for too long (expired), or when it is stale (shed: queue
    ///   delay)
    /// - *holds* at most its capacity, in elements and in bytes where it has one (one element may
    ///   exceed them, alone), the elements put aside, and 64 that wait
    /// - *costs* a lock and a wake-up a chunk, and a decision an element where there is no room for all
    ///
    /// # Example
    /// ```
    /// use forebay::class::Class;
    /// use forebay::control::{PrioritySettings, WhenNoRoom};
    /// use forebay::source;
    ///
    /// let settings = PrioritySettings::items(1000).when_no_room(Class::LOW, WhenNoRoom::Refuse);
    /// let served = source::iter(0..100)
    ///     .classify(|n| if n % 10 == 0 { Class::HIGH } else { Class::LOW })
    ///     .buffer_by_class(settings)
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(served.len(), 100, "there was room for all");
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn buffer_by_class(self, buffer: impl Into<ClassBuffer>) -> Flow<T> {
        let buffer = buffer.into();
        let policies = match Policies::new(&buffer, false) {
            Ok(policies) => policies,
            Err(why) => return self.then(class_spec(&buffer), pass).refused(why),
        };
        let plan = self.plan.clone();
        let stage = plan.add(class_spec(&buffer), &[&self.stage], false);
        let (sink, source) = by_class(policies, &buffer.view(), &stage, None);
        self.end_island(sink, Arc::clone(&stage));
        Flow::from_parts(Box::new(source), stage, plan)
    }

    /// The same, with a side output for the classes that are
    /// [diverted](crate::control::WhenNoRoom::Divert) when there is no room: the flow of those served,
    /// and the flow of those diverted.
    ///
    /// - *emits when* it holds an element; the side output, when one is diverted
    /// - *back-pressures when* as many wait for room, or the side output has none
    /// - *completes when* the flow before it completes and what it holds is handed on
    /// - *cancels when* the flow of those served cancels; when only the side output has ended, what is
    ///   diverted counts as filtered
    /// - *settles when* as [`buffer_by_class`](Flow::buffer_by_class)
    /// - *holds* the same, and the buffer of the side output
    /// - *costs* the same
    ///
    /// # Example
    /// ```
    /// use forebay::class::Class;
    /// use forebay::control::{PrioritySettings, WhenNoRoom};
    /// use forebay::flow::Flow;
    /// use forebay::source;
    ///
    /// let settings = PrioritySettings::items(1).when_no_room(Class::MEDIUM, WhenNoRoom::Divert);
    /// let (served, diverted) = source::iter(0..100).buffer_by_class_diverting(settings, 16);
    /// let all = served.merge([diverted]).collect().block_on()?;
    /// assert_eq!(all.len(), 100, "each went one of the two ways");
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn buffer_by_class_diverting(
        self,
        buffer: impl Into<ClassBuffer>,
        side: impl Into<Buffer>,
    ) -> (Flow<T>, Flow<T>) {
        let buffer = buffer.into();
        let plan = self.plan.clone();
        let spec = class_spec(&buffer).changes_count();
        let stage = plan.add(spec, &[&self.stage], false);
        let name = "buffer_by_class[side]".to_owned();
        let (outlet, diverted) = branch(&plan, &stage, "buffer_by_class", name, side.into());
        plan.reopen(&stage);
        let policies = match Policies::new(&buffer, true) {
            Ok(policies) => policies,
            Err(why) => {
                plan.refuse(&stage, why);
                let input = Input::new(self.operator, self.stage);
                return (
                    Flow::from_parts(Box::new(pass(input)), stage, plan),
                    diverted,
                );
            }
        };
        let (sink, source) = by_class(policies, &buffer.view(), &stage, Some(outlet));
        self.end_island(sink, Arc::clone(&stage));
        (Flow::from_parts(Box::new(source), stage, plan), diverted)
    }

    /// A bounded queue in files: elements wait on disk, and outlive the process; what comes before it
    /// runs as an island of its own.
    ///
    /// `encode` makes bytes of each value. What follows gets them as [`Stored`] records, checked, with
    /// the class, deadline, origin, weight and trace of the element; a
    /// [`try_map`](Flow::try_map) makes values of them, and names where damaged ones go. They are
    /// elements of a source of their own, with positions: [`window`](Flow::window),
    /// [`on_unresolved`](Flow::on_unresolved) and the like may follow, and
    /// [`allow_loss`](Flow::allow_loss) where they may be shed or expire later. What is not settled when
    /// the run ends, however it ends, is handed on by the next run that opens the directory; some of
    /// what was settled in the last 50 ms before a crash is, too.
    ///
    /// The files are bounded by what is not settled, as a window is: stages that hold elements back
    /// need as much room on disk, or all wait for ever.
    ///
    /// - *emits when* a record is written that was not handed on
    /// - *back-pressures when* it is full, unless it refuses then; and while 1024 elements wait to be
    ///   written
    /// - *completes when* the flow before it completes and all records are handed on
    /// - *cancels when* downstream cancels; what is on disk stays there
    /// - *settles when* the record is kept as its [`SyncPolicy`](crate::boundary::SyncPolicy) says:
    ///   delivered; when it is full and refuses: shed (no room); when it cannot be written: failed,
    ///   and the run stops; when `encode` panics, or the record is longer than 1 GiB: failed
    /// - *holds* at most 2048 elements that are not written yet, and reads up to 256 records ahead; on
    ///   disk what the [`DiskBuffer`] declares
    /// - *costs* one write and one read a batch, on threads that may block, and a sync a batch if so
    ///   declared; an element two checksums and three allocations
    ///
    /// # Example
    /// ```
    /// use forebay::boundary::DiskBuffer;
    /// use forebay::error::BoxError;
    /// use forebay::source;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let disk = DiskBuffer::open(folder.path().join("spill"))?.items(10_000).bytes(64 << 20);
    /// let numbers = source::iter(0..100_u64)
    ///     .buffer_on_disk(disk, |n| n.to_string())
    ///     .try_map(|stored| -> Result<u64, BoxError> {
    ///         Ok(std::str::from_utf8(stored.whole()?)?.parse()?)
    ///     })
    ///     .or_stop()
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(numbers.len(), 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buffer_on_disk<B: AsRef<[u8]>>(
        self,
        buffer: DiskBuffer,
        encode: impl FnMut(&T) -> B + Send + 'static,
    ) -> Flow<Stored> {
        let settings = buffer.settings();
        let mut spec = NodeSpec::new("buffer_on_disk")
            .boundary()
            .changes_count()
            .holds(HELD_BY_DISK)
            .holds_bytes(settings.max_bytes())
            .no_barrier("hands on elements of its own: a transaction ends there")
            .note(settings.note());
        if let Some(how) = settings.loses() {
            spec = spec.loses(how);
        }
        let plan = self.plan.clone();
        let stage = plan.add(spec, &[&self.stage], false);
        plan.close(&stage);
        if let Err(invalid) = settings.check() {
            plan.refuse(&stage, invalid.to_string());
        }
        let (sink, source) = buffer.into_sides(encode);
        self.end_island(sink, Arc::clone(&stage));
        let spec = NodeSpec::new("buffer_on_disk").named("buffer_on_disk[read]");
        let flow = Flow::from_source(spec, source);
        plan.join(&flow.plan);
        plan.edge(&stage, &flow.stage);
        // What is not settled takes places: stages that gather more of them are refused.
        let places = usize::try_from(settings.max_items()).unwrap_or(usize::MAX);
        plan.set_source(&flow.stage, "window", |source| {
            source.window = source.window.min(places.max(1));
        });
        flow
    }

    fn boundary(self, spec: NodeSpec, buffer: Buffer) -> Flow<T> {
        let mut spec = spec
            .boundary()
            .holds(buffer.items)
            .holds_bytes(buffer.bytes);
        if buffer.when_full.sheds() {
            spec = spec.loses(format!(
                "sheds ({}) when full: use back-pressure",
                buffer.when_full.name()
            ));
        } else if buffer.when_full == WhenFull::Fail {
            spec = spec.note("fails when full");
        }
        let plan = self.plan.clone();
        let stage = plan.add(spec, &[&self.stage], false);
        let (sink, source) = ring(buffer, &stage);
        self.end_island(sink, stage.clone());
        Flow::from_parts(Box::new(source), stage, plan)
    }
}

/// In the place of a stage that is refused.
fn pass<T: Send + 'static>(input: Input<T>) -> impl Operator<T> {
    Map::new(input, |value: T| value)
}

fn class_spec(buffer: &ClassBuffer) -> NodeSpec {
    let spec = NodeSpec::new("buffer_by_class")
        .boundary()
        .holds(buffer.capacity() + WAITING_BY_CLASS)
        .holds_bytes(buffer.capacity_bytes())
        .note("by class");
    let spec = match buffer.aside() {
        Some((items, share)) => spec.puts_aside(items, share),
        None => spec,
    };
    if buffer.sheds() {
        spec.loses("gives elements up by class: have every class wait, and declare no deferral")
    } else {
        spec
    }
}
