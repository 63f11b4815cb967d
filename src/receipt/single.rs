//! The receipt of one element.

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::fork::Fork;
use super::run::Run;
use super::running;
use super::split::Split;
use crate::class::Class;
use crate::outcome::{Outcome, Reason};
use crate::position::{Epoch, Generation, NO_STAGE, Page, SourceId};

type Hook = Box<dyn FnOnce(Outcome) + Send>;

/// What must be told how one element ended. 16 bytes; an untracked element has [`Receipt::none`].
///
/// Dropping a receipt settles it: as cancelled when its source is ending, as failed (abandoned)
/// otherwise, which the account of the run shows as a bug.
#[must_use = "a dropped receipt counts as a failed element"]
pub struct Receipt(Repr);

pub(super) enum Repr {
    None,
    Page(Arc<Page>, u8),
    Fork(Arc<Fork>, u8, u8),
    Split(Arc<Split>),
    Node(Box<Node>),
}

pub(super) enum Node {
    Group(Vec<Run>),
    Hook(Option<Hook>),
}

/// Whose element a receipt stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The source.
    pub source: SourceId,
    /// Its generation when the element was handed over.
    pub generation: Generation,
    /// The epoch the element belongs to.
    pub epoch: Epoch,
    /// False once the source went back: settling changes nothing any more.
    pub live: bool,
}

impl Receipt {
    /// The receipt of an untracked element: settling it tells nobody.
    pub const fn none() -> Receipt {
        Receipt(Repr::None)
    }

    /// A receipt that calls back once: with the outcome, or with failed (abandoned) when dropped.
    pub fn on_settle(f: impl FnOnce(Outcome) + Send + 'static) -> Receipt {
        Receipt(Repr::Node(Box::new(Node::Hook(Some(Box::new(f))))))
    }

    pub(super) fn page(page: Arc<Page>, bit: u8) -> Receipt {
        Receipt(Repr::Page(page, bit))
    }

    pub(super) fn branch(fork: Arc<Fork>, branch: u8, bit: u8) -> Receipt {
        Receipt(Repr::Fork(fork, branch, bit))
    }

    /// Whether settling it tells nobody.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.0, Repr::None)
    }

    /// Tells how the element ended. Stages settle through
    /// [`Context::settle`](crate::operator::Context::settle) instead, which keeps their account.
    pub fn settle(self, outcome: Outcome) {
        self.settle_at(outcome, NO_STAGE);
    }

    pub(crate) fn settle_at(mut self, outcome: Outcome, stage: u32) {
        self.finish(outcome, stage);
    }

    fn finish(&mut self, outcome: Outcome, stage: u32) {
        match mem::replace(&mut self.0, Repr::None) {
            Repr::None => {}
            Repr::Page(page, bit) => page.settle(1 << bit, outcome, stage),
            Repr::Fork(fork, branch, bit) => fork.settle(branch, 1 << bit, outcome, stage),
            Repr::Split(split) => split.settle(outcome, stage),
            Repr::Node(node) => match *node {
                Node::Group(runs) => runs.into_iter().for_each(|run| run.settle(outcome, stage)),
                Node::Hook(Some(hook)) => hook(outcome),
                Node::Hook(None) => {}
            },
        }
    }

    /// Splits off a part. The element ends when all its parts have, with the worst outcome.
    pub fn fork(&mut self) -> Receipt {
        match &self.0 {
            Repr::None => Receipt::none(),
            Repr::Split(split) => {
                split.add();
                Receipt(Repr::Split(Arc::clone(split)))
            }
            _ => {
                let parent = std::mem::take(self);
                let split = Arc::new(Split::new(parent));
                split.add();
                self.0 = Repr::Split(Arc::clone(&split));
                Receipt(Repr::Split(split))
            }
        }
    }

    /// One receipt for many: settling it settles them all alike. Receipts of neighbours share
    /// their space; the group of nothing is [`Receipt::none`].
    pub fn group(parts: impl IntoIterator<Item = Receipt>) -> Receipt {
        Receipt::of_runs(parts.into_iter().map(Run::one).collect())
    }

    /// One receipt for all the elements of these runs. A group among them is taken apart: groups
    /// of groups stay flat, however often elements are merged.
    pub(crate) fn of_runs(parts: Vec<Run>) -> Receipt {
        let mut runs: Vec<Run> = Vec::new();
        for part in parts {
            match part.into_members() {
                Ok(members) if runs.is_empty() => runs = members,
                Ok(members) => {
                    for member in members {
                        Run::push(&mut runs, member);
                    }
                }
                Err(part) if part.is_untracked() => {}
                Err(part) => Run::push(&mut runs, part),
            }
        }
        if runs.len() == 1
            && runs[0].count() == 1
            && let Some(run) = runs.pop()
        {
            return run.into_single();
        }
        if runs.is_empty() {
            return Receipt::none();
        }
        Receipt(Repr::Node(Box::new(Node::Group(runs))))
    }

    /// Whose element it stands for; `None` for an untracked one, and for a group of several sources.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        if let Repr::Node(node) = &self.0 {
            let Node::Group(runs) = &**node else {
                return None;
            };
            let mut standings = runs.iter().map(Run::standing);
            let first = standings.next()??;
            let all = standings.try_fold(first, |all, one| {
                let one = one?;
                (one.source == all.source && one.epoch == all.epoch).then_some(Standing {
                    live: all.live && one.live,
                    ..all
                })
            });
            return all;
        }
        self.with_page(standing_of)
    }

    /// Whose elements it stands for: one entry for each source, generation and epoch of a group;
    /// empty for an untracked one.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let mut found: Vec<Standing> = Vec::new();
        self.every(|standing| {
            if !found.contains(&standing) {
                found.push(standing);
            }
            true
        });
        found
    }

    /// Whether it stands for elements of that source and of no other: what a stage drops when the
    /// source goes back. A group of several sources goes on to its sink, which sees that a part of
    /// it is not live any more.
    #[must_use]
    pub fn is_of(&self, source: SourceId) -> bool {
        self.every(|standing| standing.source == source)
    }

    /// Whether settling it counts: it is tracked, and no source it stands for went back since.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.every(|standing| standing.live)
    }

    /// Whether the predicate holds for all it stands for, and it stands for something.
    pub(super) fn every(&self, mut holds: impl FnMut(Standing) -> bool) -> bool {
        if let Repr::Node(node) = &self.0 {
            let Node::Group(runs) = &**node else {
                return false;
            };
            let mut standings = runs.iter().filter_map(Run::standing).peekable();
            return standings.peek().is_some() && standings.all(holds);
        }
        self.standing().is_some_and(&mut holds)
    }

    /// The epoch of the element, where it has one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.standing().map(|standing| standing.epoch)
    }

    pub(super) fn with_page<R>(&self, f: impl FnOnce(&Page) -> R) -> Option<R> {
        match &self.0 {
            Repr::Page(page, _) => Some(f(page)),
            Repr::Fork(fork, ..) => fork.with_page(f),
            Repr::Split(split) => split.with_parent(|parent| parent.with_page(f)).flatten(),
            Repr::None | Repr::Node(_) => None,
        }
    }

    /// Gives the element its class in the account of its source, unless it has one.
    pub(crate) fn classify(&self, class: Class) {
        match &self.0 {
            Repr::Page(page, bit) => page.classify(1 << *bit, class),
            Repr::Fork(fork, _, bit) => fork.classify(1 << *bit, class),
            Repr::Split(split) => {
                split.with_parent(|parent| parent.classify(class));
            }
            Repr::Node(node) => {
                if let Node::Group(runs) = &**node {
                    for run in runs {
                        run.classify_all(class);
                    }
                }
            }
            Repr::None => {}
        }
    }

    /// How it would be settled if it were dropped now.
    pub(super) fn dropped_as(&self) -> Outcome {
        match &self.0 {
            Repr::Page(page, _) => page.signal().dropped(),
            Repr::Fork(fork, ..) => fork.dropped(),
            Repr::Split(split) => split
                .with_parent(Receipt::dropped_as)
                .unwrap_or(Outcome::Failed(Reason::Abandoned)),
            Repr::None | Repr::Node(_) => Outcome::Failed(Reason::Abandoned),
        }
    }

    pub(super) fn into_repr(mut self) -> Repr {
        mem::replace(&mut self.0, Repr::None)
    }

    /// The members, if it is the receipt of a group.
    pub(super) fn into_members(mut self) -> Result<Vec<Run>, Receipt> {
        match mem::replace(&mut self.0, Repr::None) {
            Repr::Node(node) => match *node {
                Node::Group(runs) => Ok(runs),
                hook @ Node::Hook(_) => Err(Receipt(Repr::Node(Box::new(hook)))),
            },
            other => Err(Receipt(other)),
        }
    }

    pub(super) fn from_repr(repr: Repr) -> Receipt {
        Receipt(repr)
    }
}

pub(super) fn standing_of(page: &Page) -> Standing {
    Standing {
        source: page.signal().source,
        generation: page.generation(),
        epoch: page.epoch(),
        live: page.is_live(),
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match &self.0 {
            Repr::None => {}
            // Members of a group settle themselves, each as its own source says.
            Repr::Node(node) if matches!(**node, Node::Group(_)) => {}
            _ => {
                let outcome = self.dropped_as();
                let stage = running::stage();
                if outcome == Outcome::Failed(Reason::Abandoned) {
                    self.with_page(|page| page.abandoned(1, stage));
                }
                self.finish(outcome, stage);
            }
        }
    }
}

impl Default for Receipt {
    fn default() -> Self {
        Receipt::none()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.standing() {
            Some(standing) => f.debug_tuple("Receipt").field(&standing).finish(),
            None if self.is_none() => f.write_str("Receipt(none)"),
            None => f.write_str("Receipt(..)"),
        }
    }
}
