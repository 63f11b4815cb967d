//! A service as a stage.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use forebay::testkit::conformance;
use forebay::time::{self, Sleep};
use tower_service::Service;

use super::{call, doubled, trip};

/// Ready a while after each call.
#[derive(Default)]
struct Slow {
    rests: Option<Sleep>,
    trips: bool,
}

impl Service<u64> for Slow {
    type Response = u64;
    type Error = String;
    type Future = Pin<Box<dyn Future<Output = Result<u64, String>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), String>> {
        if let Some(rest) = &mut self.rests {
            std::task::ready!(Pin::new(rest).poll(task));
            self.rests = None;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u64) -> Self::Future {
        if n.is_multiple_of(4) {
            self.rests = Some(time::sleep(Duration::from_micros(3)));
        }
        let trips = self.trips;
        Box::pin(async move { Ok(call(if trips { trip(n) } else { n }).await) })
    }
}

conformance! {
    service:
        |flow| flow.service(3, Slow::default()).map(Result::unwrap), doubled,
        |suite| suite.panicking(|flow| {
            flow.service(3, Slow { trips: true, ..Slow::default() }).map(Result::unwrap)
        });
}
