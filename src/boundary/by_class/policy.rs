//! How a buffer by class is declared, and how it is looked at while it runs.

use std::any::Any;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::class::Class;
use crate::control::{
    AdmissionHandle, DeferralSettings, DeferralSnapshot, PressureHandle, PrioritySettings,
    PrioritySnapshot, WhenNoRoom,
};
use crate::sync::lock;

/// A buffer that serves the dearest class first, and gives up the cheapest first.
///
/// [`PrioritySettings`] alone are such a buffer. An element without a class counts as
/// [`Class::default`]. An element whose deadline has passed is never queued and never handed on: it
/// has expired.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::boundary::ClassBuffer;
/// use forebay::class::Class;
/// use forebay::control::{DeferralSettings, PrioritySettings, WhenNoRoom};
///
/// let settings = PrioritySettings::items(1000).when_no_room(Class::LOW, WhenNoRoom::Defer);
/// let buffer = ClassBuffer::new(settings)
///     .defer(DeferralSettings::items(10_000).ttl(Duration::from_secs(30)))
///     .give_up_stale(Duration::from_millis(5), Duration::from_millis(100));
/// assert!(buffer.sheds());
/// ```
#[derive(Clone, Debug)]
pub struct ClassBuffer {
    pub(super) settings: PrioritySettings,
    pub(super) deferral: Option<DeferralSettings>,
    pub(super) stale: Option<(Duration, Duration)>,
    pub(super) view: ClassQueueView,
    pub(super) admission: Option<AdmissionHandle>,
    pub(super) pressure: Option<PressureHandle>,
    pub(super) key: Option<KeyOf>,
}

/// Tells the key of an element, as a number.
pub(super) type Key<T> = dyn Fn(&T) -> u64 + Send + Sync;

/// The same, whatever the elements: an `Arc<Key<T>>`.
#[derive(Clone)]
pub(super) struct KeyOf(Arc<dyn Any + Send + Sync>);

impl KeyOf {
    /// As declared; `None` if it was of elements of another type.
    pub(super) fn of<T: 'static>(&self) -> Option<Arc<Key<T>>> {
        self.0.downcast_ref::<Arc<Key<T>>>().map(Arc::clone)
    }
}

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf")
    }
}

impl ClassBuffer {
    /// A buffer with those lanes, without deferral.
    #[must_use]
    pub fn new(settings: PrioritySettings) -> ClassBuffer {
        ClassBuffer {
            settings,
            deferral: None,
            stale: None,
            view: ClassQueueView::default(),
            admission: None,
            pressure: None,
            key: None,
        }
    }

    /// Where elements of classes with [`WhenNoRoom::Defer`] are put aside. They are offered again as
    /// the queue gets emptier (the pressure is how full it is), and on completion and drain at once.
    ///
    /// With [`DeferralSettings::spill`] what there is no room for, and what was put aside too long,
    /// leaves by the side output of
    /// [`buffer_by_class_diverting`](crate::flow::Flow::buffer_by_class_diverting), to be led to a
    /// [`buffer_on_disk`](crate::flow::Flow::buffer_on_disk).
    #[must_use]
    pub fn defer(mut self, settings: DeferralSettings) -> ClassBuffer {
        self.deferral = Some(settings);
        self
    }

    /// No element passes another of its class and key, though that one be put aside: while one is, the
    /// rest of its key are put aside behind it, room or not; and with one that makes way its followers
    /// do. `T` is the type of the buffer's elements, or the plan is refused; so is one that spills,
    /// since nobody tells when what went outside is back. On a key that panics the element has failed.
    ///
    /// # Example
    /// ```
    /// use forebay::boundary::ClassBuffer;
    /// use forebay::class::Class;
    /// use forebay::control::{DeferralSettings, PrioritySettings, WhenNoRoom};
    /// use forebay::source;
    ///
    /// let settings = PrioritySettings::items(4).when_no_room(Class::LOW, WhenNoRoom::Defer);
    /// let buffer = ClassBuffer::new(settings)
    ///     .defer(DeferralSettings::items(100))
    ///     .order_per_key(|(user, _): &(u32, u32)| *user);
    /// let events = source::iter((0..100_u32).map(|n| (n % 3, n)))
    ///     .classify(|_| Class::LOW)
    ///     .buffer_by_class(buffer)
    ///     .collect()
    ///     .block_on()?;
    /// let of_one = events.iter().filter(|(user, _)| *user == 1).map(|(_, n)| n);
    /// assert!(of_one.is_sorted());
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    #[must_use]
    pub fn order_per_key<T: 'static, K: Hash>(
        mut self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> ClassBuffer {
        let key: Arc<Key<T>> = Arc::new(move |value| {
            let mut hasher = DefaultHasher::new();
            key(value).hash(&mut hasher);
            hasher.finish()
        });
        self.key = Some(KeyOf(Arc::new(key)));
        self
    }

    /// Gives up what has waited for more than twice `target` while even the shortest wait of its class
    /// in the last `interval` was over `target`: a queue that stands is of no use to anybody. Nothing
    /// is given up while an element of a lower class is held. Folly's rule; its defaults are 5 ms and
    /// 100 ms. See [`Codel`](crate::control::Codel).
    #[must_use]
    pub fn give_up_stale(mut self, target: Duration, interval: Duration) -> ClassBuffer {
        self.stale = Some((target, interval));
        self
    }

    /// Tells that admission how much waits here, and goes by what it knows: an element that would be
    /// served after its deadline has expired on arrival, and lanes in
    /// [adaptive order](crate::control::LaneOrder::Adaptive) turn while it refuses anybody.
    #[must_use]
    pub fn feeding(mut self, admission: &AdmissionHandle) -> ClassBuffer {
        self.admission = Some(admission.clone());
        self
    }

    /// Goes by that pressure besides how full the queue is: while it is as great as
    /// [`reoffer_until`](DeferralSettings::reoffer_until) says, elements of classes that can be deferred
    /// are, room or not; and what was put aside is offered again as it falls.
    #[must_use]
    pub fn under(mut self, pressure: &PressureHandle) -> ClassBuffer {
        self.pressure = Some(pressure.clone());
        self
    }

    /// To look at the queue while it runs.
    #[must_use]
    pub fn view(&self) -> ClassQueueView {
        self.view.clone()
    }

    /// Whether it may lose elements: a class that is refused, evicted or given up, or put aside for
    /// a time that can pass.
    #[must_use]
    pub fn sheds(&self) -> bool {
        let classes = (0..Class::COUNT as u8).filter_map(Class::new);
        let may_shed = |class| self.settings.may_shed(class);
        self.stale.is_some() || self.deferral.is_some() || classes.into_iter().any(may_shed)
    }

    /// The most elements that are inside: queued and put aside.
    pub(crate) fn capacity(&self) -> usize {
        let aside = self.deferral.map_or(0, |deferral| deferral.max_items());
        self.settings.max_items() + aside
    }

    /// How many may be put aside, and which share of their source's window that may be.
    pub(crate) fn aside(&self) -> Option<(usize, f64)> {
        let deferral = self.deferral?;
        Some((deferral.max_items(), deferral.share()))
    }

    /// The most bytes that are inside, but for one element alone.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        let aside = self.deferral.map_or(0, |deferral| deferral.max_bytes());
        let waiting = waiting_bytes(&self.settings);
        self.settings
            .max_bytes()
            .saturating_add(aside)
            .saturating_add(waiting)
    }

    /// Why it cannot be, though each setting is in range.
    pub(crate) fn contradiction(&self, has_side: bool) -> Option<&'static str> {
        let any = |policy| self.settings.any(policy);
        if any(WhenNoRoom::Defer) && self.deferral.is_none() {
            return Some(
                "a class is to be deferred, but no deferral is declared: see `ClassBuffer::defer`",
            );
        }
        if self.deferral.is_some_and(|deferral| deferral.keeps_order()) && self.key.is_none() {
            return Some(
                "order per key is asked for, but no key is told: see `ClassBuffer::order_per_key`",
            );
        }
        if self.deferral.is_some_and(|deferral| deferral.spills()) && self.key.is_some() {
            return Some(
                "what spills comes back in no order that is known: declare order per key or a spill",
            );
        }
        if self.deferral.is_some_and(|deferral| deferral.spills()) && !has_side {
            return Some(
                "what was put aside is to spill, but there is no side output: use \
                 `buffer_by_class_diverting`, and lead it to `buffer_on_disk`",
            );
        }
        if any(WhenNoRoom::Divert) && !has_side {
            return Some(
                "a class is to be diverted, but there is no side output: use `buffer_by_class_diverting`",
            );
        }
        None
    }
}

impl From<PrioritySettings> for ClassBuffer {
    fn from(settings: PrioritySettings) -> ClassBuffer {
        ClassBuffer::new(settings)
    }
}

/// Bytes of elements that may wait with the producer before it asks for no more.
pub(super) fn waiting_bytes(settings: &PrioritySettings) -> u64 {
    match settings.max_bytes() {
        u64::MAX => u64::MAX,
        bytes => bytes.div_ceil(8),
    }
}

/// How a buffer by class stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClassQueueSnapshot {
    /// What is queued, and what became of the rest, by class.
    pub queue: PrioritySnapshot,
    /// What is put aside.
    pub deferral: Option<DeferralSnapshot>,
    /// Elements that wait for room.
    pub waiting: usize,
}

type Look = Box<dyn Fn() -> Option<ClassQueueSnapshot> + Send>;

/// Looks at a buffer by class while it runs, from anywhere.
#[derive(Clone, Default)]
pub struct ClassQueueView(Arc<Mutex<Option<Look>>>);

impl ClassQueueView {
    pub(super) fn set(&self, look: impl Fn() -> Option<ClassQueueSnapshot> + Send + 'static) {
        *lock(&self.0) = Some(Box::new(look));
    }

    /// How it stands; after the run, how it stood at its end; `None` before the pipeline is declared.
    #[must_use]
    pub fn snapshot(&self) -> Option<ClassQueueSnapshot> {
        lock(&self.0).as_ref().and_then(|look| look())
    }
}

impl fmt::Debug for ClassQueueView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClassQueueView")
            .field(&self.snapshot())
            .finish()
    }
}
