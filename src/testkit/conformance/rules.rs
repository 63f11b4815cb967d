//! The rules, and the run each of them is tried with.

use std::fmt;
use std::time::Duration;

use super::run::Run;
use super::script::{CancelAt, PLANNED, Script, ScriptSink, ScriptSource, Seen, Shared, lock};
use super::{Conformance, Conformed, Part, Violation};
use crate::error::{Cause, Refused, RunError};
use crate::flow::{Flow, Pipeline};
use crate::operator::Answer;
use crate::outcome::Kind;
use crate::random::Seeded;
use crate::runtime::Snapshot;
use crate::testkit::{Trace, fuzzed};
use crate::topology::{NodeSpec, Topology};

/// How a run is brought to its end.
#[derive(Clone, Copy)]
enum End {
    /// By itself.
    Own,
    Drain(Duration),
    Abort(Duration),
}

/// A run that has ended.
struct Ended<O> {
    seen: Seen<O>,
    result: Result<(), RunError>,
    accounts: Snapshot,
    trace: Trace,
}

/// A violation before it is known whose.
struct Broken {
    stage: Option<String>,
    what: String,
}

fn broken<R>(what: impl Into<String>) -> Result<R, Broken> {
    Err(Broken {
        stage: None,
        what: what.into(),
    })
}

fn at<R>(stage: &str, what: impl Into<String>) -> Result<R, Broken> {
    Err(Broken {
        stage: Some(stage.to_owned()),
        what: what.into(),
    })
}

/// How often the accounts of a run are looked at.
const SLICE: Duration = Duration::from_micros(10);
/// In simulated time: long past anything a run of a hundred elements needs.
const PATIENCE: Duration = Duration::from_mins(10);
/// The same on the wall clock.
const WALL_PATIENCE: Duration = Duration::from_secs(20);
/// How much longer everything takes on the wall clock, whose timers tick each millisecond.
const WALL_FACTOR: u32 = 50;

type Rule<'a> = &'a dyn Fn(&mut Conformed) -> Result<(), Broken>;

impl<O: Clone + PartialEq + fmt::Debug + Send + 'static> Conformance<O> {
    pub(super) fn try_seed(&self, seed: u64, done: &mut Conformed) -> Result<(), Violation> {
        let mut seeded = Seeded::new(seed);
        let count = 1 + seeded.below(80) as u64;
        let plain = Script {
            seed,
            count,
            ..Script::default()
        };
        let after = Duration::from_nanos(seeded.next() % 400_000);
        let rules: [(&'static str, Rule<'_>); 11] = [
            ("model", &|done| self.model_rule(&plain, done)),
            ("empty", &|done| {
                self.model_rule(
                    &Script {
                        count: 0,
                        ..plain.clone()
                    },
                    done,
                )
            }),
            ("barrier", &|done| self.barrier_rule(&plain, done)),
            ("rewind", &|done| self.rewind_rule(&plain, done)),
            ("cancel", &|done| self.cancel_rule(&plain, true, done)),
            ("cancel", &|done| self.cancel_rule(&plain, false, done)),
            ("error", &|done| self.error_rule(&plain, done)),
            ("drain", &|done| self.drain_rule(&plain, after, done)),
            ("abort", &|done| self.abort_rule(&plain, after, done)),
            ("panic", &|done| self.panic_rule(&plain, done)),
            ("seed", &|done| self.seed_rule(&plain, done)),
        ];
        for (rule, check) in rules {
            check(done).map_err(|Broken { stage, what }| {
                let stage = stage.unwrap_or_else(|| self.stages());
                Violation {
                    name: self.name.clone(),
                    stage,
                    rule,
                    what,
                    seed,
                }
            })?;
        }
        Ok(())
    }

    /// The stages of the part by name.
    fn stages(&self) -> String {
        let script = Script::default();
        let pipeline = declare(&self.part, &script, Answer::Continue, &Shared::default());
        inner(&pipeline.topology()).collect::<Vec<_>>().join(", ")
    }

    fn span(&self, span: Duration) -> Duration {
        if self.wall_clock {
            span * WALL_FACTOR
        } else {
            span
        }
    }

    fn patience(&self) -> Duration {
        if self.wall_clock {
            WALL_PATIENCE
        } else {
            PATIENCE
        }
    }

    fn start(
        &self,
        part: &Part<O>,
        script: &Script,
        answer: Answer,
        seen: &Shared<O>,
    ) -> Result<Run, Refused> {
        let declare = || fuzzed(script.seed, || declare(part, script, answer, seen));
        if self.wall_clock {
            Run::wall(script.seed, declare)
        } else {
            Run::simulated(script.seed, declare)
        }
    }

    fn play(
        &self,
        part: &Part<O>,
        script: &Script,
        answer: Answer,
        end: End,
        done: &mut Conformed,
    ) -> Result<Ended<O>, Broken> {
        let seen: Shared<O> = Shared::default();
        let mut run = match self.start(part, script, answer, &seen) {
            Ok(run) => run,
            Err(refused) => return broken(format!("it was refused: {refused}")),
        };
        let slice = self.span(SLICE);
        let until = match end {
            End::Own => slice * 32,
            End::Drain(after) | End::Abort(after) => self.span(after),
        };
        // Between two polls every element is in some stage's account, held ones included.
        let mut unbalanced = None;
        while !run.is_ended() && run.elapsed() < until {
            run.advance(slice);
            if run.rests_between_calls() {
                unbalanced = unbalanced.or_else(|| balanced(&run.snapshot()).err());
            }
        }
        let running = !run.is_ended();
        match end {
            End::Drain(_) if running => {
                let ended_before = lock(&seen).source_ended;
                if !run.drain(self.patience()) {
                    return broken("a drain did not end it");
                }
                let seen = lock(&seen);
                if !ended_before && !seen.source_drained && !seen.source_cancelled {
                    return broken("the source was not told of a drain");
                }
            }
            End::Abort(_) if running => {
                run.abort();
                if !run.is_ended() {
                    return broken("an abort did not end it");
                }
            }
            _ => {}
        }
        if !run.advance(self.patience()) {
            return broken("it came to no end: nothing wakes what waits (a lost wake-up?)");
        }
        let ended = Ended {
            result: run.join(),
            accounts: run.snapshot(),
            trace: run.trace(),
            seen: std::mem::take(&mut *lock(&seen)),
        };
        done.runs += 1;
        done.elements += ended.seen.out.len() as u64;
        done.barriers += ended.seen.barriers.len() as u64;
        done.rewinds += ended.seen.rewinds as u64;
        sound(&ended, run.topology(), self.may.contains(&Kind::Delivered))?;
        unbalanced.map_or(Ok(ended), Err)
    }

    fn model_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        let ended = self.play(&self.part, script, Answer::Continue, End::Own, done)?;
        went_well(&ended)?;
        self.outcomes(&ended)?;
        self.compare(&ended.seen.out, script.count)
    }

    fn seed_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        if self.wall_clock {
            return Ok(());
        }
        let first = self.play(&self.part, script, Answer::Continue, End::Own, done)?;
        let second = self.play(&self.part, script, Answer::Continue, End::Own, done)?;
        let differs = |(a, b): &(_, _)| a != b;
        let events = first.trace.events().iter().zip(second.trace.events());
        match events.into_iter().find(differs) {
            Some((a, b)) => broken(format!("one seed gave two runs: `{a}` and `{b}`")),
            None if first.trace != second.trace => broken("one seed gave two runs"),
            None => Ok(()),
        }
    }

    fn barrier_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        let every = 1 + (script.seed as usize * 7) % 12;
        let script = Script {
            barrier_every: every,
            ..script.clone()
        };
        let pipeline = declare(&self.part, &script, Answer::Continue, &Shared::default());
        if !pipeline.plan().keeps_marks().0 {
            return Ok(());
        }
        let ended = self.play(&self.part, &script, Answer::Continue, End::Own, done)?;
        went_well(&ended)?;
        let seen = &ended.seen;
        for (number, barrier) in seen.barriers.iter().enumerate() {
            if barrier.epoch != number as u64 {
                return broken(format!(
                    "barrier {number} was lost; {} came instead",
                    barrier.epoch
                ));
            }
            let before = (barrier.epoch + 1) * every as u64;
            // What ends in a sink of the part's own is not this sink's to wait for.
            let own = !self.may.contains(&Kind::Delivered);
            if own && barrier.settled < before.min(seen.read) {
                return broken(format!(
                    "barrier {number} came although only {} of the {before} elements before it had",
                    barrier.settled
                ));
            }
        }
        let sent = seen.read / every as u64;
        if seen.source_ended && (seen.barriers.len() as u64) < sent && !self.ends_early() {
            return broken(format!(
                "of {sent} barriers {} came through",
                seen.barriers.len()
            ));
        }
        if self.regroups {
            Ok(())
        } else {
            self.compare(&seen.out, script.count)
        }
    }

    fn rewind_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        let at_element = 1 + (script.seed as usize * 5) % 20;
        let script = Script {
            rewind_at: Some(at_element),
            ..script.clone()
        };
        let pipeline = declare(&self.part, &script, Answer::Rewind, &Shared::default());
        let (barriers, rewinds) = pipeline.plan().keeps_marks();
        if !rewinds {
            return match self.start(&self.part, &script, Answer::Rewind, &Shared::default()) {
                Err(Refused::Guarantee { .. }) => Ok(()),
                Err(other) => broken(format!("it cannot go back, and is refused for: {other}")),
                Ok(_) => broken("it cannot go back, and runs behind a source that does"),
            };
        }
        // A source that may go back ends with a barrier, by which the sink settles what it holds.
        if !barriers {
            return Ok(());
        }
        let ended = self.play(&self.part, &script, Answer::Rewind, End::Own, done)?;
        if self.may.contains(&Kind::Failed) && ended.result.is_err() {
            // What fails each time it comes stops the source at last.
            return Ok(());
        }
        went_well(&ended)?;
        let seen = &ended.seen;
        if seen.stale > 0 {
            return broken(format!(
                "{} elements of the older generation came late",
                seen.stale
            ));
        }
        if self.ends_early() {
            return Ok(());
        }
        if seen.settled() != script.count {
            return broken(format!(
                "{} of {} elements are settled",
                seen.settled(),
                script.count
            ));
        }
        if self.regroups || self.lossy {
            return Ok(());
        }
        let mut left = seen.out.clone();
        for value in (self.model)((0..script.count).collect()) {
            match left.iter().position(|other| *other == value) {
                Some(place) => drop(left.swap_remove(place)),
                None => return broken(format!("{value:?} did not come again")),
            }
        }
        Ok(())
    }

    fn cancel_rule(
        &self,
        script: &Script,
        with_demand: bool,
        done: &mut Conformed,
    ) -> Result<(), Broken> {
        let elements = (script.seed as usize * 3) % 16;
        let cancel_at = Some(CancelAt {
            elements,
            with_demand,
        });
        let script = Script {
            cancel_at,
            count: 200,
            ..script.clone()
        };
        let ended = self.play(&self.part, &script, Answer::Continue, End::Own, done)?;
        went_well(&ended)?;
        let seen = &ended.seen;
        if !seen.source_ended && !seen.source_cancelled {
            return broken("the source was not told that nothing more is wanted");
        }
        self.compare_start(&seen.out, script.count)
    }

    fn error_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        let error_at = script.count;
        let script = Script {
            error_at: Some(error_at),
            ..script.clone()
        };
        let ended = self.play(&self.part, &script, Answer::Continue, End::Own, done)?;
        match &ended.result {
            Err(RunError::Stopped {
                stage,
                cause: Cause::Error(error),
            }) if error.to_string() == PLANNED => {
                if stage != SOURCE {
                    return broken(format!("the source's error was told as that of `{stage}`"));
                }
            }
            // What had ended before the error did not have to hear of it.
            Ok(()) if self.ends_early() => {}
            other => return broken(format!("the source's error became {other:?}")),
        }
        if self.errors_overtake {
            return self.compare_start(&ended.seen.out, error_at);
        }
        self.compare(&ended.seen.out, error_at)
    }

    fn drain_rule(
        &self,
        script: &Script,
        after: Duration,
        done: &mut Conformed,
    ) -> Result<(), Broken> {
        let script = Script {
            count: 400,
            ..script.clone()
        };
        let ended = self.play(
            &self.part,
            &script,
            Answer::Continue,
            End::Drain(after),
            done,
        )?;
        went_well_or_taken(&ended)?;
        self.outcomes(&ended)?;
        if self.regroups {
            return Ok(());
        }
        if self.sources {
            // The part's own sources ended where they were.
            let model = (self.model)((0..ended.seen.read).collect());
            return self.within(&ended.seen.out, &model, true);
        }
        self.compare(&ended.seen.out, ended.seen.read)
    }

    fn abort_rule(
        &self,
        script: &Script,
        after: Duration,
        done: &mut Conformed,
    ) -> Result<(), Broken> {
        let script = Script {
            count: 400,
            ..script.clone()
        };
        let ended = self.play(
            &self.part,
            &script,
            Answer::Continue,
            End::Abort(after),
            done,
        )?;
        match ended.result {
            Err(RunError::Aborted) | Ok(()) => {}
            Err(error) => return broken(format!("an abort became {error}")),
        }
        if !self.may.contains(&Kind::Failed) && ended.accounts.total().outcome(Kind::Failed) > 0 {
            return broken("an abort made elements fail: they were dropped, not cancelled");
        }
        self.compare_start(&ended.seen.out, script.count)
    }

    fn panic_rule(&self, script: &Script, done: &mut Conformed) -> Result<(), Broken> {
        let Some(part) = &self.panicking else {
            return Ok(());
        };
        let script = Script {
            count: script.count.max(20),
            ..script.clone()
        };
        let ended = self.play(part, &script, Answer::Continue, End::Own, done)?;
        let stopped = match &ended.result {
            Ok(()) => false,
            Err(RunError::Stopped {
                stage,
                cause: Cause::Panicked(_),
            }) if stage != SINK => true,
            Err(error) => return broken(format!("a panic became {error}")),
        };
        if !stopped && ended.accounts.total().outcome(Kind::Failed) == 0 {
            return broken("a panic failed no element");
        }
        Ok(())
    }

    fn ends_early(&self) -> bool {
        self.may.contains(&Kind::Cancelled)
    }

    /// Elements ended only as they may.
    fn outcomes(&self, ended: &Ended<O>) -> Result<(), Broken> {
        let total = ended.accounts.total();
        for kind in Kind::ALL {
            let usual = matches!(kind, Kind::Delivered | Kind::Filtered);
            let count = total.outcome(kind);
            if count > 0 && !usual && !self.may.contains(&kind) {
                return broken(format!(
                    "{count} elements ended {} for no reason",
                    kind.name()
                ));
            }
        }
        Ok(())
    }

    /// The result is the model's, of that many elements.
    fn compare(&self, out: &[O], count: u64) -> Result<(), Broken> {
        let model = (self.model)((0..count).collect());
        if out.len() != model.len() && !self.lossy {
            let first = out.iter().zip(&model).take_while(|(a, b)| a == b).count();
            return broken(format!(
                "{} elements came out, the model has {}; the first {first} are alike, then {:?} for {:?}",
                out.len(),
                model.len(),
                out.get(first),
                model.get(first)
            ));
        }
        self.within(out, &model, self.lossy)
    }

    /// The result is the start of the model's.
    fn compare_start(&self, out: &[O], count: u64) -> Result<(), Broken> {
        let model = (self.model)((0..count).collect());
        // A list of fewer elements may end in a smaller group than the model of all.
        let out = if self.regroups && !out.is_empty() {
            &out[..out.len() - 1]
        } else {
            out
        };
        self.within(out, &model, self.lossy)
    }

    /// `out` is in the model: its start, a part of it where elements may be left out, or any of it
    /// where order is free.
    fn within(&self, out: &[O], model: &[O], gaps: bool) -> Result<(), Broken> {
        let mut left: Vec<&O> = model.iter().collect();
        for (number, value) in out.iter().enumerate() {
            let place = if self.unordered || gaps {
                left.iter().position(|other| *other == value)
            } else {
                (left.first() == Some(&value)).then_some(0)
            };
            match place {
                Some(place) if self.unordered => drop(left.swap_remove(place)),
                Some(place) => drop(left.drain(..=place)),
                None => {
                    let next = left.first();
                    return broken(format!(
                        "element {number} is {value:?}; the model has {next:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

const SOURCE: &str = "conformance source";
const SINK: &str = "conformance sink";

fn declare<O: Clone + PartialEq + fmt::Debug + Send + 'static>(
    part: &Part<O>,
    script: &Script,
    answer: Answer,
    seen: &Shared<O>,
) -> Pipeline<()> {
    // Scripts end: what is joined with another flow may give barriers where that gives none.
    let spec = NodeSpec::from(SOURCE).ends();
    let source = Flow::from_source(spec, ScriptSource::new(script, seen))
        .on_unresolved(answer)
        .barrier_every(script.barrier_every)
        .allow_loss();
    part(source).to(ScriptSink::new(script, seen)).named(SINK)
}

fn inner(topology: &Topology) -> impl Iterator<Item = String> + '_ {
    let ends = |name: &str| name == SOURCE || name == SINK;
    topology
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .filter(move |name| !ends(name))
}

/// No stage is short of an element, or has one too many.
fn balanced(accounts: &Snapshot) -> Result<(), Broken> {
    for stage in &accounts.stages {
        match stage.counts.missing() {
            0 => {}
            missing if missing > 0 => {
                return at(&stage.name, format!("{missing} elements are missing"));
            }
            missing => return at(&stage.name, format!("{} elements too many", -missing)),
        }
    }
    Ok(())
}

fn went_well<O>(ended: &Ended<O>) -> Result<(), Broken> {
    match &ended.result {
        Ok(()) => Ok(()),
        Err(RunError::Stopped { stage, cause }) => at(stage, format!("it stopped: {cause}")),
        Err(error) => broken(format!("it ended with: {error}")),
    }
}

/// As above, where the output may have been taken by a drain.
fn went_well_or_taken<O>(ended: &Ended<O>) -> Result<(), Broken> {
    match &ended.result {
        Err(RunError::Aborted) => Ok(()),
        _ => went_well(ended),
    }
}

/// What must hold at the end of every run.
fn sound<O>(ended: &Ended<O>, topology: &Topology, delivers: bool) -> Result<(), Broken> {
    if let Err(RunError::Stopped {
        stage,
        cause: cause @ Cause::Contract(_),
    }) = &ended.result
    {
        return at(stage, cause.to_string());
    }
    if ended.seen.more_than_asked {
        return broken("more elements than were asked for");
    }
    for stage in &ended.accounts.stages {
        let declared = topology.nodes.iter().find(|node| node.name == stage.name);
        // Stages that a run makes as it goes were not declared.
        let held = declared.map_or(u64::MAX, |node| node.held as u64);
        let is_end = stage.name == SOURCE || stage.name == SINK;
        if !is_end && stage.counts.held_peak > held {
            return at(
                &stage.name,
                format!(
                    "it held {} elements and declares {held}",
                    stage.counts.held_peak
                ),
            );
        }
        if stage.counts.held > 0 && !is_end {
            return at(
                &stage.name,
                format!("it still holds {} elements", stage.counts.held),
            );
        }
        if !is_end && !delivers && stage.counts.outcome(Kind::Delivered) > 0 {
            return at(
                &stage.name,
                "it calls elements delivered that reached no sink",
            );
        }
    }
    if let Err(found) = ended.accounts.check() {
        let stage = found[0].stage.clone();
        let what: Vec<String> = found.iter().map(ToString::to_string).collect();
        let stage = (stage != SOURCE).then_some(stage);
        return Err(Broken {
            stage,
            what: what.join("; "),
        });
    }
    let total = ended.accounts.total();
    let by_stages: u64 = ended
        .accounts
        .stages
        .iter()
        .map(|stage| stage.counts.outcome(Kind::Failed))
        .sum();
    if total.outcome(Kind::Failed) > 0 && by_stages == 0 {
        let count = total.outcome(Kind::Failed);
        return broken(format!("{count} receipts were dropped, not settled"));
    }
    Ok(())
}
