//! The conformance suite: one part of a pipeline through the rules every stage has to keep.
//!
//! Each rule is tried with many seeds, in simulated time (or on the wall clock for what has threads),
//! between a source that hands over in
//! pieces and with rests and a sink that asks for little, rests and settles late; the edges between
//! are those of the [fuzzing scheduler](super::fuzzed).
//!
//! | rule | what must hold |
//! | --- | --- |
//! | `model` | the result is the model's, whatever the chunks; every element is delivered or filtered |
//! | `empty` | no element in: the model's result of nothing, and the end |
//! | `barrier` | every barrier comes through, behind all that came before it and nothing held back |
//! | `rewind` | the mark comes through; nothing of the older generation after it; all comes again; a stage that cannot go back is refused |
//! | `cancel` | with and without demand: the run ends, the source is told, nothing is left inside |
//! | `error` | an error of the source ends the run as it was, after what came before it |
//! | `drain` | the source ends, and what it had handed over is finished |
//! | `abort` | nothing is left inside |
//! | `panic` | a panic in user code costs its element, or stops the run with the stage's name |
//! | `seed` | the same seed gives the same trace |
//!
//! and in all of them: the run comes to an end, no stage hands over more than was asked, none holds
//! more than it declares, the accounts balance by stage and by source, and no receipt is abandoned.

mod rules;
mod run;
mod script;

use std::fmt;

use crate::flow::Flow;
use crate::outcome::Kind;

type Part<O> = Box<dyn Fn(Flow<u64>) -> Flow<O>>;
type Model<O> = Box<dyn Fn(Vec<u64>) -> Vec<O>>;

/// The rules for one part of a pipeline: what they are is told where the test kit begins.
///
/// The part gets a flow of 0, 1, 2, ..; the model says what it must make of a list of them.
///
/// # Example
/// ```
/// use forebay::testkit::Conformance;
///
/// Conformance::new(
///     "map_async",
///     |flow| flow.map_async(4, |n| async move { n * 2 }),
///     |input| input.into_iter().map(|n| n * 2).collect(),
/// )
/// .seeds(4)
/// .check();
/// ```
#[must_use = "call `check` or `run`"]
pub struct Conformance<O> {
    name: String,
    part: Part<O>,
    model: Model<O>,
    panicking: Option<Part<O>>,
    seeds: u64,
    unordered: bool,
    regroups: bool,
    errors_overtake: bool,
    may: Vec<Kind>,
    lossy: bool,
    sources: bool,
    wall_clock: bool,
}

impl<O> fmt::Debug for Conformance<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A rule that was broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{stage}` breaks the rule `{rule}`: {what} (conformance of {name}, seed {seed})")]
pub struct Violation {
    /// The suite, as it was named.
    pub name: String,
    /// The stage that broke it, where the accounts name one; else all stages of the part.
    pub stage: String,
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// The seed that shows it again.
    pub seed: u64,
}

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Conformed {
    /// Runs.
    pub runs: u64,
    /// Elements that came out of the part.
    pub elements: u64,
    /// Barriers that came through.
    pub barriers: u64,
    /// Times the source went back.
    pub rewinds: u64,
}

impl<O: Clone + PartialEq + fmt::Debug + Send + 'static> Conformance<O> {
    /// The rules for a part and its model. Default: 24 seeds, order kept, every element delivered or
    /// filtered, errors behind what came before them.
    pub fn new(
        name: impl Into<String>,
        part: impl Fn(Flow<u64>) -> Flow<O> + 'static,
        model: impl Fn(Vec<u64>) -> Vec<O> + 'static,
    ) -> Conformance<O> {
        Conformance {
            name: name.into(),
            part: Box::new(part),
            model: Box::new(model),
            panicking: None,
            seeds: 24,
            unordered: false,
            regroups: false,
            errors_overtake: false,
            may: Vec::new(),
            lossy: false,
            sources: false,
            wall_clock: false,
        }
    }

    /// How many seeds each rule is tried with, at least 1.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds.max(1);
        self
    }

    /// The order of the result is free.
    pub fn unordered(mut self) -> Self {
        self.unordered = true;
        self
    }

    /// A barrier, a drain or a rewind changes how elements are put together: results are compared
    /// with the model only in runs without.
    pub fn regroups(mut self) -> Self {
        self.regroups = true;
        self
    }

    /// An error does not wait for what came before it, or what is held is given up for it: so it is
    /// with boundaries and with what makes one element of many.
    pub fn errors_overtake(mut self) -> Self {
        self.errors_overtake = true;
        self
    }

    /// Elements may end so as well: `Cancelled` in a part that ends early, `Delivered` where stages
    /// of the part deliver them. With anything else the result may leave some of the model's out.
    pub fn may(mut self, kind: Kind) -> Self {
        self.lossy |= !matches!(kind, Kind::Cancelled | Kind::Delivered);
        self.may.push(kind);
        self
    }

    /// The result may leave out some of the model's.
    pub fn partial(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// The elements that the model leaves out may end so, and no others: the result is the model's,
    /// whole.
    pub fn leaves_out(mut self, kind: Kind) -> Self {
        self.may.push(kind);
        self
    }

    /// The part has sources of its own, in whose elements the model ends or begins: a drain ends them
    /// where they are, and the result is then any part of the model's.
    pub fn sources(mut self) -> Self {
        self.sources = true;
        self
    }

    /// Runs on the wall clock, with a tokio runtime of one thread and one of several in turn: for
    /// stages with threads of their own, which simulated time refuses. The rule `seed` is left out;
    /// a run takes milliseconds, so fewer [`seeds`](Self::seeds) will do.
    pub fn wall_clock(mut self) -> Self {
        self.wall_clock = true;
        self
    }

    /// The same part, with a closure that panics on some of the first 20 elements.
    pub fn panicking(mut self, part: impl Fn(Flow<u64>) -> Flow<O> + 'static) -> Self {
        self.panicking = Some(Box::new(part));
        self
    }

    /// Tries every rule.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn run(&self) -> Result<Conformed, Violation> {
        let mut done = Conformed::default();
        for seed in 0..self.seeds {
            self.try_seed(seed, &mut done)?;
        }
        Ok(done)
    }

    /// Tries every rule, and panics where one is broken.
    #[track_caller]
    pub fn check(&self) -> Conformed {
        match self.run() {
            Ok(done) => done,
            Err(violation) => panic!("{violation}"),
        }
    }
}

/// Makes a test of a part and its model: a name, the part, the model, and settings if need be.
///
/// ```
/// forebay::testkit::conformance! {
///     doubles: |flow| flow.map(|n| n * 2), |input| input.into_iter().map(|n| n * 2).collect();
///     filters: |flow| flow.map(|n| n + 1), |input| input.into_iter().map(|n| n + 1).collect(),
///         |suite| suite.seeds(3);
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($($name:ident: $part:expr, $model:expr $(, |$suite:ident| $settings:expr)?;)+) => {
        $(
            #[test]
            fn $name() {
                let suite = $crate::testkit::Conformance::new(stringify!($name), $part, $model);
                $(let $suite = suite; let suite = $settings;)?
                let done = suite.check();
                assert!(done.runs > 0);
            }
        )+
    };
}
