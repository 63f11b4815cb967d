//! One emergency for many stages.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::{Emergency, EmergencyEvent, EmergencySettings, EmergencySnapshot};
use crate::class::Class;
use crate::control::{Adjustment, Invalid};
use crate::sync::lock;
use crate::time::Time;

/// More steps than any way back has: the capacity doubles with each.
const STEPS: u32 = 65;

type Listener = Box<dyn Fn(&EmergencyEvent) + Send + Sync>;

/// An emergency that stages, flows and producers share. Clones are the same one.
///
/// Who takes offers counts them ([`EmergencyHandle::offered`]), refused ones too, and lets the handle
/// look at the clock ([`EmergencyHandle::tick`]); once a window the load becomes the offers a second of
/// all of them together. Asking whether a class passes is one load.
///
/// An alert is told to the listener and logged as a warning ([`tracing`]); the way back is logged as
/// well. How many there were is [`EmergencyHandle::alerts`]; a run counts those of an admission at the
/// stages that go by it ([`StageCounts::alerts`](crate::ledger::StageCounts::alerts)).
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::class::Class;
/// use forebay::control::{EmergencyHandle, EmergencySettings};
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let window = Duration::from_secs(1);
/// let emergency = EmergencyHandle::new(EmergencySettings::a5(), window, Time::ZERO)?;
/// emergency.offered(151);
/// emergency.tick(Time::ZERO + window);
/// assert!(emergency.admits(Class::HIGH) && !emergency.admits(Class::MEDIUM));
/// assert_eq!(emergency.capacity(), 10);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EmergencyHandle {
    shared: Arc<Shared>,
}

struct Shared {
    /// The number of the lowest class that passes.
    lowest: AtomicU8,
    capacity: AtomicU64,
    /// How many episodes there were.
    episodes: AtomicU64,
    /// Since the window began.
    offered: AtomicU64,
    /// When the window ends, in nanoseconds.
    window_ends: AtomicU64,
    window: Duration,
    /// How long the load must be calm for each step back.
    hold: Duration,
    inner: Mutex<Inner>,
    listener: Option<Listener>,
}

struct Inner {
    emergency: Emergency,
    /// When the window began.
    began: Time,
}

impl EmergencyHandle {
    /// Nothing is wrong yet. `window` is over which time offers are counted: more than 0; a tenth of
    /// the settings' `hold` or less sees a load that is calm for that long.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(
        settings: EmergencySettings,
        window: Duration,
        now: Time,
    ) -> Result<EmergencyHandle, Invalid> {
        EmergencyHandle::build(settings, window, now, None)
    }

    /// The same, and tells of each event, in the thread in which it came about and after the lock was
    /// given back. What a listener does must be short; a panic of it is caught.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn with_listener(
        settings: EmergencySettings,
        window: Duration,
        now: Time,
        listener: impl Fn(&EmergencyEvent) + Send + Sync + 'static,
    ) -> Result<EmergencyHandle, Invalid> {
        EmergencyHandle::build(settings, window, now, Some(Box::new(listener)))
    }

    fn build(
        settings: EmergencySettings,
        window: Duration,
        now: Time,
        listener: Option<Listener>,
    ) -> Result<EmergencyHandle, Invalid> {
        let spans = window > Duration::ZERO;
        Invalid::unless(spans, "window", format!("{window:?}"), "more than 0")?;
        let emergency = Emergency::new(settings)?;
        let shared = Shared {
            lowest: AtomicU8::new(emergency.lowest().index() as u8),
            capacity: AtomicU64::new(emergency.capacity()),
            episodes: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            window_ends: AtomicU64::new((now + window).as_nanos()),
            window,
            hold: settings.hold,
            inner: Mutex::new(Inner {
                emergency,
                began: now,
            }),
            listener,
        };
        Ok(EmergencyHandle {
            shared: Arc::new(shared),
        })
    }

    /// Whether an element of that class passes now.
    #[must_use]
    #[inline]
    pub fn admits(&self, class: Class) -> bool {
        class.index() <= usize::from(self.shared.lowest.load(Ordering::Relaxed))
    }

    /// How much may be done now, in the unit of the declared capacity.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shared.capacity.load(Ordering::Relaxed)
    }

    /// So many elements were offered, refused ones counted: once a chunk.
    #[inline]
    pub fn offered(&self, elements: u64) {
        self.shared.offered.fetch_add(elements, Ordering::Relaxed);
    }

    /// Judges the load if the window is over; else it costs a load. To be called once a fill, and at
    /// [`EmergencyHandle::window_ends`] while elements are being refused: else nobody sees that the load
    /// has fallen.
    #[inline]
    pub fn tick(&self, now: Time) {
        if now.as_nanos() >= self.shared.window_ends.load(Ordering::Relaxed) {
            self.judge(now);
        }
    }

    /// When the window ends.
    #[must_use]
    pub fn window_ends(&self) -> Time {
        Time::from_nanos(self.shared.window_ends.load(Ordering::Relaxed))
    }

    fn judge(&self, now: Time) {
        let shared = &self.shared;
        let mut inner = lock(&shared.inner);
        if now < self.window_ends() {
            return; // another one was faster
        }
        let began = std::mem::replace(&mut inner.began, now);
        let ends = (now + shared.window).as_nanos();
        shared.window_ends.store(ends, Ordering::Relaxed);
        let span = now.since(began);
        let offered = shared.offered.swap(0, Ordering::Relaxed);
        let load = offered as f64 / span.as_secs_f64();
        // Where nobody looked for long, because nothing was offered, the load was calm all the time.
        let steps = span.as_nanos() / shared.hold.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(STEPS).clamp(1, STEPS);
        let events: Vec<EmergencyEvent> = (1..=steps)
            .filter_map(|step| inner.emergency.on_load(began + span / steps * step, load))
            .collect();
        self.publish(&inner.emergency);
        drop(inner);
        for event in &events {
            self.tell(event);
        }
    }

    /// A load that was measured otherwise, instead of the offers that are counted.
    pub fn on_load(&self, now: Time, load: f64) {
        let mut inner = lock(&self.shared.inner);
        let event = inner.emergency.on_load(now, load);
        self.publish(&inner.emergency);
        drop(inner);
        if let Some(event) = &event {
            self.tell(event);
        }
    }

    fn publish(&self, emergency: &Emergency) {
        let lowest = emergency.lowest().index() as u8;
        self.shared.lowest.store(lowest, Ordering::Relaxed);
        let capacity = emergency.capacity();
        self.shared.capacity.store(capacity, Ordering::Relaxed);
        let episodes = emergency.snapshot().episodes;
        self.shared.episodes.store(episodes, Ordering::Relaxed);
    }

    /// How many alerts there were.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.shared.episodes.load(Ordering::Relaxed)
    }

    fn tell(&self, event: &EmergencyEvent) {
        match event {
            EmergencyEvent::Alert { .. } => tracing::warn!("{event}"),
            _ => tracing::info!("{event}"),
        }
        if let Some(listener) = &self.shared.listener {
            let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
        }
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> EmergencySnapshot {
        lock(&self.shared.inner).emergency.snapshot()
    }

    /// The last changes of mode and capacity and why, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let inner = lock(&self.shared.inner);
        inner.emergency.adjustments().last().copied().collect()
    }

    /// Whether both are the same emergency.
    #[must_use]
    pub fn is_same(&self, other: &EmergencyHandle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for EmergencyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmergencyHandle")
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Time {
        Time::ZERO + MS * ms as u32
    }

    #[test]
    fn offers_of_all_are_counted_and_the_alert_is_told_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&told);
        let listener = move |event: &EmergencyEvent| {
            lock(&events).push(event.to_string());
            assert!(lock(&events).len() < 4, "a listener that panics");
        };
        let settings = EmergencySettings::a5();
        let one = EmergencyHandle::with_listener(settings, 100 * MS, at(0), listener).unwrap();
        let other = one.clone();
        // 8 + 8 in 100 ms are 160 a second. An emergency takes all of a window to be seen.
        one.offered(8);
        other.offered(8);
        one.tick(at(99));
        assert!(other.admits(Class::LOW));
        other.tick(at(100));
        assert!(!one.admits(Class::MEDIUM) && one.admits(Class::HIGH));
        assert_eq!((one.capacity(), one.window_ends()), (10, at(200)));
        // Offers that are refused count: they hold it.
        for window in 2..=20 {
            one.offered(16);
            one.tick(at(window * 100));
        }
        assert_eq!(one.capacity(), 10);
        for window in 21..=70 {
            other.offered(1);
            other.tick(at(window * 100));
        }
        assert!(one.admits(Class::LOW));
        assert_eq!((one.capacity(), one.snapshot().episodes), (100, 1));
        let told = lock(&told);
        assert_eq!(
            told[0],
            "emergency 1: a load of 160 is over 150; only the highest class passes, capacity 10"
        );
        assert_eq!(told[1], "emergency: the load was calm; capacity 20");
        assert_eq!(told.len(), 5, "20, 40, 80, over");
        assert!(told[4].starts_with("emergency: over after"));
    }

    #[test]
    fn where_nothing_was_offered_for_long_the_emergency_is_over() {
        let handle = EmergencyHandle::new(EmergencySettings::a5(), 100 * MS, at(0)).unwrap();
        handle.offered(1000);
        handle.tick(at(100));
        assert_eq!(handle.capacity(), 10);
        // Nobody came for a minute; the first that does passes, whatever its class.
        handle.offered(1);
        handle.tick(at(60_000));
        assert!(handle.admits(Class::LOW));
        let steps: Vec<f64> = handle.adjustments().iter().map(|one| one.to).collect();
        assert_eq!(steps, [1.0, 10.0, 2.0, 20.0, 40.0, 80.0, 0.0, 100.0]);
        let snapshot = handle.snapshot();
        assert_eq!((snapshot.capacity, snapshot.episodes), (100, 1));
    }

    #[test]
    fn a_load_that_was_measured_otherwise_counts_as_well() {
        let handle = EmergencyHandle::new(EmergencySettings::a5(), 100 * MS, at(0)).unwrap();
        handle.on_load(at(1), 151.0);
        assert!(!handle.admits(Class::LOW));
        assert_eq!(handle.adjustments().len(), 2, "mode and capacity");
        let refused = EmergencyHandle::new(EmergencySettings::a5(), Duration::ZERO, at(0));
        assert_eq!(refused.unwrap_err().field, "window");
    }

    #[test]
    fn many_threads_count_each_offer_once() {
        let handle = EmergencyHandle::new(EmergencySettings::new(1000), MS, at(0)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| handle.offered(1)));
            }
        });
        handle.tick(at(1000));
        assert!((handle.snapshot().load - 4000.0).abs() < 1e-6);
    }
}
