//! One run: a system, a level, a seed. Puts the load together, has it run on its clock, and hands
//! over all that was recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::outcome::Kind;
use forebay::runtime::Snapshot;

use crate::cores::Cores;
use crate::producer::Producer;
use crate::scenario::{ByClass, Fault, Files, Mode, Rank, Scenario, Timeline, Times};
use crate::schedule::Draw;
use crate::shop::Shop;
use crate::system::{self, Observation, Setup, System, Work};
use crate::trace::{Record, Trace};
use crate::{simulated, wall};

/// How often a system is observed in a run.
pub(crate) const SAMPLES: u64 = 200;

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) files: &'a Files,
    pub(crate) times: &'a Times,
    pub(crate) level: Option<f64>,
    pub(crate) seed: u64,
    pub(crate) system: &'a str,
    /// What the workers are charged for a refusal.
    pub(crate) refusal_ns: u64,
    /// Told how far the run has come, in thousandths.
    pub(crate) progress: &'a Arc<AtomicU64>,
}

/// A system's state at a time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at_ns: u64,
    pub(crate) observed: Observation,
}

/// How a system itself says that elements ended, by class.
pub(crate) type Account = ByClass<[u64; Kind::COUNT]>;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) records: Vec<Record>,
    pub(crate) capacity_per_s: f64,
    pub(crate) mean_service_ns: f64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) last: Observation,
    /// Of a system that keeps accounts.
    pub(crate) account: Option<Account>,
    /// What is wrong with its accounts.
    pub(crate) imbalance: Option<String>,
    pub(crate) bound_bytes: Option<u64>,
    pub(crate) refusal_ns: u64,
    /// On the wall clock.
    pub(crate) peak_rss_kib: Option<u64>,
}

/// What a clock needs to run a job.
pub(crate) struct Stage {
    pub(crate) trace: Arc<Trace>,
    pub(crate) system: Arc<dyn System>,
    pub(crate) work: Work,
    pub(crate) producers: Vec<Producer>,
    pub(crate) duration_ns: u64,
    pub(crate) drain_ns: u64,
    pub(crate) seed: u64,
    pub(crate) cores: Cores,
    pub(crate) progress: Arc<AtomicU64>,
}

impl Stage {
    /// A system's state now.
    pub(crate) fn sample(system: &dyn System, trace: &Trace) -> Sample {
        Sample {
            at_ns: trace.now(),
            observed: system.observe(),
        }
    }
}

/// What a clock hands back.
pub(crate) struct Played {
    pub(crate) samples: Vec<Sample>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) peak_rss_kib: Option<u64>,
}

/// Runs a job.
pub(crate) fn run(job: &Job<'_>) -> Result<Ran, String> {
    let scenario = job.scenario;
    job.progress.store(0, Ordering::Relaxed);
    let mean_ns = job.times.mean_ns();
    let capacity_per_s = match scenario.mode {
        Mode::Simulated => scenario.workers as f64 * 1e9 / mean_ns,
        Mode::Wall => wall::closed_loop(scenario, job.times, job.seed)?,
    };
    let draw = Draw {
        scenario,
        load: scenario.load_at(job.level),
        times: job.times,
        files: job.files,
        capacity_per_s,
        seed: job.seed,
    };
    let arrivals = Arc::new(draw.schedule()?);
    let again: usize = scenario
        .faults
        .iter()
        .map(|fault| match fault {
            Fault::RetryStorm { tries, .. } => {
                let within = arrivals.iter().filter(|a| fault.is_on(a.at_ns)).count();
                within * *tries as usize
            }
            _ => 0,
        })
        .sum();
    let max_bytes = arrivals.iter().map(|a| a.bytes).max().unwrap_or(1);
    let trace = Trace::new(Arc::clone(&arrivals), again, job.refusal_ns);
    let timeline = Timeline::new(&scenario.faults, job.seed);
    let shop = Shop::new(&trace, timeline, scenario, job.times, capacity_per_s);
    let built = system::build(
        job.system,
        &Setup {
            scenario,
            shop: &shop,
            mean_service: job.times.mean(),
            max_bytes,
        },
    )?;
    let deadlines_ns = ByClass::make(|rank| (scenario.deadline_services.of(rank) * mean_ns) as u64);
    let producers = match scenario.mode {
        Mode::Simulated => 1,
        Mode::Wall => scenario.producers,
    };
    let longest = Rank::ALL
        .map(|rank| *deadlines_ns.of(rank))
        .into_iter()
        .max();
    let drain_ns = scenario.measure.drain_ms.map_or_else(
        || (2 * longest.unwrap_or_default()).max(100_000_000),
        |ms| ms * 1_000_000,
    );
    let stage = Stage {
        trace: Arc::clone(&trace),
        system: Arc::clone(&built.system),
        work: built.work,
        producers: (0..producers)
            .map(|number| Producer::new(&shop, &built.system, deadlines_ns, number, producers))
            .collect(),
        duration_ns: scenario.duration_ms * 1_000_000,
        drain_ns,
        seed: job.seed,
        cores: scenario.cores,
        progress: Arc::clone(job.progress),
    };
    let played = match scenario.mode {
        Mode::Simulated => simulated::play(stage)?,
        Mode::Wall => wall::play(stage)?,
    };
    let last = built.system.observe();
    let imbalance = played.snapshot.as_ref().and_then(|snapshot| {
        let wrong = snapshot.check().err()?;
        Some(
            wrong
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )
    });
    Ok(Ran {
        records: trace.records(&deadlines_ns),
        capacity_per_s,
        mean_service_ns: mean_ns,
        samples: played.samples,
        last,
        account: played.snapshot.as_ref().map(account),
        imbalance,
        bound_bytes: built.bound_bytes,
        refusal_ns: job.refusal_ns,
        peak_rss_kib: played.peak_rss_kib,
    })
}

/// The headline of a pipeline's accounts.
fn account(snapshot: &Snapshot) -> Account {
    let total = snapshot.total();
    ByClass::make(|rank| total.classes[rank.class().index()].outcomes)
}
