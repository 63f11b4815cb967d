//! The source of any stream: what is ready is taken, as much as is wanted.

use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream;

use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::operator::{Context, Demand, Fill, Source, guard};

pub(crate) struct StreamSource<S> {
    stream: Pin<Box<S>>,
}

impl<S> StreamSource<S> {
    pub(crate) fn new(stream: S) -> StreamSource<S> {
        StreamSource {
            stream: Box::pin(stream),
        }
    }
}

impl<S: Stream + Send> Source<S::Item> for StreamSource<S> {
    type Position = ();

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<S::Item>,
        positions: &mut Vec<()>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while out.len() < want.items {
            match guard(|| self.stream.as_mut().poll_next(cx.task())) {
                Ok(Poll::Ready(Some(value))) => {
                    out.push_value(value);
                    positions.push(());
                }
                Ok(Poll::Ready(None)) => return Ok(Fill::Done),
                Ok(Poll::Pending) => return Ok(Fill::Pending),
                Err(message) => return Err(Stop::cause(Cause::Panicked(message))),
            }
        }
        Ok(Fill::More)
    }
}
