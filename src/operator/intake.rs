//! The input of a stage that holds elements: marks, errors and the end wait there until what came
//! before them is handed on.

use std::task::Poll;

use super::{Context, Control, Demand, Fill, Input};
use crate::chunk::{Chunk, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

enum End {
    Mark(Mark),
    Stop(Stop),
    Done,
}

/// What taking in came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Took {
    /// There may be more at once.
    More,
    /// No more for now; the task will be woken.
    Pending,
    /// Something waits behind what was taken in: it is to be delivered before more is taken.
    Ended,
    /// The same; and what is held of that source is to be dropped at once.
    Rewound(SourceId),
}

pub(super) struct Intake<T> {
    input: Input<T>,
    end: Option<End>,
}

impl<T> Intake<T> {
    pub(super) fn new(input: Input<T>) -> Intake<T> {
        Intake { input, end: None }
    }

    /// Takes in at most `want`, unless something waits to be delivered.
    pub(super) fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        buf: &mut Chunk<T>,
        want: Demand,
    ) -> Took {
        if self.end.is_some() {
            return Took::Ended;
        }
        let end = match self.input.fill(cx, buf, want) {
            Ok(Fill::More) => return Took::More,
            Ok(Fill::Pending) => return Took::Pending,
            Ok(Fill::Done) => End::Done,
            Ok(Fill::Mark(mark)) => End::Mark(mark),
            Err(stop) => End::Stop(stop),
        };
        let rewound = match &end {
            End::Mark(Mark::Rewind(source, _)) => Some(*source),
            _ => None,
        };
        self.end = Some(end);
        rewound.map_or(Took::Ended, Took::Rewound)
    }

    /// Whether something waits to be delivered.
    pub(super) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether what waits may be delivered now: a rewind at once, all else when nothing is held.
    pub(super) fn is_due(&self, nothing_held: bool) -> bool {
        match &self.end {
            None => false,
            Some(End::Mark(Mark::Rewind(..))) => true,
            Some(_) => nothing_held,
        }
    }

    /// Hands on what waits: the chunk must be empty if it is a mark or an error.
    pub(super) fn deliver<U>(&mut self, out: &Chunk<U>) -> Result<Fill, Stop> {
        if !out.is_empty() {
            return Ok(Fill::More);
        }
        match self.end.take() {
            None => Ok(Fill::Pending),
            Some(End::Mark(mark)) => Ok(Fill::Mark(mark)),
            Some(End::Stop(stop)) => Err(stop),
            Some(End::Done) => {
                self.end = Some(End::Done);
                Ok(Fill::Done)
            }
        }
    }

    /// Whether the input has completed, and nothing else.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.end, Some(End::Done))
    }

    pub(super) fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

/// Drops what is held of a source that goes back: it will come again.
pub(super) fn drop_rewound<T>(cx: &mut Context<'_, '_>, held: &mut Queue<T>, source: SourceId) {
    let mut gone = held.extract(|element| element.meta.receipt.is_of(source));
    cx.settle_chunk(&mut gone, Outcome::Cancelled(Reason::Rewound));
}
