//! A call that has begun, as its future holds it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use super::seen::Start;
use super::tally::Tally;
use crate::control::{BreakerHandle, Pass};
use crate::time::{self, Sleep, poll_until};

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Success,
    Failure,
    /// Too much was asked of where it went: it took too long.
    Dropped,
    Abandoned,
}

/// A call that begins, or is in flight. Dropped, it was abandoned.
///
/// Most that a call costs is saved where it ends at its first poll: it is entered as one that began and
/// ended, in one step. One that has to wait is entered as in flight then.
pub(crate) struct Begun {
    tally: Tally,
    /// By what it was let through and when it began, once it waits.
    flies: Option<(Option<Pass>, Start)>,
    /// Of an element that may make more calls: that has a [`Place`] of its own.
    keeps_place: bool,
    how: How,
}

/// The place of an element, for all its tries.
pub(crate) struct Place(Tally);

impl Begun {
    pub(super) fn new(tally: &Tally) -> Begun {
        Begun {
            tally: tally.clone(),
            flies: None,
            keeps_place: false,
            how: How::Abandoned,
        }
    }

    /// Runs the call.
    pub(crate) async fn during<F: Future>(&mut self, call: F) -> F::Output {
        let mut call = pin!(call);
        poll_fn(|task| {
            let polled = call.as_mut().poll(task);
            if polled.is_pending() && self.flies.is_none() {
                self.flies = Some(self.tally.take_off());
            }
            polled
        })
        .await
    }

    /// It ended as that result says.
    pub(crate) fn end<U, E>(mut self, result: &Result<U, E>) {
        self.how = if result.is_ok() {
            How::Success
        } else {
            How::Failure
        };
    }

    /// It ended well.
    pub(crate) fn succeed(mut self) {
        self.how = How::Success;
    }

    /// It took longer than it may, and was given up.
    pub(crate) fn time_out(mut self) {
        self.how = How::Dropped;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let frees = !self.keeps_place;
        match self.flies {
            Some((pass, start)) => self.tally.land(pass, start, self.how, frees),
            None => self.tally.end_at_once(self.how, frees),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl Tally {
    /// The place of an element that passed the gate and may make several calls.
    pub(crate) fn place(&self) -> Place {
        Place(self.clone())
    }

    /// The first call of such an element.
    pub(crate) fn begin_in_place(&self) -> Begun {
        let mut begun = self.begin();
        begun.keeps_place = true;
        begun
    }

    /// Another call for an element that has its place: begins when the breaker permits it. While the
    /// run drains it does not wait for that.
    pub(crate) async fn begin_again(&self) -> Begun {
        let mut pass = None;
        if let Some(breaker) = self.breaker() {
            let mut timer = None;
            pass = poll_fn(|task| self.poll_permit(task, breaker, &mut timer)).await;
        }
        let mut begun = self.begin_in_place();
        begun.flies = Some((pass, self.start()));
        begun
    }

    fn poll_permit(
        &self,
        task: &mut Context<'_>,
        breaker: &BreakerHandle,
        timer: &mut Option<Sleep>,
    ) -> Poll<Option<Pass>> {
        loop {
            let now = time::now();
            if let Ok((pass, _)) = breaker.grant(Some(task), now, 1) {
                return Poll::Ready(Some(pass));
            }
            if self.is_draining() {
                return Poll::Ready(None);
            }
            let Some(at) = breaker.deadline() else {
                return Poll::Pending;
            };
            if poll_until(timer, at, task).is_pending() {
                return Poll::Pending;
            }
            breaker.tick(time::now());
        }
    }
}

/// A call that cannot fail, with its place.
pub(crate) async fn tallied<F: Future>(mut begun: Begun, call: F) -> F::Output {
    let output = begun.during(call).await;
    begun.succeed();
    output
}
