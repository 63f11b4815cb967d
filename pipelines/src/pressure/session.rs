//! Several runs one after the other: scenarios, their levels, seeds and systems.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::cores::Cores;
use crate::measure::{Figures, figures};
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

/// Runs one after the other.
#[derive(Debug)]
pub(crate) struct Session {
    loaded: Vec<Loaded>,
    planned: Vec<Planned>,
    /// How far the present run has come, in thousandths.
    progress: Arc<AtomicU64>,
    /// HIGH's p99 at half the capacity, by scenario, system and seed.
    references: BTreeMap<(usize, String, u64), Option<f64>>,
}

impl Session {
    /// All runs of these scenarios; `systems` where one names none.
    pub(crate) fn new(loaded: Vec<Loaded>, systems: &[String]) -> Session {
        let mut planned = Vec::new();
        for (number, of) in loaded.iter().enumerate() {
            let scenario = &of.scenario;
            let systems = if scenario.systems.is_empty() {
                systems
            } else {
                &scenario.systems
            };
            for level in scenario.levels() {
                for system in systems
                    .iter()
                    .filter(|name| system::applies(name, scenario))
                {
                    for seed in &scenario.seeds {
                        planned.push(Planned {
                            scenario: number,
                            name: level.map_or_else(
                                || scenario.name.clone(),
                                |level| format!("{}@{level}", scenario.name),
                            ),
                            level,
                            system: system.clone(),
                            seed: *seed,
                        });
                    }
                }
            }
        }
        Session {
            loaded,
            planned,
            progress: Arc::default(),
            references: BTreeMap::new(),
        }
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

    /// Makes the run of that number.
    pub(crate) fn make(&mut self, number: usize) -> Result<Figures, String> {
        let planned = self.planned[number].clone();
        let of = self.loaded[planned.scenario].clone();
        let told = |why| format!("{}: {why}", planned.name);
        let times = of.scenario.service.times(&of.files).map_err(told)?;
        let job = Job {
            scenario: &of.scenario,
            files: &of.files,
            times: &times,
            level: planned.level,
            seed: planned.seed,
            system: &planned.system,
            progress: &Arc::clone(&self.progress),
        };
        let reference_p99_us = if of.scenario.expect.needs_reference(planned.level) {
            self.reference(&planned, &job).map_err(told)?
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
    fn reference(&mut self, planned: &Planned, job: &Job<'_>) -> Result<Option<f64>, String> {
        let key = (planned.scenario, planned.system.clone(), planned.seed);
        if let Some(known) = self.references.get(&key) {
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
        self.references.insert(key, found.more.high_p99_us);
        Ok(found.more.high_p99_us)
    }
}
