//! The fuzzing scheduler.

use crate::operator::fuzz;

/// Makes a declaration between whose stages wake-ups, demand and the size of chunks are disturbed,
/// as the seed says: on every edge a stage is asked for less than the next one wants, for nothing,
/// or later; tasks are woken for nothing; and a stage that breaks the contract of
/// [`Operator::fill`](crate::operator::Operator::fill) stops the run by name. None of it may change
/// what a pipeline does. A third of the edges leave wake-ups alone, so that a lost one shows.
///
/// In a [`Simulation`](super::Simulation) of the same seed the whole schedule is drawn from it, and
/// repeats.
///
/// ```
/// use forebay::source;
/// use forebay::testkit::{Simulation, fuzzed};
///
/// for seed in 0..20 {
///     let pipeline = fuzzed(seed, || source::iter(0..100).map(|n| n + 1).buffer(4).collect());
///     let (all, accounts) = Simulation::new(seed).run(pipeline).unwrap();
///     assert_eq!(all, (1..=100).collect::<Vec<_>>());
///     accounts.check().unwrap();
/// }
/// ```
pub fn fuzzed<R>(seed: u64, declare: impl FnOnce() -> R) -> R {
    fuzz::fuzzing(seed, declare)
}

/// Panics without a word on standard error: for closures whose panic is part of a test.
pub fn planned_panic() -> ! {
    std::panic::resume_unwind(Box::new("a planned panic"))
}
