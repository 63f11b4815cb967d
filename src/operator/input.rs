//! What an operator pulls from: the stage before it, metered.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use super::{Context, Control, Demand, Fill, Held, Operator, Stage};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::receipt::RunningStage;

/// The stage before this one. Every element that crosses is counted here, on both sides.
pub struct Input<T> {
    operator: Box<dyn Operator<T>>,
    stage: Arc<Stage>,
    done: bool,
}

impl<T> Input<T> {
    pub(crate) fn new(operator: Box<dyn Operator<T>>, stage: Arc<Stage>) -> Input<T>
    where
        T: 'static,
    {
        #[cfg(feature = "testkit")]
        let operator = super::fuzz::wrap(operator);
        Input {
            operator,
            stage,
            done: false,
        }
    }

    /// Fills `out` with at most `want`: see [`Operator::fill`]. After the end it is done for good.
    pub fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.done {
            return Ok(Fill::Done);
        }
        let before = out.len();
        let running = RunningStage::enter(self.stage.id);
        let result = self
            .operator
            .fill(&mut cx.for_stage(&self.stage), out, want);
        drop(running);
        let count = out.len().saturating_sub(before);
        if count > 0 {
            self.stage.ledger.leave(count);
            if self.stage.source {
                self.stage.ledger.make(count);
            }
            cx.stage().ledger.enter(count);
        }
        let held = self.operator.held();
        self.stage.ledger.hold(held.items, held.bytes as usize);
        match result {
            Ok(Fill::Done) => self.done = true,
            Err(stop) => {
                self.done = true;
                return Err(stop.at(self.stage.id));
            }
            Ok(Fill::More) if count == 0 => {
                self.done = true;
                let cause = Cause::Contract("`More` without an element");
                return Err(Stop::cause(cause).at(self.stage.id));
            }
            Ok(_) => {}
        }
        if count > want.items {
            self.done = true;
            return Err(
                Stop::cause(Cause::Contract("more elements than were asked for")).at(self.stage.id),
            );
        }
        result
    }

    /// Passes a message on upstream.
    pub fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let running = RunningStage::enter(self.stage.id);
        self.operator
            .control(&mut cx.for_stage(&self.stage), signal);
        drop(running);
        if signal == Control::Cancel {
            self.done = true;
        }
        let held = self.operator.held();
        self.stage.ledger.hold(held.items, held.bytes as usize);
    }

    /// What the stage before holds.
    #[must_use]
    pub fn held(&self) -> Held {
        self.operator.held()
    }

    /// Whether nothing will come any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Has the stage before give back what it uses.
    pub fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let _running = RunningStage::enter(self.stage.id);
        self.operator.poll_close(&mut cx.for_stage(&self.stage))
    }
}

impl<T> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("stage", &self.stage.id)
            .finish_non_exhaustive()
    }
}
