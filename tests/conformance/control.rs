//! Flows that are steered, built anew, or turn in a cycle.

use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::Stop;
use forebay::flow::{self, Flow, KillSwitch, Restart, Resume};
use forebay::operator::{Context, Demand, Fill, Source};
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{OTHER, call, same, trip, with_other};

/// Numbers that can be read from any position, until it fails.
struct Numbers {
    next: u64,
    fails_at: u64,
}

impl Source<u64> for Numbers {
    type Position = u64;

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        positions: &mut Vec<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while out.len() < want.items && self.next < OTHER.end {
            if self.next == self.fails_at {
                return Err(Stop::error("as planned"));
            }
            out.push_value(self.next);
            positions.push(self.next);
            self.next += 1;
        }
        Ok(if self.next == OTHER.end {
            Fill::Done
        } else {
            Fill::More
        })
    }
}

fn soon() -> Restart {
    Restart::backoff(Duration::from_micros(5), Duration::from_micros(40)).seed(1)
}

/// Fails twice, and goes on where it stood.
fn resuming(resume: Resume) -> Flow<u64> {
    let next = resume.position().map_or(OTHER.start, |last: u64| last + 1);
    let fails_at = match resume.restarts() {
        0 => OTHER.start + 7,
        1 => OTHER.start + 14,
        _ => u64::MAX,
    };
    Flow::from_source("numbers", Numbers { next, fails_at })
}

/// Fails twice with some elements inside, which are cancelled; each time it begins anew.
fn anew(resume: Resume) -> Flow<u64> {
    let (next, fails_at) = match resume.restarts() {
        0 | 1 => (OTHER.start, OTHER.start + 7),
        _ => (OTHER.start, u64::MAX),
    };
    Flow::from_source("numbers", Numbers { next, fails_at })
        .buffer(3)
        .map_async(2, |n| async move { call(n).await / 2 })
}

conformance! {
    restarting: |flow| flow.merge([flow::restarting(soon(), resuming)]), with_other,
        |suite| suite.sources().unordered().errors_overtake();
    restarting_in_sequence: |flow| flow::restarting(soon(), resuming).concat([flow]),
        |input| OTHER.chain(input).collect(),
        |suite| suite.sources().errors_overtake();
    restarting_islands: |flow| flow.merge([flow::restarting(soon(), anew)]),
        // All of the last time, and some of each time before.
        |input| with_other((0..2).flat_map(|_| OTHER.take(7)).chain(input).collect()),
        |suite| suite.sources().unordered().errors_overtake().may(Kind::Cancelled).partial();
    kill_switch: |flow| flow.kill_switch(&KillSwitch::new()), same;
    watch_termination: |flow| flow.watch_termination().0, same;
    on_termination: |flow| flow.on_termination(|_| ()), same;
    feedback:
        |flow| flow.map(|n| n + 1).feedback(16, |numbers| {
            let (odd, even) = numbers.divert(16, |n| n % 2 == 0);
            (odd, even.map(|n| n / 2))
        }),
        |input| input.into_iter().map(|n| (n + 1) >> (n + 1).trailing_zeros()).collect(),
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            flow.feedback(16, |numbers| {
                let (odd, even) = numbers.map(trip).divert(16, |n| *n > 2 && n % 2 == 0);
                (odd, even.map(|n| n / 2))
            })
        });
}
