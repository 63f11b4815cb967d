//! One admission for the stages of a flow, or of several that share what serves them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Admission, AdmissionSettings, AdmissionSnapshot, AdmissionWindow, Forecast, Gate};
use crate::class::Class;
use crate::control::{Adjustment, EmergencyHandle, History, Invalid};
use crate::sync::{Mutex, lock};
use crate::time::Time;

/// Refused before any other.
const LOWEST: Class = match Class::new(Class::COUNT as u8 - 1) {
    Some(class) => class,
    None => Class::LOW,
};

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
    settings: AdmissionSettings,
    offered: [AtomicU64; Class::COUNT],
    queued: AtomicU64,
    window_ends: AtomicU64,
    served: Mutex<Served>,
    /// Absent until the first window begins.
    judge: Mutex<Option<Admission>>,
    emergency: Option<EmergencyHandle>,
}

/// What the calls told.
#[derive(Default)]
struct Served {
    workers: usize,
    /// What the calls took that have ended. (Not the time for which calls were in flight: in a window
    /// shorter than a call much of that time has nothing to show yet, and the first windows would
    /// take the service for much slower than it is.)
    busy: Duration,
    completed: u64,
}

impl AdmissionHandle {
    /// Lets everything in until it has seen a window.
    ///
    /// # Errors
    /// As [`AdmissionSettings::check`].
    pub fn new(settings: AdmissionSettings) -> Result<AdmissionHandle, Invalid> {
        AdmissionHandle::build(settings, None)
    }

    /// The same, with a mode for emergencies, whose capacity and offers are in elements a second: far
    /// over its capacity only the highest class is let in, and on the way back others up to the share
    /// of the capacity that it allows.
    ///
    /// # Errors
    /// As [`AdmissionSettings::check`].
    pub fn with_emergency(
        settings: AdmissionSettings,
        emergency: &EmergencyHandle,
    ) -> Result<AdmissionHandle, Invalid> {
        AdmissionHandle::build(settings, Some(emergency.clone()))
    }

    fn build(
        settings: AdmissionSettings,
        emergency: Option<EmergencyHandle>,
    ) -> Result<AdmissionHandle, Invalid> {
        settings.check()?;
        Ok(AdmissionHandle(Arc::new(Shared {
            gate: Gate::open(),
            settings,
            offered: [const { AtomicU64::new(0) }; Class::COUNT],
            queued: AtomicU64::new(0),
            window_ends: AtomicU64::new(0),
            served: Mutex::new(Served::default()),
            judge: Mutex::new(None),
            emergency,
        })))
    }

    /// So many elements of that class are offered.
    pub fn offer(&self, class: Class, count: usize) {
        self.0.offered[class.index()].fetch_add(count as u64, Ordering::Relaxed);
        if let Some(emergency) = &self.0.emergency {
            emergency.offered(count as u64);
        }
    }

    /// Whether an element of that class is let in. See [`Gate::admits`].
    #[must_use]
    #[inline]
    pub fn admits(&self, class: Class, dither: u8) -> bool {
        let emergency = self.0.emergency.as_ref();
        self.0.gate.admits(class, dither) && emergency.is_none_or(|one| one.admits(class))
    }

    /// Whether all is let in, whatever its class.
    #[must_use]
    #[inline]
    pub fn admits_all(&self) -> bool {
        let emergency = self.0.emergency.as_ref();
        self.0.gate.threshold() == Gate::ALL && emergency.is_none_or(|one| one.admits(LOWEST))
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

    /// A call has ended and took so long; not `well` is one that failed: it took its time for nothing.
    pub fn served(&self, service: Duration, well: bool) {
        self.served_together(service, u64::from(well));
    }

    /// Calls have ended that took so long together; so many of them ended well.
    pub(crate) fn served_together(&self, busy: Duration, well: u64) {
        let mut served = lock(&self.0.served);
        served.busy += busy;
        served.completed += well;
    }

    /// Judges the window if it has ended. Cheap while it has not.
    pub fn tick(&self, now: Time) {
        if let Some(emergency) = &self.0.emergency {
            emergency.tick(now);
        }
        if now.as_nanos() < self.0.window_ends.load(Ordering::Relaxed) {
            return;
        }
        let mut admission = lock(&self.0.judge);
        if now.as_nanos() >= self.0.window_ends.load(Ordering::Relaxed) {
            self.judge(&mut admission, now);
        }
    }

    fn judge(&self, admission: &mut Option<Admission>, now: Time) {
        match admission {
            None => {
                // Its settings were checked.
                *admission = Admission::new(self.0.settings, now).ok();
            }
            Some(admission) => {
                if let Some(emergency) = &self.0.emergency {
                    let seen = emergency.snapshot();
                    admission.cap(seen.capacity as f64 / seen.whole as f64);
                }
                self.0.gate.set(admission.on_window(now, &self.window()));
            }
        }
        if let Some(admission) = admission {
            let ends = admission.window_ends().as_nanos();
            self.0.window_ends.store(ends, Ordering::Relaxed);
        }
    }

    /// What was seen since it was asked last.
    fn window(&self) -> AdmissionWindow {
        let mut window = AdmissionWindow {
            queued: self.0.queued.load(Ordering::Relaxed) as usize,
            ..AdmissionWindow::default()
        };
        for (seen, offered) in window.offered.iter_mut().zip(&self.0.offered) {
            *seen = offered.swap(0, Ordering::Relaxed);
        }
        let mut served = lock(&self.0.served);
        window.busy = std::mem::take(&mut served.busy);
        window.completed = std::mem::take(&mut served.completed);
        window.workers = served.workers;
        window
    }

    /// How many emergencies it went through; 0 without a mode for them.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.0.emergency.as_ref().map_or(0, EmergencyHandle::alerts)
    }

    /// What an element that comes now has to expect; nothing is known before the first window.
    #[must_use]
    pub fn forecast(&self) -> Option<Forecast> {
        lock(&self.0.judge).as_ref().map(Admission::forecast)
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> AdmissionSnapshot {
        lock(&self.0.judge)
            .as_ref()
            .map_or_else(AdmissionSnapshot::nothing_yet, Admission::snapshot)
    }

    /// The last changes of the share that is refused, and why, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let admission = lock(&self.0.judge);
        let history = admission.iter().map(Admission::adjustments);
        history.flat_map(History::last).copied().collect()
    }
}

impl fmt::Debug for AdmissionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AdmissionHandle")
            .field(&self.snapshot())
            .finish()
    }
}
