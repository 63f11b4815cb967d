//! The systems under test behind one trait: offer an element, let workers take it, observe.
//!
//! A system is built with its offering side and the work that has to run: tasks, or a pipeline. Both
//! run on either clock, because they take time from `forebay::time` alone.

mod codel;
mod driver;
mod fifo;
mod forebay_pipeline;
mod line;
mod mpsc;
mod priority;
mod tower_shed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use forebay::control::Adjustment;
use forebay::flow::Pipeline;

use crate::scenario::{ByClass, MECHANISMS, Mode, Scenario};
use crate::shop::Shop;
use crate::trace::Item;

/// The state of a breaker, as it is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// A change of a breaker's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transition {
    /// Nanoseconds on the run's clock.
    pub(crate) at_ns: u64,
    pub(crate) to: BreakerState,
}

/// What a system shows of itself. What it has not is absent, not 0.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Observation {
    /// How many calls may be in flight.
    pub(crate) limit: Option<f64>,
    /// The size of batches.
    pub(crate) batch: Option<f64>,
    /// The part of the offers that admission refuses.
    pub(crate) reject_ratio: Option<f64>,
    pub(crate) breaker: Option<BreakerState>,
    /// All so far.
    pub(crate) transitions: Vec<Transition>,
    /// Elements of a lower class let before a higher one by declaration.
    pub(crate) aging_grants: u64,
    /// Elements that were turned away before any stage, which its accounts cannot know of.
    pub(crate) turned_away: Option<ByClass<u64>>,
    /// How often elements were put off.
    pub(crate) deferrals: Option<ByClass<u64>>,
    /// The last adjustments of all controllers.
    pub(crate) adjustments: Vec<Adjustment>,
}

/// A system's offering side.
pub(crate) trait System: Send + Sync {
    /// Takes an element in, or gives it back at once.
    fn offer(&self, item: Item) -> Result<(), Item>;
    /// No more offers: what is inside is finished, and the work ends.
    fn close(&self);
    /// What it shows of itself.
    fn observe(&self) -> Observation {
        Observation::default()
    }
}

/// A future that runs beside the offers.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What has to run for a system to work.
pub(crate) struct Work {
    pub(crate) tasks: Vec<Task>,
    pub(crate) pipeline: Option<Pipeline<()>>,
}

impl Work {
    fn of_tasks(tasks: Vec<Task>) -> Work {
        Work {
            tasks,
            pipeline: None,
        }
    }
}

/// A system ready to run.
pub(crate) struct Built {
    pub(crate) system: Arc<dyn System>,
    pub(crate) work: Work,
    /// The most bytes it declares to hold.
    pub(crate) bound_bytes: Option<u64>,
}

/// What a system is built from.
pub(crate) struct Setup<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) shop: &'a Arc<Shop>,
    pub(crate) mean_service: Duration,
    /// The largest element of the run.
    pub(crate) max_bytes: u64,
}

impl Setup<'_> {
    fn services(&self, count: f64) -> u64 {
        (self.mean_service.as_nanos() as f64 * count) as u64
    }

    /// What the workers can do.
    fn capacity_per_s(&self) -> f64 {
        self.scenario.workers as f64 / self.mean_service.as_secs_f64()
    }

    /// As many places as hold so many services of work for each worker.
    fn places(&self, services: f64) -> usize {
        ((self.scenario.workers as f64 * services).ceil() as usize).max(1)
    }

    /// As many bytes as that many elements and those outside of the queue can have.
    fn bound_bytes(&self, items: usize) -> u64 {
        self.max_bytes * (items + self.outside()) as u64
    }

    /// How many elements are inside, as the trace sees it, but in no queue: one at each worker, and
    /// on the wall clock what each producer is offering and what it is just evicting for it.
    fn outside(&self) -> usize {
        self.scenario.workers
            + match self.scenario.mode {
                Mode::Simulated => 0,
                Mode::Wall => 2 * self.scenario.producers,
            }
    }
}

/// The systems that forebay is compared with.
pub(crate) const BASELINES: &[&str] = &[
    "tokio_mpsc",
    "tower_load_shed",
    "codel_fifo",
    "strict_priority",
    "fifo_4",
];

pub(crate) fn is_baseline(name: &str) -> bool {
    BASELINES.contains(&name)
}

const WITHOUT: &str = "forebay_without_";

/// Whether there is a system of that name.
pub(crate) fn known(name: &str) -> Result<(), String> {
    let ablation = name
        .strip_prefix(WITHOUT)
        .is_some_and(|mechanism| MECHANISMS.contains(&mechanism));
    if name == "forebay" || ablation || BASELINES.contains(&name) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is none of forebay, {}, {WITHOUT}{{{}}}",
        BASELINES.join(", "),
        MECHANISMS.join(", ")
    ))
}

/// The mechanism that a system is forebay without.
pub(crate) fn mechanism_of(name: &str) -> Option<&str> {
    name.strip_prefix(WITHOUT)
}

/// Whether a scenario has the mechanism that an ablation leaves out; true of all other systems.
pub(crate) fn applies(name: &str, scenario: &Scenario) -> bool {
    let mechanism = mechanism_of(name);
    mechanism.is_none_or(|mechanism| scenario.policies.uses(mechanism))
}

/// Forebay and the baselines, and with `ablations` forebay without each mechanism.
pub(crate) fn all(ablations: bool) -> Vec<String> {
    let mut names = vec!["forebay".to_owned()];
    names.extend(BASELINES.iter().map(|name| (*name).to_owned()));
    if ablations {
        names.extend(MECHANISMS.iter().map(|name| format!("{WITHOUT}{name}")));
    }
    names
}

/// Builds the system of that name.
pub(crate) fn build(name: &str, setup: &Setup<'_>) -> Result<Built, String> {
    known(name)?;
    let baselines = &setup.scenario.baselines;
    Ok(match name {
        "tokio_mpsc" => mpsc::build(setup),
        "tower_load_shed" => tower_shed::build(setup),
        "codel_fifo" => line::build(
            setup,
            codel::Codel::new(
                baselines.queue_items,
                setup.services(baselines.codel_target_services),
                setup.services(baselines.codel_interval_services),
            ),
            baselines.queue_items,
        ),
        "strict_priority" => line::build(
            setup,
            priority::StrictPriority::new(baselines.queue_items),
            baselines.queue_items,
        ),
        "fifo_4" => line::build(setup, fifo::Fifo::new(4), 4),
        _ => {
            let mut policies = setup.scenario.policies.clone();
            policies
                .without
                .extend(name.strip_prefix(WITHOUT).map(str::to_owned));
            forebay_pipeline::build(setup, &policies)?
        }
    })
}
