//! Sinks that run a closure on each value, and deliver it by that.

use std::task::Poll;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::operator::{Context, Demand, Sink, guard};
use crate::outcome::{Outcome, Reason};

/// The sink of a closure and a state: `for_each`, `fold`, `collect`.
pub(crate) struct Fold<S, F> {
    state: Option<S>,
    f: F,
}

impl<S, F> Fold<S, F> {
    pub(crate) fn new(state: S, f: F) -> Fold<S, F> {
        Fold {
            state: Some(state),
            f,
        }
    }
}

impl<T: Send, S: Send + 'static, F: FnMut(&mut S, T) + Send> Sink<T> for Fold<S, F> {
    type Output = S;

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(Chunk::<T>::MAX))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let Fold {
            state: Some(state),
            f,
        } = self
        else {
            return;
        };
        let total = chunk.len();
        let mut values = chunk.values.drain(..);
        loop {
            let ran = guard(|| {
                for value in values.by_ref() {
                    f(state, value);
                }
            });
            if ran.is_ok() {
                break;
            }
            let taken = total - values.len();
            let before = taken - (total - chunk.columns.len()) - 1;
            let mut delivered = crate::chunk::Columns::default();
            chunk.columns.move_front(before, &mut delivered);
            cx.settle_columns(&mut delivered, Outcome::Delivered);
            cx.settle(
                chunk.columns.pop().unwrap_or_default(),
                Outcome::Failed(Reason::Panicked),
            );
        }
        drop(values);
        cx.settle_columns(&mut chunk.columns, Outcome::Delivered);
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<S, Stop>> {
        match self.state.take() {
            Some(state) => Poll::Ready(Ok(state)),
            None => Poll::Pending,
        }
    }
}
