//! The source of an error.

use std::task::Poll;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::operator::{Context, Demand, Fill, Source};

pub(crate) struct Failed {
    stop: Stop,
}

impl Failed {
    pub(crate) fn new(stop: Stop) -> Failed {
        Failed { stop }
    }
}

impl<T> Source<T> for Failed {
    type Position = ();

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        _: &mut Chunk<T>,
        _: &mut Vec<()>,
        _: Demand,
    ) -> Result<Fill, Stop> {
        Err(self.stop.clone())
    }

    fn poll_failure(&mut self, _: &mut Context<'_, '_>) -> Poll<Stop> {
        Poll::Ready(self.stop.clone())
    }
}
