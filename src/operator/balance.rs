//! `balance`: each element to one branch that has room.

use std::task::Poll;

use super::outlet::Outlets;
use super::{Context, Control, Demand, Sink};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;

pub(crate) struct Balance<T> {
    outlets: Outlets<T>,
    /// Places known to be free, by branch.
    rooms: Vec<usize>,
    /// Whose turn is next.
    next: usize,
}

impl<T> Balance<T> {
    pub(crate) fn new(outlets: Outlets<T>) -> Balance<T> {
        let rooms = vec![0; outlets.len()];
        Balance {
            outlets,
            rooms,
            next: 0,
        }
    }
}

impl<T: Send> Sink<T> for Balance<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        let mut ended = true;
        let (mut items, mut bytes) = (0_usize, u64::MAX);
        for (outlet, room) in self.outlets.iter_mut().zip(&mut self.rooms) {
            *room = 0;
            match outlet.poll_ready(cx)? {
                Poll::Ready(None) => continue,
                Poll::Ready(Some(demand)) => {
                    *room = demand.items;
                    items = items.saturating_add(demand.items);
                    bytes = bytes.min(demand.bytes);
                }
                Poll::Pending => {}
            }
            ended = false;
        }
        if ended {
            return Poll::Ready(Ok(None));
        }
        if items == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(Some(Demand { items, bytes })))
        }
    }

    /// Deals the chunk out in equal parts to those that have room, beginning with whose turn it is.
    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let count = self.rooms.len();
        while !chunk.is_empty() {
            let ready = self.rooms.iter().filter(|room| **room > 0).count();
            if ready == 0 {
                break;
            }
            let share = chunk.len().div_ceil(ready);
            for step in 0..count {
                let index = (self.next + step) % count;
                let some = share.min(self.rooms[index]).min(chunk.len());
                if some == 0 {
                    continue;
                }
                self.rooms[index] -= some;
                let mut part = Chunk::default();
                part.values.extend(chunk.values.drain(..some));
                chunk.columns.move_front(some, &mut part.columns);
                if let Some(outlet) = self.outlets.get_mut(index) {
                    outlet.accept(cx, &mut part);
                }
                if chunk.is_empty() {
                    self.next = (index + 1) % count;
                    return;
                }
            }
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
