//! Several runs: scenarios, their levels, seeds and systems.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use crate::cores::Cores;
use crate::measure::{Figures, figures};
use crate::refusal::{Refusal, charge};
use crate::run::{Job, run};
use crate::scenario::{BUILT_IN, Files, Mode, Scenario};
use crate::system;

/// A scenario and where its files are.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) scenario: Scenario,
    pub(crate) files: Files,
}

/// The scenario of that name, or in that file; with `@` and a level, that level of its sweep alone.
pub(crate) fn load(name: &str) -> Result<Loaded, String> {
    let Some((whole, level)) = name.rsplit_once('@') else {
        return load_whole(name);
    };
    let mut loaded = load_whole(whole)?;
    let scenario = &mut loaded.scenario;
    let level = level
        .parse::<f64>()
        .ok()
        .filter(|level| scenario.load.sweep.contains(level))
        .ok_or_else(|| format!("{name}: `{level}` is no level of its sweep"))?;
    scenario.load.sweep = vec![level];
    scenario.expect.at.retain(|at| at.level == Some(level));
    Ok(loaded)
}

fn load_whole(name: &str) -> Result<Loaded, String> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        let scenario = Scenario::parse(text).map_err(|why| format!("{name}: {why}"))?;
        let files = Files::none();
        return Ok(Loaded { scenario, files });
    }
    let path = Path::new(name);
    if path.extension().is_none_or(|end| end != "toml") {
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "there is no scenario `{name}`: a .toml file, or one of {}",
            names.join(", ")
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let scenario = Scenario::parse(&text).map_err(|why| format!("{name}: {why}"))?;
    let files = Files::beside(path);
    Ok(Loaded { scenario, files })
}

/// What of a scenario is to be run otherwise than it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) mode: Option<Mode>,
    pub(crate) seeds: Vec<u64>,
    pub(crate) systems: Vec<String>,
    pub(crate) workers: Option<usize>,
    pub(crate) mean_us: Option<f64>,
    pub(crate) cores: Option<Cores>,
}

impl Loaded {
    /// Applies the changes.
    pub(crate) fn change(mut self, changes: &Changes) -> Result<Loaded, String> {
        let scenario = &mut self.scenario;
        if let Some(mode) = changes.mode {
            scenario.mode = mode;
        }
        if let Some(workers) = changes.workers {
            scenario.workers = workers;
        }
        if let Some(mean_us) = changes.mean_us {
            scenario.service.set_mean_us(mean_us)?;
        }
        if let Some(cores) = changes.cores {
            scenario.cores = cores;
        }
        if !changes.seeds.is_empty() {
            scenario.seeds.clone_from(&changes.seeds);
        }
        if !changes.systems.is_empty() {
            scenario.systems.clone_from(&changes.systems);
        }
        scenario
            .check()
            .map_err(|why| format!("{}: {why}", scenario.name))?;
        Ok(self)
    }
}

/// One run to be made.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Which of the session's scenarios.
    pub(crate) scenario: usize,
    /// The scenario's name, with its level.
    pub(crate) name: String,
    pub(crate) level: Option<f64>,
    pub(crate) system: String,
    pub(crate) seed: u64,
}

/// A run's scenario, system and seed.
type Key = (usize, String, u64);

/// Runs that are made one after the other, or several at once.
#[derive(Debug)]
pub(crate) struct Session {
    loaded: Vec<Loaded>,
    planned: Vec<Planned>,
    /// What a refusal is charged, by scenario and system.
    charges: BTreeMap<(usize, String), u64>,
    /// How far the present run has come, in thousandths.
    progress: Arc<AtomicU64>,
    /// HIGH's p99 at half the capacity.
    references: Mutex<BTreeMap<Key, Option<f64>>>,
}

impl Session {
    /// All runs of these scenarios; `systems` where one names none. If the cost of a refusal is to be
    /// measured that is done here, before anything else runs.
    pub(crate) fn new(
        loaded: Vec<Loaded>,
        systems: &[String],
        refusal: Refusal,
    ) -> Result<Session, String> {
        let mut planned = Vec::new();
        let mut charges = BTreeMap::new();
        for (number, of) in loaded.iter().enumerate() {
            let scenario = &of.scenario;
            let systems = if scenario.systems.is_empty() {
                systems
            } else {
                &scenario.systems
            };
            let systems: Vec<&String> = systems
                .iter()
                .filter(|name| system::applies(name, scenario))
                .collect();
            for system in &systems {
                let ns = charge(refusal, scenario, system)
                    .map_err(|why| format!("{}: {why}", scenario.name))?;
                charges.insert((number, (*system).clone()), ns);
            }
            for level in scenario.levels() {
                for system in &systems {
                    for seed in &scenario.seeds {
                        planned.push(Planned {
                            scenario: number,
                            name: level.map_or_else(
                                || scenario.name.clone(),
                                |level| format!("{}@{level}", scenario.name),
                            ),
                            level,
                            system: (*system).clone(),
                            seed: *seed,
                        });
                    }
                }
            }
        }
        Ok(Session {
            loaded,
            planned,
            charges,
            progress: Arc::default(),
            references: Mutex::default(),
        })
    }

    pub(crate) fn planned(&self) -> &[Planned] {
        &self.planned
    }

    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &Scenario> {
        self.loaded.iter().map(|loaded| &loaded.scenario)
    }

    pub(crate) fn progress(&self) -> &Arc<AtomicU64> {
        &self.progress
    }

    /// Makes all runs, so many at once, and hands them over in the order of the plan, until one fails
    /// or `stop` is set. Simulated runs are the same however many are made at once.
    pub(crate) fn make_all(
        &self,
        jobs: usize,
        stop: &AtomicBool,
        mut each: impl FnMut(Figures) -> Result<(), String>,
    ) -> Result<(), String> {
        let next = AtomicUsize::new(0);
        let (sender, made) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, self.planned.len().max(1)) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.planned.len() {
                            break;
                        }
                        if sender.send((number, self.make(number))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut due = 0;
            for (number, figures) in made {
                early.insert(number, figures);
                while let Some(figures) = early.remove(&due) {
                    due += 1;
                    if let Err(why) = figures.and_then(&mut each) {
                        stop.store(true, Ordering::Release);
                        return Err(why);
                    }
                }
            }
            Ok(())
        })
    }

    /// Makes the run of that number.
    pub(crate) fn make(&self, number: usize) -> Result<Figures, String> {
        let planned = &self.planned[number];
        let of = &self.loaded[planned.scenario];
        let told = |why| format!("{}: {why}", planned.name);
        let times = of.scenario.times(&of.files).map_err(told)?;
        let charged = (planned.scenario, planned.system.clone());
        let job = Job {
            scenario: &of.scenario,
            files: &of.files,
            times: &times,
            level: planned.level,
            seed: planned.seed,
            system: &planned.system,
            refusal_ns: self.charges.get(&charged).copied().unwrap_or_default(),
            progress: &self.progress,
        };
        let reference_p99_us = if of.scenario.expect.needs_reference(planned.level) {
            self.reference(planned, &job).map_err(told)?
        } else {
            None
        };
        let ran = run(&job).map_err(told)?;
        Ok(figures(
            &of.scenario,
            planned.level,
            planned.name.clone(),
            &planned.system,
            planned.seed,
            &ran,
            reference_p99_us,
        ))
    }

    /// HIGH's p99 in the same system, with the same seed, at half the capacity.
    fn reference(&self, planned: &Planned, job: &Job<'_>) -> Result<Option<f64>, String> {
        let key = (planned.scenario, planned.system.clone(), planned.seed);
        let lock = || {
            let references = self.references.lock();
            references.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = lock().get(&key) {
            return Ok(*known);
        }
        let scenario = job.scenario.reference();
        let ran = run(&Job {
            scenario: &scenario,
            level: None,
            ..*job
        })?;
        let name = planned.name.clone();
        let (system, seed) = (job.system, job.seed);
        let found = figures(&scenario, None, name, system, seed, &ran, None);
        lock().insert(key, found.more.high_p99_us);
        Ok(found.more.high_p99_us)
    }
}
