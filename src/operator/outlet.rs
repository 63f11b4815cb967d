//! An output of a fan-out: what takes its elements, and the stage they enter there.

use std::sync::Arc;
use std::task::Poll;

use super::{Context, Control, Demand, Sink, Stage};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;

/// One of several outputs of a stage: a queue to a branch, with the stage of that queue.
///
/// Whoever hands over through it runs as the fan-out's stage: what crosses is counted as left
/// there and as entered here, as [`Input`](super::Input) does for stages that follow each other.
pub(crate) struct Outlet<T> {
    sink: Box<dyn Sink<T, Output = ()>>,
    stage: Arc<Stage>,
    /// The branch wants no more.
    ended: bool,
}

impl<T> Outlet<T> {
    pub(crate) fn new(sink: impl Sink<T, Output = ()> + 'static, stage: Arc<Stage>) -> Outlet<T> {
        Outlet {
            sink: Box::new(sink),
            stage,
            ended: false,
        }
    }

    /// How much the branch takes now; `None` once it wants no more.
    pub(crate) fn poll_ready(
        &mut self,
        cx: &mut Context<'_, '_>,
    ) -> Poll<Result<Option<Demand>, Stop>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let ready = self.sink.poll_ready(&mut cx.for_stage(&self.stage));
        if matches!(ready, Poll::Ready(Ok(None))) {
            self.ended = true;
        }
        ready.map_err(|stop| stop.at(self.stage.id))
    }

    /// Hands a chunk over. A branch that ended meanwhile settles it.
    pub(crate) fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        if chunk.is_empty() {
            return;
        }
        cx.ledger().leave_aside(chunk.len());
        self.stage.ledger.enter(chunk.len());
        self.sink.accept(&mut cx.for_stage(&self.stage), chunk);
    }

    pub(crate) fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.sink.mark(&mut cx.for_stage(&self.stage), mark)
    }

    /// No more will come: what was handed over is still served.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.sink.poll_close(&mut cx.for_stage(&self.stage))
    }

    pub(crate) fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        self.sink.abandon(&mut cx.for_stage(&self.stage), stop);
    }

    pub(crate) fn take_control(&mut self) -> Option<Control> {
        self.sink.take_control()
    }
}

/// All outputs of a fan-out that ends its island.
pub(crate) struct Outlets<T> {
    all: Vec<Outlet<T>>,
    /// How many have taken the mark that is being handed over.
    marked: usize,
}

impl<T> Outlets<T> {
    pub(crate) fn new(all: Vec<Outlet<T>>) -> Outlets<T> {
        Outlets { all, marked: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Outlet<T>> {
        self.all.get_mut(index)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Outlet<T>> {
        self.all.iter_mut()
    }

    /// The outputs whose branches have not ended.
    pub(crate) fn live(&mut self) -> impl Iterator<Item = &mut Outlet<T>> {
        self.all.iter_mut().filter(|outlet| !outlet.ended)
    }

    /// Copies a mark to all branches.
    pub(crate) fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        while let Some(outlet) = self.all.get_mut(self.marked) {
            std::task::ready!(outlet.mark(cx, mark))?;
            self.marked += 1;
        }
        self.marked = 0;
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let mut waits = false;
        for outlet in &mut self.all {
            waits |= outlet.poll_close(cx)?.is_pending();
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    pub(crate) fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        for outlet in &mut self.all {
            outlet.abandon(cx, stop);
        }
    }

    pub(crate) fn take_control(&mut self) -> Option<Control> {
        self.all.iter_mut().find_map(Outlet::take_control)
    }
}
