//! One admission for the stages of a flow, or of several that share what serves them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Admission, AdmissionSettings, AdmissionSnapshot, AdmissionWindow, Forecast, Gate};
use crate::class::Class;
use crate::control::{
    Adjustment, Emergency, EmergencyEvent, EmergencySettings, EmergencySnapshot, Invalid,
};
use crate::sync::{Mutex, lock};
use crate::time::Time;

type Alert = Box<dyn Fn(&EmergencyEvent) + Send + Sync>;

/// An admission that is shared: clones are the same one.
///
/// Three stages make it work, each tells what it sees: `admit` what is offered, and asks; a buffer by
/// class how much waits; the calls what they served and for how long they were busy. Whoever comes
/// first after the end of a window judges it. What is let in is asked by a load and a compare.
///
/// # Example
/// ```
/// use forebay::control::{AdmissionHandle, AdmissionSettings};
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let admission = AdmissionHandle::new(AdmissionSettings::default())?;
/// assert_eq!(admission.snapshot().reject_ratio, 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AdmissionHandle(Arc<Shared>);

struct Shared {
    gate: Gate,
    /// The classes that an emergency keeps out: a bit each.
    kept_out: AtomicU64,
    settings: AdmissionSettings,
    offered: [AtomicU64; Class::COUNT],
    queued: AtomicU64,
    window_ends: AtomicU64,
    served: Mutex<Served>,
    judge: Mutex<Judge>,
    alert: Option<Alert>,
}

/// What the calls told.
#[derive(Default)]
struct Served {
    workers: usize,
    in_flight: usize,
    /// Up to when `busy` is counted.
    until: Time,
    busy: Duration,
    completed: u64,
}

struct Judge {
    /// Absent until the first window begins.
    admission: Option<Admission>,
    emergency: Option<Emergency>,
}

impl Served {
    fn count(&mut self, now: Time) {
        let span = now.since(self.until);
        self.busy += span * u32::try_from(self.in_flight).unwrap_or(u32::MAX);
        self.until = self.until.max(now);
    }
}

impl AdmissionHandle {
    /// Lets everything in until it has seen a window.
    ///
    /// # Errors
    /// As [`AdmissionSettings::check`].
    pub fn new(settings: AdmissionSettings) -> Result<AdmissionHandle, Invalid> {
        AdmissionHandle::build(settings, None, None)
    }

    /// The same, with a mode for emergencies: when what is offered exceeds the ratio of its settings
    /// to what can be served, only the highest class is let in. `alert` hears of its beginning and of
    /// each step of the way back, in the thread that judged the window; it must be short.
    ///
    /// # Errors
    /// As [`AdmissionSettings::check`] and [`Emergency::new`].
    pub fn with_emergency(
        settings: AdmissionSettings,
        emergency: EmergencySettings,
        alert: impl Fn(&EmergencyEvent) + Send + Sync + 'static,
    ) -> Result<AdmissionHandle, Invalid> {
        let emergency = Emergency::new(emergency)?;
        AdmissionHandle::build(settings, Some(emergency), Some(Box::new(alert)))
    }

    fn build(
        settings: AdmissionSettings,
        emergency: Option<Emergency>,
        alert: Option<Alert>,
    ) -> Result<AdmissionHandle, Invalid> {
        settings.check()?;
        Ok(AdmissionHandle(Arc::new(Shared {
            gate: Gate::open(),
            kept_out: AtomicU64::new(0),
            settings,
            offered: [const { AtomicU64::new(0) }; Class::COUNT],
            queued: AtomicU64::new(0),
            window_ends: AtomicU64::new(0),
            served: Mutex::new(Served::default()),
            judge: Mutex::new(Judge {
                admission: None,
                emergency,
            }),
            alert,
        })))
    }

    /// So many elements of that class are offered.
    pub fn offer(&self, class: Class, count: usize) {
        self.0.offered[class.index()].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Whether an element of that class is let in. See [`Gate::admits`].
    #[must_use]
    #[inline]
    pub fn admits(&self, class: Class, dither: u8) -> bool {
        self.0.gate.admits(class, dither)
            && self.0.kept_out.load(Ordering::Relaxed) & 1 << class.index() == 0
    }

    /// Whether all is let in, whatever its class.
    #[must_use]
    #[inline]
    pub fn admits_all(&self) -> bool {
        self.0.gate.threshold() == Gate::ALL && self.0.kept_out.load(Ordering::Relaxed) == 0
    }

    /// A queue before the calls was so long, and is so long now.
    pub fn queue(&self, before: usize, after: usize) {
        let change = (after as u64).wrapping_sub(before as u64);
        self.0.queued.fetch_add(change, Ordering::Relaxed);
    }

    /// Of one who serves so many calls could run at once, and so many can now.
    pub fn workers(&self, before: usize, after: usize) {
        if before != after {
            let mut served = lock(&self.0.served);
            served.workers = (served.workers + after).saturating_sub(before);
        }
    }

    /// A call begins.
    pub fn begin(&self, now: Time) {
        let mut served = lock(&self.0.served);
        served.count(now);
        served.in_flight += 1;
    }

    /// A call has ended; not `answered` is one that was given up.
    pub fn end(&self, now: Time, answered: bool) {
        let mut served = lock(&self.0.served);
        served.count(now);
        served.in_flight = served.in_flight.saturating_sub(1);
        served.completed += u64::from(answered);
    }

    /// Judges the window if it has ended. Cheap while it has not.
    pub fn tick(&self, now: Time) {
        if now.as_nanos() < self.0.window_ends.load(Ordering::Relaxed) {
            return;
        }
        let mut judge = lock(&self.0.judge);
        if now.as_nanos() < self.0.window_ends.load(Ordering::Relaxed) {
            return;
        }
        let event = self.judge(&mut judge, now);
        drop(judge);
        if let (Some(event), Some(alert)) = (event, &self.0.alert) {
            alert(&event);
        }
    }

    fn judge(&self, judge: &mut Judge, now: Time) -> Option<EmergencyEvent> {
        let Some(admission) = &mut judge.admission else {
            // Its settings were checked.
            judge.admission = Admission::new(self.0.settings, now).ok();
            let ends = judge.admission.as_ref()?.window_ends();
            self.0.window_ends.store(ends.as_nanos(), Ordering::Relaxed);
            lock(&self.0.served).until = now;
            return None;
        };
        let mut window = AdmissionWindow {
            queued: self.0.queued.load(Ordering::Relaxed) as usize,
            ..AdmissionWindow::default()
        };
        for (seen, offered) in window.offered.iter_mut().zip(&self.0.offered) {
            *seen = offered.swap(0, Ordering::Relaxed);
        }
        {
            let mut served = lock(&self.0.served);
            served.count(now);
            window.busy = std::mem::take(&mut served.busy);
            window.completed = std::mem::take(&mut served.completed);
            window.workers = served.workers;
        }
        self.0.gate.set(admission.on_window(now, &window));
        let ends = admission.window_ends();
        self.0.window_ends.store(ends.as_nanos(), Ordering::Relaxed);
        let seen = admission.snapshot();
        let emergency = judge.emergency.as_mut()?;
        if seen.capacity_per_s <= 0.0 {
            return None;
        }
        // In shares of what can be served, of which the emergency knows as its whole capacity.
        let load = seen.offered_per_s / seen.capacity_per_s * emergency.snapshot().whole as f64;
        let event = emergency.on_load(now, load);
        let standing = emergency.snapshot();
        admission.cap(standing.capacity as f64 / standing.whole as f64);
        let mut kept_out = 0;
        for class in (0..Class::COUNT as u8).filter_map(Class::new) {
            kept_out |= u64::from(!emergency.admits(class)) << class.index();
        }
        self.0.kept_out.store(kept_out, Ordering::Relaxed);
        event
    }

    /// What an element that comes now has to expect; nothing is known before the first window.
    #[must_use]
    pub fn forecast(&self) -> Option<Forecast> {
        lock(&self.0.judge)
            .admission
            .as_ref()
            .map(Admission::forecast)
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> AdmissionSnapshot {
        let judge = lock(&self.0.judge);
        judge
            .admission
            .as_ref()
            .map_or_else(AdmissionSnapshot::nothing_yet, Admission::snapshot)
    }

    /// How the mode for emergencies stands, if there is one.
    #[must_use]
    pub fn emergency(&self) -> Option<EmergencySnapshot> {
        lock(&self.0.judge)
            .emergency
            .as_ref()
            .map(Emergency::snapshot)
    }

    /// The last changes of the share that is refused and of the emergency, and why, each the oldest
    /// first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let judge = lock(&self.0.judge);
        let admission = judge
            .admission
            .iter()
            .flat_map(|one| one.adjustments().last());
        let emergency = judge
            .emergency
            .iter()
            .flat_map(|one| one.adjustments().last());
        admission.chain(emergency).copied().collect()
    }
}

impl fmt::Debug for AdmissionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AdmissionHandle")
            .field(&self.snapshot())
            .finish()
    }
}
