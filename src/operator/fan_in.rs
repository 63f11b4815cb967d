//! Marks where flows join: barriers are aligned, rewinds pass once.

use std::collections::VecDeque;

use super::Context;
use crate::chunk::{Chunk, Meta};
use crate::mark::{Barrier, Mark};
use crate::outcome::{Outcome, Reason};
use crate::position::{Generation, SourceId};

/// Of so many sources that went back an input is expected to hear. Sources come and go where flows are
/// restarted, and of most an input never hears, because nothing of them comes by it: the oldest is
/// forgotten. A mark that came by after so many others would be handed on twice.
const REMEMBERED: usize = 1024;

/// What a join remembers of the marks its inputs gave.
///
/// # Invariants
/// - A barrier is handed on once all inputs that have not ended gave one; until then those that did
///   are asked for no element, but go on with what they have in flight, and may go back.
/// - A rewind is handed on when the first input gives it, and once. Elements of the generation
///   before it that another input still has are settled here: what follows the join has already
///   dropped theirs. Barriers of that generation end nothing any more.
pub(crate) struct Align {
    /// By input: the barriers it gave and that were not handed on. There is more than one where no
    /// element lay between, so that a source's window bounds them.
    given: Vec<VecDeque<Barrier>>,
    /// By input: the rewinds that passed and this input has not given yet.
    behind: Vec<VecDeque<(SourceId, Generation)>>,
}

impl Align {
    pub(crate) fn new(inputs: usize) -> Align {
        Align {
            given: vec![VecDeque::new(); inputs],
            behind: vec![VecDeque::new(); inputs],
        }
    }

    /// Whether this input gave its barrier and must hand over nothing.
    pub(crate) fn waits(&self, input: usize) -> bool {
        self.given.get(input).is_some_and(|given| !given.is_empty())
    }

    /// Takes a mark from an input. A rewind that is to be handed on at once comes back.
    pub(crate) fn take(&mut self, input: usize, mark: Mark) -> Option<Mark> {
        match mark {
            Mark::Barrier(mut barrier) => {
                // Of a source that has gone back behind it meanwhile it ends nothing.
                let behind = self.behind.get(input);
                let mut gone = behind.into_iter().flatten();
                let is_stale = gone.any(|(source, _)| barrier.forget(*source));
                if let Some(given) = self.given.get_mut(input).filter(|_| !is_stale) {
                    given.push_back(barrier);
                }
                None
            }
            Mark::Rewind(source, generation) => self.rewind(input, source, generation),
        }
    }

    fn rewind(&mut self, input: usize, source: SourceId, generation: Generation) -> Option<Mark> {
        if let Some(behind) = self.behind.get_mut(input) {
            let known = behind
                .iter()
                .any(|(of, at)| *of == source && *at >= generation);
            behind.retain(|(of, at)| *of != source || *at > generation);
            if known {
                return None;
            }
        }
        for given in &mut self.given {
            given.retain_mut(|barrier| !barrier.forget(source));
        }
        for (_, behind) in self
            .behind
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| *index != input)
        {
            behind.retain(|(of, _)| *of != source);
            behind.push_back((source, generation));
            if behind.len() > REMEMBERED {
                behind.pop_front();
            }
        }
        Some(Mark::Rewind(source, generation))
    }

    /// Nothing comes from this input any more.
    pub(crate) fn end(&mut self, input: usize) {
        if let Some(behind) = self.behind.get_mut(input) {
            behind.clear();
        }
    }

    /// The barrier to hand on, once every input gave one or ended.
    pub(crate) fn complete(&mut self, ended: impl Fn(usize) -> bool) -> Option<Mark> {
        let all = self
            .given
            .iter()
            .enumerate()
            .all(|(index, given)| !given.is_empty() || ended(index));
        if !all {
            return None;
        }
        let mut given = self.given.iter_mut().filter_map(VecDeque::pop_front);
        let mut joined = given.next()?;
        given.for_each(|barrier| joined.join(barrier));
        Some(Mark::Barrier(joined))
    }

    /// Settles what an input gave that its source has gone back behind meanwhile.
    pub(crate) fn drop_stale<T>(
        &self,
        cx: &mut Context<'_, '_>,
        input: usize,
        chunk: &mut Chunk<T>,
    ) {
        let Some(behind) = self.behind.get(input).filter(|behind| !behind.is_empty()) else {
            return;
        };
        let is_stale = |meta: &Meta| {
            // By liveness, not by number: a source of several sequences numbers each one's
            // generations apart.
            let gone = || behind.iter().any(|(source, _)| meta.receipt.is_of(*source));
            !meta.receipt.is_none() && !meta.receipt.is_live() && gone()
        };
        let mut kept = Chunk::default();
        for element in chunk.drain() {
            if is_stale(&element.meta) {
                cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
            } else {
                kept.push(element);
            }
        }
        *chunk = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::CommitToken;
    use crate::position::Epoch;

    fn barrier(source: u32, epoch: u64) -> Mark {
        let token = CommitToken::new(SourceId::new(source), Epoch(epoch), ());
        Mark::Barrier(Barrier::new(token))
    }

    #[test]
    fn sources_that_come_and_go_do_not_pile_up() {
        let mut align = Align::new(3);
        for source in 0..3000 {
            let mark = || Mark::Rewind(SourceId::new(source), Generation(1));
            assert!(align.take(0, mark()).is_some(), "the first");
            assert!(align.take(1, mark()).is_none(), "and no other");
            assert!(align.behind[1].is_empty());
            assert!(align.behind[2].len() <= REMEMBERED);
        }
        align.end(2);
        assert!(align.behind[2].is_empty());
    }

    #[test]
    fn a_barrier_passes_when_all_live_inputs_gave_theirs() {
        let mut align = Align::new(3);
        assert!(align.take(0, barrier(1, 7)).is_none());
        assert!(align.waits(0) && !align.waits(1));
        assert!(align.complete(|_| false).is_none());
        assert!(align.take(1, barrier(2, 3)).is_none());
        let Some(Mark::Barrier(joined)) = align.complete(|input| input == 2) else {
            panic!("all live inputs gave a barrier");
        };
        assert_eq!(joined.tokens().len(), 2);
        assert!(!align.waits(0), "the next epoch begins");
        assert!(
            align.complete(|_| true).is_none(),
            "there is none to hand on"
        );
    }

    #[test]
    fn an_input_that_goes_back_behind_its_barrier_has_given_none() {
        let mut align = Align::new(3);
        assert!(align.take(0, barrier(1, 7)).is_none());
        assert!(align.take(1, barrier(2, 3)).is_none());
        assert!(align.take(1, barrier(3, 1)).is_none());
        let back = |source| Mark::Rewind(SourceId::new(source), Generation(1));
        assert!(align.take(0, back(1)).is_some());
        assert!(!align.waits(0), "it is asked for elements again");
        assert!(align.take(1, back(2)).is_some());
        assert!(align.waits(1), "it gave that of another source as well");
        assert!(align.take(0, barrier(1, 8)).is_none());
        let Some(Mark::Barrier(joined)) = align.complete(|input| input == 2) else {
            panic!("all that go on gave theirs");
        };
        let of = |token: &CommitToken| (token.source(), token.epoch());
        let tokens: Vec<_> = joined.tokens().iter().map(of).collect();
        assert_eq!(
            tokens,
            [(SourceId::new(1), Epoch(8)), (SourceId::new(3), Epoch(1))]
        );
    }

    #[test]
    fn barriers_from_before_a_rewind_that_passed_are_none() {
        let mut align = Align::new(2);
        let back = || Mark::Rewind(SourceId::new(1), Generation(1));
        assert!(align.take(0, back()).is_some());
        assert!(align.take(0, barrier(1, 2)).is_none());
        assert!(align.take(1, barrier(1, 1)).is_none());
        assert!(!align.waits(1) && align.complete(|_| false).is_none());
        assert!(align.take(1, back()).is_none());
        assert!(align.take(1, barrier(1, 2)).is_none());
        assert!(align.complete(|_| false).is_some());
    }

    #[test]
    fn barriers_of_one_input_are_handed_on_one_by_one() {
        let mut align = Align::new(2);
        assert!(align.take(0, barrier(1, 1)).is_none());
        assert!(align.take(0, barrier(1, 2)).is_none());
        for epoch in [1, 2] {
            assert!(align.complete(|_| false).is_none());
            assert!(align.take(1, barrier(1, epoch)).is_none());
            let Some(Mark::Barrier(joined)) = align.complete(|_| false) else {
                panic!("both gave it");
            };
            assert_eq!(joined.tokens().len(), 1);
            assert_eq!(joined.tokens()[0].epoch(), Epoch(epoch));
        }
    }

    #[test]
    fn a_rewind_passes_at_once_and_once() {
        let mut align = Align::new(2);
        let mark = || Mark::Rewind(SourceId::new(1), Generation(1));
        assert!(align.take(1, mark()).is_some());
        assert_eq!(align.behind[0].len(), 1);
        assert!(align.take(0, mark()).is_none());
        assert!(align.behind[0].is_empty());
        let next = Mark::Rewind(SourceId::new(1), Generation(2));
        assert!(align.take(0, next).is_some());
    }
}
