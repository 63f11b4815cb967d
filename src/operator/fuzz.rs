//! The edges between stages, checked and disturbed: what the fuzzing scheduler puts between them.
//!
//! Every [`Input`](super::Input) that is declared inside [`fuzzing`] asks through an [`Edge`]. It
//! asks for less than its caller did, for nothing at all, not yet, or wakes the task for nothing:
//! all of which a stage has to bear. And it sees that the stage keeps the contract of `fill`.

use std::cell::RefCell;
use std::task::Poll;

use super::{Context, Control, Demand, Fill, Held, Operator};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::random::Seeded;

thread_local! {
    /// The seeds of the edges to come, while a fuzzed declaration is made.
    static SEEDS: RefCell<Option<Seeded>> = const { RefCell::new(None) };
}

/// Makes a declaration whose edges are disturbed as the seed says.
pub(crate) fn fuzzing<R>(seed: u64, declare: impl FnOnce() -> R) -> R {
    struct Restore(Option<Seeded>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SEEDS.with(|seeds| *seeds.borrow_mut() = self.0.take());
        }
    }
    let _restore = Restore(SEEDS.with(|seeds| seeds.borrow_mut().replace(Seeded::new(seed))));
    declare()
}

/// The seeds of what a stage declares as it runs, if the stage was declared inside [`fuzzing`].
pub(super) fn seeds_of_later() -> Option<Seeded> {
    let seed = SEEDS.with(|seeds| seeds.borrow_mut().as_mut().map(Seeded::next));
    seed.map(Seeded::new)
}

/// Puts an edge before an operator, if its declaration is fuzzed.
pub(super) fn wrap<T: 'static>(operator: Box<dyn Operator<T>>) -> Box<dyn Operator<T>> {
    let seed = SEEDS.with(|seeds| seeds.borrow_mut().as_mut().map(Seeded::next));
    match seed {
        Some(seed) => Box::new(Edge::new(operator, seed)),
        None => operator,
    }
}

struct Edge<T> {
    operator: Box<dyn Operator<T>>,
    seeded: Seeded,
    /// Whether it wakes the task for nothing. A third of the edges do not: a wake-up that a stage
    /// lost would be made good by chance.
    restless: bool,
    /// Whether it asks for one element at a time.
    single: bool,
}

fn broke<R>(what: &'static str) -> Result<R, Stop> {
    Err(Stop::cause(Cause::Contract(what)))
}

impl<T> Edge<T> {
    fn new(operator: Box<dyn Operator<T>>, seed: u64) -> Edge<T> {
        let mut seeded = Seeded::new(seed);
        let (restless, single) = (!seeded.one_in(3), seeded.one_in(4));
        Edge {
            operator,
            seeded,
            restless,
            single,
        }
    }

    /// How much it asks for; `None` to say "not yet" although there may be something.
    fn ask(&mut self, want: Demand) -> Option<Demand> {
        if want.is_none() {
            return Some(want);
        }
        if self.restless {
            match self.seeded.below(12) {
                0 => return None,
                1 => return Some(Demand::NONE),
                _ => {}
            }
        }
        Some(match self.seeded.below(4) {
            0 => want,
            _ if self.single => want.at_most(1),
            _ => want.at_most(1 + self.seeded.below(want.items)),
        })
    }
}

impl<T> Operator<T> for Edge<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if !out.is_empty() {
            return broke("the stage after it asked with a chunk that was not empty");
        }
        let Some(asked) = self.ask(want) else {
            cx.waker().wake_by_ref();
            return Ok(Fill::Pending);
        };
        let result = self.operator.fill(cx, out, asked);
        if out.len() > asked.items {
            return broke(if asked.is_none() {
                "elements although none were asked for"
            } else {
                "more elements than were asked for"
            });
        }
        match &result {
            Err(_) if !out.is_empty() => return broke("an error together with elements"),
            Ok(Fill::Mark(_)) if !out.is_empty() => return broke("a mark together with elements"),
            Ok(Fill::More) if out.is_empty() => return broke("`More` without an element"),
            Ok(Fill::Pending) => {
                // Who asked for nothing has not waited for what the caller wants.
                let in_vain = asked.is_none() && !want.is_none();
                if in_vain || self.restless && self.seeded.one_in(8) {
                    cx.waker().wake_by_ref();
                }
            }
            _ => {}
        }
        result
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.operator.control(cx, signal);
    }

    fn held(&self) -> Held {
        self.operator.held()
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.operator.poll_close(cx)
    }
}
