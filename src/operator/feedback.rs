//! `feedback`: a cycle, whose elements come by until the body lets them out.
//!
//! What is inside the cycle follows from the accounts of its stages: what came in or was made there,
//! less what left, was merged or ended. The removals are read before the additions, so that an
//! element on its way is never overlooked.
//!
//! A barrier waits at the head until nothing is inside: all that came before it has left by then, or
//! has ended. A rewind passes at once, and what comes back of the source that went back is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::fan_in::Align;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, Stage};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::time::{self, Sleep};

/// The stages of a cycle.
pub(crate) struct Members {
    /// All stages from the head on, but for the exit.
    pub(crate) stages: Vec<Arc<Stage>>,
    /// Stages of other flows that are joined to it inside.
    pub(crate) foreign: Vec<Arc<Stage>>,
    /// The stage behind it.
    pub(crate) exit: Arc<Stage>,
}

/// What the ends of a cycle share.
#[derive(Default)]
pub(crate) struct Cycle {
    members: OnceLock<Members>,
    /// Something left the cycle, or ended in it.
    moved: Arc<AtomicWaker>,
    cancelled: AtomicBool,
}

impl Cycle {
    /// The stages are known once the body is declared.
    pub(crate) fn close(&self, members: Members) {
        for stage in members.stages.iter().chain([&members.exit]) {
            stage.ledger.watch(&self.moved);
        }
        let _ = self.members.set(members);
    }

    /// Elements inside, of which so many came in by the head.
    fn inside(&self, admitted: u64) -> u64 {
        let Some(members) = self.members.get() else {
            return 0;
        };
        let stages = || members.stages.iter().map(|stage| stage.ledger.flows());
        let gone: u64 =
            stages().map(|flows| flows.gone).sum::<u64>() + members.exit.ledger.entered();
        let come: u64 = stages().map(|flows| flows.made).sum::<u64>()
            + members
                .foreign
                .iter()
                .map(|stage| stage.ledger.left())
                .sum::<u64>();
        (admitted + come).saturating_sub(gone)
    }

    /// A number that changes whenever an element inside moves.
    fn moves(&self) -> u64 {
        let Some(members) = self.members.get() else {
            return 0;
        };
        let all = members.stages.iter().chain([&members.exit]);
        all.map(|stage| stage.ledger.entered() + stage.ledger.flows().gone)
            .sum()
    }
}

/// Where elements enter the cycle, and come by again.
pub(crate) struct Head<T> {
    input: Input<T>,
    back: Input<T>,
    cycle: Arc<Cycle>,
    /// What has gone back: the input is 0, the back edge 1.
    rewinds: Align,
    /// Waits for what is inside; until then nothing more is admitted.
    barrier: Option<Mark>,
    capacity: usize,
    stalled_after: Duration,
    admitted: u64,
    /// The last known number of moves, and until when there must be more.
    moves: u64,
    patience: Option<Sleep>,
}

impl<T: Send> Head<T> {
    pub(crate) fn new(
        input: Input<T>,
        back: Input<T>,
        cycle: Arc<Cycle>,
        capacity: usize,
        stalled_after: Duration,
    ) -> Head<T> {
        Head {
            input,
            back,
            cycle,
            rewinds: Align::new(2),
            barrier: None,
            capacity,
            stalled_after,
            admitted: 0,
            moves: 0,
            patience: None,
        }
    }

    fn cancel(&mut self, cx: &mut Context<'_, '_>) {
        self.barrier = None;
        self.back.control(cx, Control::Cancel);
        self.input.control(cx, Control::Cancel);
    }

    /// What came by the back edge. Marks were handed on when they first passed.
    fn fill_back(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<(), Stop> {
        loop {
            let fill = self.back.fill(cx, out, want)?;
            self.rewinds.drop_stale(cx, 1, out);
            match fill {
                Fill::Mark(mark @ Mark::Rewind(..)) => {
                    let _ = self.rewinds.take(1, mark);
                }
                Fill::Mark(Mark::Barrier(_)) => {}
                Fill::More if out.is_empty() => {}
                _ => return Ok(()),
            }
        }
    }

    /// An error if nothing has moved for too long while it must.
    fn poll_stalled(&mut self, cx: &mut Context<'_, '_>, inside: u64) -> Result<(), Stop> {
        let moves = self.cycle.moves();
        if moves != self.moves || self.patience.is_none() {
            self.moves = moves;
            let until = cx.now() + self.stalled_after;
            match &mut self.patience {
                Some(patience) => patience.reset(until),
                None => self.patience = Some(time::sleep_until(until)),
            }
        }
        let Some(patience) = &mut self.patience else {
            return Ok(());
        };
        if Pin::new(patience).poll(cx.task()).is_pending() {
            return Ok(());
        }
        let within = self.stalled_after;
        Err(Stop::error(format!(
            "the cycle stands still: nothing of the {inside} elements inside has moved for \
             {within:?}"
        )))
    }
}

impl<T: Send> Operator<T> for Head<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.cycle.moved.register(cx.waker());
        if self.cycle.cancelled.load(Ordering::Acquire) && !self.input.is_done() {
            self.cancel(cx);
            return Ok(Fill::Done);
        }
        self.fill_back(cx, out, want)?;
        if !out.is_empty() {
            return Ok(Fill::More);
        }
        let inside = self.cycle.inside(self.admitted);
        let room = (self.capacity as u64).saturating_sub(inside) as usize;
        if !self.input.is_done() && self.barrier.is_none() {
            let fill = self.input.fill(cx, out, want.at_most(room))?;
            self.admitted += out.len() as u64;
            match fill {
                Fill::Mark(mark @ Mark::Rewind(..)) => {
                    let _ = self.rewinds.take(0, mark.clone());
                    return Ok(Fill::Mark(mark));
                }
                Fill::Mark(barrier) => self.barrier = Some(barrier),
                _ if !out.is_empty() => return Ok(Fill::More),
                _ => {}
            }
        }
        let must_empty = self.input.is_done() || self.barrier.is_some();
        if must_empty && self.cycle.inside(self.admitted) == 0 {
            return Ok(self.barrier.take().map_or(Fill::Done, Fill::Mark));
        }
        if inside > 0 && (room == 0 || must_empty) {
            self.poll_stalled(cx, inside)?;
        } else {
            self.patience = None;
        }
        Ok(Fill::Pending)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.cancel(cx);
        } else {
            self.input.control(cx, signal);
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

/// Where elements leave the cycle: what cancels it ends the cycle.
pub(crate) struct Exit<T> {
    input: Input<T>,
    cycle: Arc<Cycle>,
}

impl<T> Exit<T> {
    pub(crate) fn new(input: Input<T>, cycle: Arc<Cycle>) -> Exit<T> {
        Exit { input, cycle }
    }
}

impl<T: Send> Operator<T> for Exit<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.input.fill(cx, out, want)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.cycle.cancelled.store(true, Ordering::Release);
            self.cycle.moved.wake();
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
