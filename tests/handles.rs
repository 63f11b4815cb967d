//! Limits and breakers that are shared: whatever happens in a run, all permits and places come back; and
//! a stage that loses one is found.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::control::limit::{Fixed, LimitHandle};
use forebay::control::{
    BreakerHandle, BreakerSettings, BreakerWindow, LimitMember, Retry, WhenOpen,
};
use forebay::error::Stop;
use forebay::flow::{Flow, Pipeline};
use forebay::operator::{Answer, Calls, Context, Control, Demand, Fill, Held, Input, Operator};
use forebay::source;
use forebay::testkit::{Simulation, replay};
use forebay::time::{self, Time, TimedOut};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn handles(places: usize, when_open: WhenOpen) -> (LimitHandle, BreakerHandle) {
    let settings = BreakerSettings::quick(20 * MS)
        .window(BreakerWindow::Calls(10), 5)
        .when_open(when_open);
    let limit = LimitHandle::new(Fixed::new(places).unwrap());
    (limit, BreakerHandle::new(settings, Time::ZERO).unwrap())
}

/// What the handles say once nothing runs under them.
fn check(limit: &LimitHandle, breaker: &BreakerHandle, now: Time) -> Result<(), String> {
    limit.snapshot().check_idle()?;
    breaker.snapshot(now).check_idle()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    LosesAPermit,
    ForgetsToDrop,
}

/// A stage of one's own that makes a call for each element, by hand.
struct ByHand {
    input: Input<u64>,
    member: Option<LimitMember>,
    breaker: BreakerHandle,
    fault: Fault,
}

impl Operator<u64> for ByHand {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let Some(member) = &mut self.member else {
            return Ok(Fill::Done);
        };
        let places = member.lease(want.items);
        let now = cx.now();
        let filled = self.input.fill(cx, out, want.at_most(places));
        for call in 0..out.len() {
            let permit = self.breaker.try_acquire(now).unwrap();
            if call == 0 && self.fault == Fault::LosesAPermit {
                std::mem::forget(permit);
            } else {
                permit.success(now, Duration::ZERO);
            }
        }
        member.give_back(places);
        filled
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

impl Drop for ByHand {
    fn drop(&mut self) {
        if self.fault == Fault::ForgetsToDrop {
            std::mem::forget(self.member.take());
        }
    }
}

#[test]
fn a_stage_that_loses_a_permit_or_forgets_to_drop_its_places_is_found() {
    let found = |fault| {
        let simulation = Simulation::new(1);
        let (limit, breaker) = handles(4, WhenOpen::Reject);
        let (member, calls) = (limit.join(), breaker.clone());
        let flow = source::iter(0..4_u64).stage("by_hand", move |input| ByHand {
            input,
            member: Some(member),
            breaker: calls,
            fault,
        });
        let (_, snapshot) = simulation.run(flow.collect()).unwrap();
        snapshot.check().unwrap();
        check(&limit, &breaker, simulation.now())
    };
    assert_eq!(found(Fault::None), Ok(()));
    let lost = found(Fault::LosesAPermit).unwrap_err();
    assert!(lost.ends_with("permits were never reported"), "{lost}");
    let forgotten = found(Fault::ForgetsToDrop).unwrap_err();
    assert!(
        forgotten.starts_with("1 stages have not left it"),
        "{forgotten}"
    );
}

/// How a call behaves, by its element.
async fn call(n: u64, running: Arc<(AtomicUsize, AtomicUsize)>) -> Result<u64, TimedOut> {
    struct Leaves(Arc<(AtomicUsize, AtomicUsize)>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let now = running.0.fetch_add(1, Ordering::Relaxed) + 1;
    running.1.fetch_max(now, Ordering::Relaxed);
    let _leaves = Leaves(running);
    match n % 11 {
        0 | 1 => {}
        2 => time::sleep(30 * MS).await,
        3 => panic!("as planned"),
        4 => return Err(TimedOut(MS)),
        5 => std::future::pending().await,
        _ => time::sleep(MS * (n % 5) as u32).await,
    }
    Ok(n)
}

#[derive(Clone, Debug)]
struct Plan {
    kind: usize,
    places: usize,
    window: usize,
    elements: u64,
    rewinds: bool,
    pauses: bool,
    /// What is done to the run, each some milliseconds after the one before.
    steps: Vec<(u64, u8)>,
    /// How it ends: left alone, drained, aborted.
    end: u8,
}

fn plans() -> impl Strategy<Value = Plan> {
    let steps = proptest::collection::vec((0..40_u64, 0..5_u8), 0..6);
    let shape = (0..6_usize, 1..6_usize, 0..12_usize, 1..120_u64);
    (shape, any::<bool>(), any::<bool>(), steps, 0..3_u8).prop_map(
        |((kind, places, more, elements), rewinds, pauses, steps, end)| Plan {
            kind,
            places,
            window: places + more,
            elements,
            rewinds,
            pauses,
            steps,
            end,
        },
    )
}

impl Plan {
    /// The queue keeps the stage alive when the elements have ended.
    fn pipeline(
        &self,
        calls: Calls,
        running: &Arc<(AtomicUsize, AtomicUsize)>,
        open: Flow<u64>,
    ) -> Pipeline<()> {
        let answer = if self.rewinds {
            Answer::Rewind
        } else {
            Answer::Continue
        };
        let flow = replay(0..self.elements).on_unresolved(answer);
        let flow: Flow<u64> = flow.merge([open]);
        let running = Arc::clone(running);
        let run = move |n| call(n, Arc::clone(&running));
        // Elements that hang are given up where the stage can; elsewhere they end with the run.
        let retry = Retry::tries(2).backoff(MS, 3 * MS);
        match self.kind {
            0 => flow.map_async(calls, run).ignore(),
            1 => flow.map_async_unordered(calls, run).ignore(),
            2 => flow.map_async_keyed(calls, |n| n % 3, run).ignore(),
            3 => flow.for_each_async(calls, move |n| {
                let call = run(n);
                async move {
                    let _ = call.await;
                }
            }),
            4 => flow
                .try_map_async(calls, run)
                .timeout(10 * MS)
                .or_fail()
                .ignore(),
            _ => {
                let flow = flow.try_map_async_unordered(calls, run).timeout(10 * MS);
                flow.retry(retry).or_fail().ignore()
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Calls fail, panic, hang and are given up; the source goes back; the limit is replaced and the
    /// breaker opened by hand; the run drains or is aborted: all that was leased and let through has
    /// come back when the run is over, and never were more at once than the limit allows.
    #[test]
    fn whatever_happens_permits_and_places_come_back(plan in plans(), seed in any::<u64>()) {
        let simulation = Simulation::new(seed);
        let when_open = if plan.pauses { WhenOpen::PauseDemand } else { WhenOpen::Reject };
        let (limit, breaker) = handles(plan.places, when_open);
        let running = Arc::<(AtomicUsize, AtomicUsize)>::default();
        let calls = Calls::under(&limit).window(plan.window).breaker(&breaker);
        let (_queue, open) = source::queue(1);
        let mut run = simulation.start(plan.pipeline(calls, &running, open)).unwrap();
        let mut most = plan.places;
        for (after, step) in &plan.steps {
            simulation.advance(MS * *after as u32);
            let now = simulation.now();
            match step {
                0 => breaker.trip(now),
                1 => breaker.reset(now),
                2 => breaker.metrics_only(now),
                3 => limit.replace(Fixed::new(1).unwrap()),
                _ => {
                    limit.replace(Fixed::new(plan.places + 1).unwrap());
                    most = plan.places + 1;
                }
            }
            let leased = limit.snapshot().leased;
            prop_assert!(running.0.load(Ordering::Relaxed) <= leased && leased <= most);
        }
        simulation.advance(100 * MS);
        match plan.end {
            0 => {
                simulation.advance(Duration::from_secs(10));
                let running = running.0.load(Ordering::Relaxed);
                // Some hang. What neither runs nor waits for the breaker or a slot has no place.
                if breaker.check(simulation.now()).is_ok() && running < plan.places {
                    prop_assert_eq!(limit.snapshot().leased, running);
                    let calls = breaker.snapshot(simulation.now()).in_flight;
                    prop_assert_eq!(calls, running);
                }
            }
            1 => drop(run.drain(Duration::from_millis(50))),
            _ => {}
        }
        run.abort();
        drop(run);
        prop_assert!(running.1.load(Ordering::Relaxed) <= most);
        prop_assert_eq!(check(&limit, &breaker, simulation.now()), Ok(()));
    }
}
