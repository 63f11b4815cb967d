//! `broadcast`: every element to every branch.

use std::task::Poll;

use super::outlet::Outlets;
use super::{Context, Control, Demand, Sink, guard};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Broadcast<T> {
    outlets: Outlets<T>,
}

impl<T> Broadcast<T> {
    pub(crate) fn new(outlets: Outlets<T>) -> Broadcast<T> {
        Broadcast { outlets }
    }
}

/// Makes so many copies of each value. An element whose value cannot be copied, because its `clone`
/// panics, fails and is taken out.
fn copies<T: Clone>(cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>, count: usize) -> Vec<Vec<T>> {
    if let Ok(copies) = guard(|| (0..count).map(|_| chunk.values.clone()).collect()) {
        return copies;
    }
    let mut copies: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    let mut sound = Chunk::default();
    for element in chunk.drain() {
        let value = &element.value;
        match guard(|| (0..count).map(|_| value.clone()).collect::<Vec<T>>()) {
            Ok(parts) => {
                copies
                    .iter_mut()
                    .zip(parts)
                    .for_each(|(copy, part)| copy.push(part));
                sound.push(element);
            }
            Err(_) => cx.settle(element.meta, Outcome::Failed(Reason::Panicked)),
        }
    }
    *chunk = sound;
    copies
}

impl<T: Clone + Send> Sink<T> for Broadcast<T> {
    type Output = ();

    /// As much as the branch with the least room takes. A branch that gives elements up always has
    /// room.
    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        let mut least: Option<Demand> = None;
        for outlet in self.outlets.live() {
            let Some(demand) = std::task::ready!(outlet.poll_ready(cx))? else {
                continue;
            };
            least = Some(match least {
                Some(least) => Demand {
                    items: least.items.min(demand.items),
                    bytes: least.bytes.min(demand.bytes),
                },
                None => demand,
            });
        }
        Poll::Ready(Ok(least))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let live = self.outlets.live().count();
        if live == 0 {
            let outcome = cx.leftover();
            cx.settle_chunk(chunk, outcome);
            return;
        }
        let mut copies = copies(cx, chunk, live - 1);
        cx.ledger().make(chunk.len() * (live - 1));
        copies.push(std::mem::take(&mut chunk.values));
        let columns = std::mem::take(&mut chunk.columns);
        let columns = if live == 1 {
            vec![columns]
        } else {
            columns.fork(live)
        };
        let parts = copies.into_iter().zip(columns);
        for (outlet, (values, columns)) in self.outlets.live().zip(parts) {
            outlet.accept(cx, &mut Chunk { values, columns });
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.outlets.mark(cx, mark)
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.outlets.poll_close(cx)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        self.outlets.abandon(cx, stop);
    }

    fn take_control(&mut self) -> Option<Control> {
        self.outlets.take_control()
    }
}
