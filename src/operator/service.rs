//! The gate before the calls of a service: an element passes when the service is ready for it.
//!
//! The calls themselves are those of [`map_async`](super::map_async). The gate hands over one
//! element at a time, which is called before the gate is asked again: the service is asked whether
//! it is ready once for each call, as its contract wants it.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use tower_service::Service;

use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::Chunk;
use crate::error::{BoxError, Cause, Stop};
use crate::sync::lock;

pub(crate) struct Gate<T, S> {
    input: Input<T>,
    service: Arc<Mutex<S>>,
    /// The service is ready and was not called yet.
    ready: bool,
}

impl<T, S> Gate<T, S> {
    pub(crate) fn new(input: Input<T>, service: Arc<Mutex<S>>) -> Gate<T, S> {
        Gate {
            input,
            service,
            ready: false,
        }
    }
}

impl<T, S> Operator<T> for Gate<T, S>
where
    T: Send,
    S: Service<T> + Send,
    S::Error: Into<BoxError>,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if !want.is_none() && !self.ready {
            match guard(|| lock(&self.service).poll_ready(cx.task())) {
                Ok(Poll::Ready(Ok(()))) => self.ready = true,
                // A service that says so will never be ready again.
                Ok(Poll::Ready(Err(error))) => return Err(Stop::error(error)),
                Ok(Poll::Pending) => {
                    // Marks and the end need no service; with no demand nothing else comes.
                    return self.input.fill(cx, out, Demand::NONE);
                }
                Err(message) => return Err(Stop::cause(Cause::Panicked(message))),
            }
        }
        let fill = self.input.fill(cx, out, want.at_most(1))?;
        if !out.is_empty() {
            self.ready = false;
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
