//! Parts of the graph that join a run while it goes on.
//!
//! A stage that builds flows as it runs (groups, restarts) has a [`Home`], which knows the board of
//! its run once that has started. A part launched there is counted, told and ended with the run; its
//! stages are reported under the name of the stage that built them, all parts together, so that the
//! report does not grow with their number.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use super::island::Drive;
use super::panel::{Panel, SourceInfo, StageInfo};
use super::snapshot::{SourceReport, StageReport};
use crate::error::{Cause, Stop};
use crate::operator::part::{Part, Positions};
use crate::outcome::Reason;
use crate::position::{SourceCounts, Walk};
use crate::sync::lock;
use crate::topology::Around;

/// Where a stage finds the run it is part of.
#[derive(Clone, Default)]
pub(crate) struct Home(Arc<OnceLock<Place>>);

struct Place {
    panel: Weak<Panel>,
    /// The name of the stage.
    name: String,
    around: Around,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Home")
    }
}

impl Home {
    pub(super) fn open(&self, panel: Weak<Panel>, name: String, around: Around) {
        let _ = self.0.set(Place {
            panel,
            name,
            around,
        });
    }

    /// What its parts must keep.
    pub(crate) fn around(&self) -> Around {
        let around = self.0.get().map(|place| place.around.clone());
        around.unwrap_or_default()
    }

    /// Starts a part of the run. Errors of a contained part's islands are kept for whoever built it
    /// instead of ending the run.
    pub(crate) fn launch(
        &self,
        mut stages: Vec<StageInfo>,
        mut sources: Vec<SourceInfo>,
        islands: Vec<Box<dyn Drive>>,
        contained: bool,
    ) -> Result<Box<dyn Part>, Stop> {
        let place = self.0.get();
        let Some((place, panel)) = place.and_then(|place| Some((place, place.panel.upgrade()?)))
        else {
            return Err(Stop::cause(Cause::Broken));
        };
        for name in stages
            .iter_mut()
            .map(|info| &mut info.name)
            .chain(sources.iter_mut().map(|info| &mut info.name))
        {
            *name = format!("{}/{name}", place.name);
        }
        let scope = Arc::new(Scope {
            contained,
            running: AtomicUsize::new(islands.len()),
            over: AtomicBool::new(false),
            failure: Mutex::default(),
            waker: AtomicWaker::new(),
            stages,
            sources,
        });
        panel.launch_part(&scope, islands);
        Ok(Box::new(Running(scope)))
    }
}

/// A part of the run.
pub(crate) struct Scope {
    contained: bool,
    /// Islands that have not ended.
    running: AtomicUsize,
    /// Nothing calls its stages any more, but for its own islands.
    over: AtomicBool,
    failure: Mutex<Option<Stop>>,
    waker: AtomicWaker,
    pub(super) stages: Vec<StageInfo>,
    pub(super) sources: Vec<SourceInfo>,
}

impl Scope {
    /// An island of it ended. Returns the error if the run has to know of it.
    pub(super) fn island_ended(&self, result: Result<(), Stop>) -> Result<(), Stop> {
        self.running.fetch_sub(1, Ordering::AcqRel);
        match result {
            Err(stop) if self.contained => {
                lock(&self.failure).get_or_insert(stop);
                self.waker.wake();
                Ok(())
            }
            result => result,
        }
    }

    fn walkers(&self) -> impl Iterator<Item = Arc<dyn Walk>> + '_ {
        self.sources
            .iter()
            .flat_map(|source| lock(&source.walkers).clone())
    }

    pub(super) fn end(&self, reason: Reason) {
        for info in &self.stages {
            let _ = info.stage.ending.set(reason);
        }
        for walker in self.walkers() {
            walker.end(reason);
        }
    }

    /// Whether its accounts are final.
    fn is_final(&self) -> bool {
        self.over.load(Ordering::Acquire)
            && self.running.load(Ordering::Acquire) == 0
            && self
                .walkers()
                .all(|walker| walker.counts().unsettled() == 0)
    }
}

/// What the stage that built a part holds of it.
struct Running(Arc<Scope>);

impl Part for Running {
    fn held(&self) -> u64 {
        self.0
            .stages
            .iter()
            .map(|info| info.stage.ledger.held())
            .sum()
    }

    fn poll_failure(&self, waker: &Waker) -> Option<Stop> {
        self.0.waker.register(waker);
        lock(&self.0.failure).take()
    }

    fn give_up(&self) -> Positions {
        let mut positions = Positions::default();
        for walker in self.0.walkers() {
            walker.forgive();
            let (handed_over, settled) = walker.positions();
            let share = |position: Box<dyn Any + Send>| Arc::new(Mutex::new(position));
            positions.handed_over.extend(handed_over.map(share));
            positions.settled.extend(settled.map(share));
        }
        positions
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// The account of a source, from its trackers.
pub(super) fn report_source(
    info: &SourceInfo,
    stages: &[StageInfo],
    name_of: &dyn Fn(u32) -> Option<String>,
) -> SourceReport {
    let walkers = lock(&info.walkers).clone();
    let lag = lock(&info.settings).lag.clone();
    let mut counts = SourceCounts::default();
    let mut abandoned = BTreeMap::new();
    for walker in &walkers {
        counts.add(&walker.counts());
        for (stage, count) in walker.abandoned() {
            let name = name_of(stage).unwrap_or_else(|| info.name.clone());
            *abandoned.entry(name).or_default() += count;
        }
    }
    SourceReport {
        name: info.name.clone(),
        tracked: !walkers.is_empty(),
        made: stages
            .iter()
            .find(|stage| stage.stage.id == info.stage)
            .map_or(0, |stage| stage.stage.ledger.counts().made),
        counts,
        abandoned,
        // Without the lock: whoever tells it takes locks of its own.
        lag: lag.read(),
    }
}

/// The name of the stage with that number.
pub(super) fn name_in(stages: &[StageInfo], id: u32) -> Option<String> {
    let found = stages.iter().find(|info| info.stage.id == id);
    found.map(|info| info.name.clone())
}

pub(super) fn report_stage(info: &StageInfo) -> StageReport {
    StageReport {
        name: info.name.clone(),
        kind: info.kind,
        counts: info.stage.ledger.counts(),
    }
}

/// Reports added up by name, in the order of names.
#[derive(Clone, Default)]
struct Sums {
    stages: BTreeMap<String, StageReport>,
    sources: BTreeMap<String, SourceReport>,
}

impl Sums {
    fn add(&mut self, scope: &Scope, name_of: &dyn Fn(u32) -> Option<String>) {
        for info in &scope.stages {
            let report = report_stage(info);
            match self.stages.get_mut(&report.name) {
                Some(sum) => sum.counts.add(&report.counts),
                None => {
                    self.stages.insert(report.name.clone(), report);
                }
            }
        }
        for info in &scope.sources {
            let report = report_source(info, &scope.stages, name_of);
            match self.sources.get_mut(&report.name) {
                Some(sum) => {
                    sum.tracked |= report.tracked;
                    sum.made += report.made;
                    sum.counts.add(&report.counts);
                    for (stage, count) in report.abandoned {
                        *sum.abandoned.entry(stage).or_default() += count;
                    }
                    sum.lag.extend(report.lag);
                }
                None => {
                    self.sources.insert(report.name.clone(), report);
                }
            }
        }
    }
}

/// All parts of a run.
#[derive(Default)]
pub(super) struct Parts {
    live: Vec<Arc<Scope>>,
    /// The accounts of those that are final.
    past: Sums,
}

impl Parts {
    /// Adds a part. Those whose accounts are final are summed up: they stay by name until then.
    pub(super) fn add(&mut self, scope: Arc<Scope>) {
        let (past, live): (Vec<_>, Vec<_>) =
            self.live.drain(..).partition(|scope| scope.is_final());
        self.live = live;
        for scope in past {
            self.past.add(&scope, &|id| name_in(&scope.stages, id));
        }
        self.live.push(scope);
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.live.iter()
    }

    pub(super) fn name_of(&self, id: u32) -> Option<String> {
        self.live
            .iter()
            .find_map(|scope| name_in(&scope.stages, id))
    }

    pub(super) fn report(
        &self,
        name_of: &dyn Fn(u32) -> Option<String>,
    ) -> (Vec<StageReport>, Vec<SourceReport>) {
        let mut sums = self.past.clone();
        for scope in &self.live {
            sums.add(scope, name_of);
        }
        (
            sums.stages.into_values().collect(),
            sums.sources.into_values().collect(),
        )
    }
}
