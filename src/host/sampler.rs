//! The thread that looks at the host.

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::budget::MemoryBudget;
use super::cgroup::Cgroups;
use super::error::HostError;
use super::lag::LagProbe;
use super::machine::Machine;
use super::sample::{HostSample, HostSource, MemoryUse};
use crate::control::PressureHandle;
use crate::sync::lock;
use crate::time::{Time, now};

/// What is looked at, and how often.
#[derive(Clone, Debug)]
pub struct HostSettings {
    every: Duration,
    cgroup_root: PathBuf,
    membership: PathBuf,
    budget: Option<MemoryBudget>,
    pressure: Option<PressureHandle>,
}

impl Default for HostSettings {
    fn default() -> HostSettings {
        HostSettings {
            every: Duration::from_millis(100),
            cgroup_root: PathBuf::from("/sys/fs/cgroup"),
            membership: PathBuf::from("/proc/self/cgroup"),
            budget: None,
            pressure: None,
        }
    }
}

impl HostSettings {
    /// This process, each 100 ms.
    #[must_use]
    pub fn new() -> HostSettings {
        HostSettings::default()
    }

    /// How often; less than 10 ms counts as 10 ms. Default 100 ms.
    #[must_use]
    pub fn every(mut self, span: Duration) -> HostSettings {
        self.every = span.max(Duration::from_millis(10));
        self
    }

    /// Where the tree of control groups is mounted, and the file that says in which of them the process
    /// is. Default: `/sys/fs/cgroup` and `/proc/self/cgroup`.
    #[must_use]
    pub fn cgroups(
        mut self,
        root: impl Into<PathBuf>,
        membership: impl Into<PathBuf>,
    ) -> HostSettings {
        self.cgroup_root = root.into();
        self.membership = membership.into();
        self
    }

    /// Counts that budget as memory too: the one nearer to its limit is told.
    #[must_use]
    pub fn budget(mut self, budget: &MemoryBudget) -> HostSettings {
        self.budget = Some(budget.clone());
        self
    }

    /// Tells that pressure all that is seen, so that the stages that go by it need ask nobody.
    #[must_use]
    pub fn feeding(mut self, pressure: &PressureHandle) -> HostSettings {
        self.pressure = Some(pressure.clone());
        self
    }
}

/// Looks at the host again and again, on a thread named `forebay-host` that ends when this is dropped.
#[must_use = "the host is looked at as long as this lives"]
pub struct Host {
    reader: HostReader,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Reads what a [`Host`] saw last. Clones read the same; it stays readable when the host is dropped.
#[derive(Clone)]
pub struct HostReader {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    lag: Mutex<Option<LagProbe>>,
}

#[derive(Clone, Default)]
struct Seen {
    sample: HostSample,
    trouble: Option<HostError>,
}

impl Host {
    /// Looks once, and starts the thread that goes on.
    ///
    /// # Errors
    /// [`HostError`]: what the control groups say cannot be understood, or no thread can be had.
    pub fn start(settings: HostSettings) -> Result<Host, HostError> {
        let mut eyes = Eyes::open(&settings)?;
        let reader = HostReader {
            shared: Arc::new(Shared::default()),
        };
        let first = eyes.look(now());
        if let Some(trouble) = first.trouble {
            return Err(trouble);
        }
        let pressure = settings.pressure;
        tell(pressure.as_ref(), &first.sample);
        *lock(&reader.shared.seen) = first;
        let (stop, stopped) = sync_channel(1);
        let shared = Arc::clone(&reader.shared);
        let thread = std::thread::Builder::new()
            .name("forebay-host".to_owned())
            .spawn(move || {
                run(
                    &mut eyes,
                    &shared,
                    &stopped,
                    settings.every,
                    pressure.as_ref(),
                );
            })
            .map_err(|error| HostError::NoThread(error.kind()))?;
        Ok(Host {
            reader,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Measures the lag of that runtime from now on, with a task on it that ends with the host. Another
    /// runtime takes its place.
    pub fn watch(&self, runtime: &tokio::runtime::Handle) {
        *lock(&self.reader.shared.lag) = Some(LagProbe::new(runtime));
    }

    /// What others read it with.
    #[must_use]
    pub fn reader(&self) -> HostReader {
        self.reader.clone()
    }
}

impl Drop for Host {
    /// Waits for the thread, which is at most one look away.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        *lock(&self.reader.shared.lag) = None;
    }
}

impl HostReader {
    /// What was seen last.
    #[must_use]
    pub fn sample(&self) -> HostSample {
        lock(&self.shared.seen).sample
    }

    /// What went wrong at the last look, if something did. What could not be read of a group is read of
    /// the machine meanwhile.
    #[must_use]
    pub fn trouble(&self) -> Option<HostError> {
        lock(&self.shared.seen).trouble.clone()
    }
}

impl HostSource for HostReader {
    fn latest(&self, _: Time) -> HostSample {
        self.sample()
    }
}

fn tell(pressure: Option<&PressureHandle>, sample: &HostSample) {
    if let Some(pressure) = pressure {
        for reading in sample.readings() {
            pressure.read(sample.at, reading);
        }
    }
}

fn run(
    eyes: &mut Eyes,
    shared: &Shared,
    stopped: &Receiver<()>,
    every: Duration,
    pressure: Option<&PressureHandle>,
) {
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let now = now();
        let mut seen = eyes.look(now);
        seen.sample.runtime_lag = lock(&shared.lag).as_mut().and_then(|lag| lag.look(now));
        tell(pressure, &seen.sample);
        *lock(&shared.seen) = seen;
    }
}

/// All that is looked at, in order: groups, machine, budget.
struct Eyes {
    cgroups: Cgroups,
    machine: Machine,
    budget: Option<MemoryBudget>,
    /// Whether a group has given a quota: then the machine's figure is never taken for it.
    has_quota: bool,
}

impl Eyes {
    fn open(settings: &HostSettings) -> Result<Eyes, HostError> {
        Ok(Eyes {
            cgroups: Cgroups::under(&settings.cgroup_root, &settings.membership)?,
            machine: Machine::new(),
            budget: settings.budget.clone(),
            has_quota: false,
        })
    }

    fn look(&mut self, now: Time) -> Seen {
        let mut trouble = None;
        let mut keep = |error| {
            trouble.get_or_insert(error);
        };
        let quota = self.cgroups.cpu(now).unwrap_or_else(|error| {
            keep(error);
            None
        });
        self.has_quota |= quota.is_some();
        let of_machine = self.machine.cpu().filter(|_| !self.has_quota);
        let limited = self.cgroups.memory().unwrap_or_else(|error| {
            keep(error);
            None
        });
        let memory = limited.or_else(|| self.machine.memory());
        let budget = self.budget.as_ref().map(MemoryBudget::memory);
        let sample = HostSample {
            at: now,
            cpu: quota.or(of_machine),
            memory: memory.into_iter().chain(budget).reduce(MemoryUse::tighter),
            runtime_lag: None,
        };
        Seen { sample, trouble }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("sample", &self.reader.sample())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HostReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostReader")
            .field("sample", &self.sample())
            .finish_non_exhaustive()
    }
}
