//! Calls on terms: under a limit that adapts or is shared, and behind a breaker.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::control::limit::{Aimd, Fixed, LimitHandle, Vegas};
use forebay::control::{
    BreakerEvent, BreakerEventKind, BreakerHandle, BreakerSettings, BreakerState, BreakerWindow,
    Retry, WhenOpen,
};
use forebay::error::{Refused, RunError};
use forebay::operator::{Answer, Calls};
use forebay::outcome::Reason;
use forebay::source;
use forebay::testkit::{Simulation, replay, sink_probe, source_probe};
use forebay::time::{self, Time, TimedOut};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Counts calls at once.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    async fn during<T>(self, span: Duration, value: T) -> T {
        let (now, peak) = &*self.0;
        let running = now.fetch_add(1, Ordering::Relaxed) + 1;
        peak.fetch_max(running, Ordering::Relaxed);
        time::sleep(span).await;
        now.fetch_sub(1, Ordering::Relaxed);
        value
    }

    fn peak(&self) -> usize {
        self.0.1.load(Ordering::Relaxed)
    }
}

/// Opens when half of the last ten calls failed, for a second.
fn settings() -> BreakerSettings {
    BreakerSettings::default()
        .window(BreakerWindow::Calls(10), 10)
        .open(SECOND, 1.0, SECOND)
}

fn breaker(settings: BreakerSettings) -> BreakerHandle {
    BreakerHandle::new(settings, Time::ZERO).unwrap()
}

#[test]
fn two_stages_under_one_limit_never_run_more_together() {
    let simulation = Simulation::new(1);
    let limit = LimitHandle::new(Fixed::new(6).unwrap());
    let gauge = Gauge::default();
    let (one, other) = (gauge.clone(), gauge.clone());
    let left = source::iter(0..300_u32)
        .map_async(&limit, move |n| one.clone().during(MS, n))
        .collect();
    let right = source::iter(0..300_u32)
        .map_async_unordered(&limit, move |n| other.clone().during(MS, n))
        .collect();
    let ((left, right), snapshot) = simulation.run(left.and(right)).unwrap();
    snapshot.check().unwrap();
    assert_eq!(left, (0..300).collect::<Vec<_>>());
    assert_eq!(right.len(), 300);
    assert_eq!(gauge.peak(), 6, "as many as may, and no more");
    let took = simulation.now().since(Time::ZERO);
    assert!(
        took < 110 * MS,
        "both together used it to the full: {took:?}"
    );
    let snapshot = limit.snapshot();
    assert_eq!(
        (snapshot.leased, snapshot.members),
        (0, 0),
        "all was given back"
    );
}

#[test]
fn a_raised_limit_wakes_the_stage() {
    let simulation = Simulation::new(2);
    let few = Aimd::builder().initial(1).bounds(1, 20).build().unwrap();
    let limit = LimitHandle::new(few);
    let gauge = Gauge::default();
    let calls = gauge.clone();
    let pipeline = source::iter(0..20_u32)
        .map_async(&limit, move |n| calls.clone().during(SECOND, n))
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    simulation.advance(MS);
    assert_eq!(gauge.peak(), 1);
    limit.replace(Fixed::new(20).unwrap());
    simulation.advance(MS);
    assert_eq!(gauge.peak(), 20, "at once, though no call has ended");
    run.abort();
}

#[test]
fn a_limit_finds_the_knee_of_a_service() {
    let simulation = Simulation::new(3);
    let limit = LimitHandle::new(Vegas::builder().initial(1).bounds(1, 200).build().unwrap());
    // A service with 8 workers of 10 ms: more calls at once only wait inside it.
    let workers = Arc::new(tokio::sync::Semaphore::new(8));
    let pipeline = source::iter(0..20_000_u32)
        .map_async_unordered(&limit, move |n| {
            let workers = Arc::clone(&workers);
            async move {
                let _worker = workers.acquire().await.unwrap();
                time::sleep(10 * MS).await;
                n
            }
        })
        .ignore();
    let ((), snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    let found = limit.limit();
    assert!((8..=24).contains(&found), "{found} for 8 workers");
    let took = simulation.now().since(Time::ZERO).as_secs_f64();
    let share = 25.0 / took;
    assert!(share > 0.8, "{share} of what the service can do");
    assert!(!limit.adjustments().is_empty(), "it says why");
}

#[test]
fn time_outs_lower_a_limit_that_goes_by_drops() {
    let simulation = Simulation::new(4);
    let limit = LimitHandle::new(Aimd::builder().initial(50).bounds(1, 50).build().unwrap());
    let pipeline = source::iter(0..500_u32)
        .try_map_async(&limit, |_| async {
            time::sleep(SECOND).await;
            Ok::<(), TimedOut>(())
        })
        .timeout(10 * MS)
        .or_discard()
        .ignore();
    simulation.run(pipeline).unwrap();
    assert!(limit.limit() < 10, "{}", limit.limit());
    assert!(limit.snapshot().limit.drops > 100);
}

#[test]
fn an_open_breaker_sheds_and_lets_probes_through_when_its_time_is_over() {
    let simulation = Simulation::new(5);
    let breaker = breaker(settings());
    let down = Arc::new(AtomicBool::new(true));
    let called = Arc::new(AtomicUsize::new(0));
    let (source, flow) = source_probe::<u32>();
    let (sink, end) = sink_probe();
    let (broken, count) = (Arc::clone(&down), Arc::clone(&called));
    let flow = flow
        .try_map_async(Calls::limit(4).breaker(&breaker), move |n| {
            count.fetch_add(1, Ordering::Relaxed);
            let broken = broken.load(Ordering::Relaxed);
            async move {
                time::sleep(MS).await;
                if broken { Err("down") } else { Ok(n) }
            }
        })
        .or_discard();
    let run = simulation.start(flow.to(end)).unwrap();
    sink.request(1000);
    source.send(0..100);
    simulation.advance(100 * MS);
    assert_eq!(breaker.state(), BreakerState::Open);
    let calls = called.load(Ordering::Relaxed);
    assert!((10..18).contains(&calls), "{calls} calls until it opened");
    let permits = run.snapshot().stage("permits").unwrap().counts.clone();
    assert_eq!(permits.reason(Reason::BreakerOpen), 100 - calls as u64);
    let refused = breaker.snapshot(simulation.now()).counts.not_permitted;
    assert_eq!(
        refused,
        100 - calls as u64,
        "each one is counted, not each look"
    );
    // The service is well again, and the breaker finds out.
    down.store(false, Ordering::Relaxed);
    simulation.advance(SECOND);
    for n in 100..200 {
        source.send([n]);
        simulation.advance(5 * MS);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let through = called.load(Ordering::Relaxed) - calls;
    assert!(through > 90, "{through} calls after that");
    assert_eq!(sink.expect_any_n(through).len(), through);
    run.snapshot().check().unwrap();
}

#[test]
fn a_breaker_that_pauses_demand_loses_nothing() {
    let simulation = Simulation::new(6);
    let breaker = breaker(settings().when_open(WhenOpen::PauseDemand));
    let until = Time::ZERO + 3 * SECOND;
    let failed = Arc::new(AtomicUsize::new(0));
    let failures = Arc::clone(&failed);
    let pipeline = source::iter(0..200_u32)
        .try_map_async(Calls::limit(4).breaker(&breaker), move |n| {
            let failures = Arc::clone(&failures);
            async move {
                time::sleep(MS).await;
                if time::now() < until {
                    failures.fetch_add(1, Ordering::Relaxed);
                    return Err("down");
                }
                Ok(n)
            }
        })
        .retry(Retry::tries(u32::MAX).backoff(10 * MS, 10 * MS))
        .or_stop()
        .collect();
    let (all, snapshot) = simulation.run(pipeline).unwrap();
    snapshot.check().unwrap();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    let failed = failed.load(Ordering::Relaxed);
    assert!(
        failed < 60,
        "{failed} calls to a service that is down for 3 s"
    );
}

/// Permits that no element came for were given back, which woke who waited for more of them: the same
/// stage, at once and for ever.
#[test]
fn a_half_open_breaker_waits_for_elements_at_rest() {
    let simulation = Simulation::new(17);
    let breaker = breaker(settings().when_open(WhenOpen::PauseDemand));
    let (source, flow) = source_probe::<u32>();
    let flow = flow.map_async(Calls::limit(4).breaker(&breaker), |n| async move { n });
    let mut run = simulation.start(flow.collect()).unwrap();
    breaker.trip(Time::ZERO);
    simulation.advance(2 * SECOND);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    source.send(0..50);
    source.complete();
    simulation.advance(SECOND);
    assert_eq!(run.join().unwrap().len(), 50);
    assert_eq!(breaker.state(), BreakerState::Closed);
    run.snapshot().check().unwrap();
}

#[test]
fn a_call_that_nobody_waits_for_is_given_up_and_no_failure() {
    let simulation = Simulation::new(18);
    let breaker = breaker(settings());
    let calls = Calls::limit(4).breaker(&breaker);
    let results = source::iter(0..100_u32)
        .try_map_async(calls, |n| async move {
            time::sleep(if n % 2 == 0 { SECOND } else { MS }).await;
            Ok::<_, TimedOut>(n)
        })
        .timeout(2 * SECOND)
        .give_up_after(|n| (n % 4 == 0).then_some(10 * MS))
        .results()
        .collect();
    let (results, snapshot) = simulation.run(results).unwrap();
    snapshot.check().unwrap();
    for (n, result) in results.into_iter().enumerate() {
        let given_up = n % 4 == 0;
        assert_eq!(result.is_err(), given_up, "{n}");
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let counts = breaker.snapshot(Time::ZERO).counts;
    assert_eq!(
        (counts.success, counts.error, counts.abandoned),
        (75, 0, 25)
    );
}

#[test]
fn a_half_open_breaker_lets_a_stage_wait_for_elements() {
    let simulation = Simulation::new(11);
    let breaker = breaker(settings().when_open(WhenOpen::PauseDemand));
    let (source, flow) = source_probe::<u32>();
    let flow = flow.try_map_async(Calls::limit(4).breaker(&breaker), |n| async move {
        if n < 10 { Err("down") } else { Ok(n) }
    });
    let mut run = simulation.start(flow.or_discard().collect()).unwrap();
    source.send(0..10);
    simulation.advance(2 * SECOND);
    // One permit is there for four places, and nobody to take it: the stage sleeps with it given back.
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    source.send(10..20);
    source.complete();
    assert_eq!(run.join().unwrap(), (10..20).collect::<Vec<_>>());
    run.snapshot().check().unwrap();
}

/// The one trial of a half-open breaker is taken by someone else between the stage's look and its element.
#[test]
fn an_element_whose_trial_another_took_is_shed_and_counted() {
    let simulation = Simulation::new(19);
    let breaker = breaker(settings().half_open(1, 2, SECOND));
    let (source, flow) = source_probe::<u32>();
    let (other, at) = (breaker.clone(), simulation.now() + 2 * SECOND);
    let taken = Arc::new(Mutex::new(None));
    let hold = Arc::clone(&taken);
    let flow = flow
        .inspect(move |_| {
            *hold.lock().unwrap() = other.try_acquire(at).ok();
        })
        .map_async(Calls::limit(4).breaker(&breaker), |n| async move { n });
    let mut run = simulation.start(flow.collect()).unwrap();
    breaker.trip(Time::ZERO);
    simulation.advance(2 * SECOND);
    source.send([7]);
    simulation.advance(MS);
    let permit = taken.lock().unwrap().take();
    assert!(permit.is_some(), "half-open, and its trial was free");
    let permits = run.snapshot().stage("permits").unwrap().counts.clone();
    assert_eq!(permits.reason(Reason::BreakerOpen), 1);
    let counts = breaker.snapshot(simulation.now()).counts;
    assert_eq!(counts.not_permitted, 1);
    drop(permit);
    source.complete();
    assert_eq!(run.join().unwrap(), Vec::<u32>::new());
    run.snapshot().check().unwrap();
}

#[test]
fn a_paused_breaker_does_not_hold_a_drain_up() {
    let simulation = Simulation::new(7);
    let breaker = breaker(settings().when_open(WhenOpen::PauseDemand));
    breaker.force_open(Time::ZERO);
    let (source, flow) = source_probe::<u32>();
    let flow = flow
        .buffer(64)
        .map_async(Calls::limit(4).breaker(&breaker), |n| async move { n });
    let mut run = simulation.start(flow.collect()).unwrap();
    source.send(0..50);
    simulation.advance(MS);
    assert_eq!(
        run.snapshot().stage("buffer").unwrap().counts.held,
        50,
        "it asks for nothing"
    );
    let drained = run.drain(SECOND).unwrap();
    assert_eq!(drained.output, Some(vec![]));
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    let permits = snapshot.stage("permits").unwrap().counts.clone();
    assert_eq!(
        permits.reason(Reason::BreakerOpen),
        50,
        "shed: never while draining"
    );
}

#[test]
fn calls_that_hang_open_the_breaker_by_their_age() {
    let simulation = Simulation::new(8);
    let breaker = breaker(settings().slow(100 * MS, 1.0).hung(0.5, 4));
    let (source, flow) = source_probe::<u32>();
    let flow = flow.map_async(Calls::limit(4).breaker(&breaker), |n| async move {
        std::future::pending::<()>().await;
        n
    });
    let mut run = simulation.start(flow.ignore()).unwrap();
    source.send(0..4);
    simulation.advance(50 * MS);
    assert_eq!(breaker.state(), BreakerState::Closed);
    simulation.advance(60 * MS);
    assert_eq!(
        breaker.state(),
        BreakerState::Open,
        "though no call has ended"
    );
    source.send(4..100);
    simulation.advance(MS);
    let permits = run.snapshot().stage("permits").unwrap().counts.clone();
    assert!(
        permits.reason(Reason::BreakerOpen) >= 60,
        "what comes behind hung calls is shed: {permits:?}"
    );
    run.abort();
    run.snapshot().check().unwrap();
}

#[test]
fn elements_go_another_way_while_the_breaker_is_open() {
    let simulation = Simulation::new(9);
    let breaker = breaker(settings());
    let (calls, rest) = source::iter(0..200_u32).divert_while_open(&breaker, 64);
    let served = calls
        .try_map_async(Calls::limit(1).breaker(&breaker), |_| async {
            time::sleep(MS).await;
            Err::<(), _>("down")
        })
        .or_discard()
        .ignore();
    let (((), rest), snapshot) = simulation.run(served.and(rest.collect())).unwrap();
    snapshot.check().unwrap();
    assert!(rest.len() > 150, "{} of 200", rest.len());
}

#[test]
fn elements_come_back_when_the_destination_has_recovered() {
    let simulation = Simulation::new(12);
    let breaker = breaker(settings());
    let down_until = Time::ZERO + 1500 * MS;
    let (source, flow) = source_probe::<u32>();
    let (calls, rest) = flow.divert_while_open(&breaker, 16);
    let called = calls
        .try_map_async(Calls::limit(4).breaker(&breaker), move |n| async move {
            time::sleep(MS).await;
            if time::now() < down_until {
                Err("down")
            } else {
                Ok(n)
            }
        })
        .or_discard();
    let both = called.collect().and(rest.collect());
    let mut run = simulation.start(both).unwrap();
    for n in 0..500 {
        source.send([n]);
        simulation.advance(10 * MS);
    }
    source.complete();
    let (called, diverted) = run.join().unwrap();
    run.snapshot().check().unwrap();
    // Open for a second, tried in vain, open for another one.
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(
        called.len() > 270 && called.ends_with(&[498, 499]),
        "{}",
        called.len()
    );
    assert!(diverted.len() > 180, "{}", diverted.len());
    assert!(
        called.len() + diverted.len() > 485,
        "what failed alone is missing"
    );
}

#[test]
fn a_guarantee_refuses_a_breaker_that_sheds() {
    let flow = || source::iter(0..10_u32).guarantee(forebay::topology::Guarantee::AtLeastOnce);
    let shedding = breaker(settings());
    let refused = flow()
        .map_async(Calls::limit(4).breaker(&shedding), |n| async move { n })
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Guarantee { stage, .. })) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(stage, "permits");
    let pausing = breaker(settings().when_open(WhenOpen::PauseDemand));
    let refused = flow()
        .map_async(Calls::limit(4).breaker(&pausing), |n| async move { n })
        .ignore()
        .block_on();
    let Err(RunError::Refused(Refused::Guarantee { stage, .. })) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        stage, "iter",
        "values that are nowhere else can be lost, not those of the breaker"
    );
}

/// Both at once: a limit of its own and a breaker.
fn terms(places: usize, breaker: &BreakerHandle) -> (LimitHandle, Calls) {
    let limit = LimitHandle::new(Fixed::new(places).unwrap());
    let calls = Calls::under(&limit).breaker(breaker);
    (limit, calls)
}

#[test]
fn keys_keep_their_order_under_a_limit_and_none_waits_in_a_place() {
    let simulation = Simulation::new(10);
    let breaker = breaker(settings());
    let (limit, calls) = terms(4, &breaker);
    let gauge = Gauge::default();
    let running = gauge.clone();
    // Half of the elements are of one key: those that wait for it must leave their places to others.
    let key = |n: &u32| if n.is_multiple_of(2) { 0 } else { *n };
    let flow = source::iter(0..400_u32).map_async_keyed(calls.window(32), key, move |n| {
        running.clone().during(MS, n)
    });
    let (all, snapshot) = simulation.run(flow.collect()).unwrap();
    snapshot.check().unwrap();
    let even: Vec<u32> = all
        .iter()
        .copied()
        .filter(|n| n.is_multiple_of(2))
        .collect();
    assert_eq!(even, (0..400).step_by(2).collect::<Vec<_>>());
    assert_eq!((all.len(), gauge.peak()), (400, 4));
    let took = simulation.now().since(Time::ZERO);
    assert!(
        took < 210 * MS,
        "the 200 of one key, and no longer: {took:?}"
    );
    let counts = breaker.snapshot(simulation.now()).counts;
    assert_eq!((counts.permitted, counts.success), (400, 400));
    assert_eq!((limit.snapshot().leased, limit.snapshot().members), (0, 0));
}

#[test]
fn what_waits_behind_its_key_begins_when_the_breaker_lets_it() {
    let simulation = Simulation::new(11);
    let pausing = settings().when_open(WhenOpen::PauseDemand);
    let breaker = breaker(pausing.half_open(1, 2, SECOND));
    let (limit, calls) = terms(4, &breaker);
    let called = Arc::new(AtomicUsize::new(0));
    let calling = Arc::clone(&called);
    let (source, flow) = source_probe::<u32>();
    let flow = flow.map_async_keyed(
        calls.window(16),
        |_| 0,
        move |n| {
            calling.fetch_add(1, Ordering::Relaxed);
            async move {
                time::sleep(10 * MS).await;
                n
            }
        },
    );
    let mut run = simulation.start(flow.collect()).unwrap();
    source.send(0..10);
    simulation.advance(5 * MS);
    breaker.trip(simulation.now());
    simulation.advance(500 * MS);
    assert_eq!(called.load(Ordering::Relaxed), 1, "the one that had begun");
    assert_eq!(limit.snapshot().leased, 1, "the place is handed on");
    simulation.advance(2 * SECOND);
    assert_eq!(called.load(Ordering::Relaxed), 10);
    assert_eq!(breaker.state(), BreakerState::Closed, "by their probes");
    drop(source);
    simulation.advance(MS);
    assert_eq!(limit.snapshot().leased, 0);
    let snapshot = run.snapshot();
    snapshot.check().unwrap();
    run.abort();
    assert_eq!(breaker.snapshot(simulation.now()).counts.outstanding(), 0);
}

#[test]
fn what_is_dropped_while_it_waits_for_the_breaker_gives_its_place_back() {
    let simulation = Simulation::new(13);
    let breaker = breaker(settings().when_open(WhenOpen::PauseDemand));
    let (limit, calls) = terms(4, &breaker);
    let (_queue, open) = source::queue(1);
    let mut fails = true;
    let flow = replay(0..10_u64)
        .on_unresolved(Answer::Rewind)
        .merge([open])
        .map_async_keyed(
            calls.window(16),
            |_| 0,
            move |n| {
                let fails = std::mem::take(&mut fails);
                async move {
                    time::sleep(10 * MS).await;
                    assert!(!fails, "once");
                    n
                }
            },
        );
    let run = simulation.start(flow.collect()).unwrap();
    simulation.advance(5 * MS);
    breaker.trip(simulation.now());
    assert_eq!(limit.snapshot().leased, 1);
    // The first fails, the second takes its place and waits; then the source goes back behind both.
    simulation.advance(50 * MS);
    assert_eq!(limit.snapshot().leased, 0);
    simulation.advance(2 * SECOND);
    let stage = run
        .snapshot()
        .stage("map_async_keyed")
        .unwrap()
        .counts
        .clone();
    assert_eq!(stage.left, 10, "all, when the breaker lets them");
    run.snapshot().check().unwrap();
}

#[test]
fn what_waits_for_its_turn_to_try_is_no_call_that_hangs() {
    let simulation = Simulation::new(14);
    let breaker = breaker(settings().slow(25 * MS, 0.5).hung(0.5, 1));
    let flow = source::iter(0..40_u32)
        .try_map_async(
            Calls::limit(1).window(8).breaker(&breaker),
            |n| async move {
                time::sleep(10 * MS).await;
                Ok::<_, String>(n)
            },
        )
        .retry(Retry::tries(2).backoff(MS, MS))
        .or_stop();
    let (all, snapshot) = simulation.run(flow.collect()).unwrap();
    snapshot.check().unwrap();
    assert_eq!(all.len(), 40, "each was inside for 80 ms, and took 10");
    let counts = breaker.snapshot(simulation.now()).counts;
    assert_eq!(
        (counts.trips, counts.permitted, counts.success),
        (0, 40, 40)
    );
}

#[test]
fn the_last_calls_of_a_flow_are_told_while_it_still_runs() {
    let simulation = Simulation::new(12);
    let breaker = breaker(settings());
    let (limit, calls) = terms(4, &breaker);
    // The source is done at once, and one call takes long: the others must not wait for it to be told.
    let flow = source::iter(0..4_u64).map_async_unordered(calls, |n| async move {
        time::sleep(MS * (1 + 1000 * u32::from(n == 3))).await;
    });
    let mut run = simulation.start(flow.ignore()).unwrap();
    simulation.advance(2 * MS);
    let counts = breaker.snapshot(simulation.now()).counts;
    assert_eq!((counts.success, counts.outstanding()), (3, 1));
    assert_eq!(
        limit.snapshot().leased,
        1,
        "their places are free for others"
    );
    run.abort();
    let counts = breaker.snapshot(simulation.now()).counts;
    assert_eq!((counts.abandoned, counts.outstanding()), (1, 0));
    assert_eq!((limit.snapshot().leased, limit.snapshot().members), (0, 0));
}

#[test]
fn calls_that_never_wait_are_measured_together_and_without_what_came_before() {
    let told = Arc::new(AtomicUsize::new(0));
    let sum = Arc::clone(&told);
    let listener = move |event: &BreakerEvent| {
        if let BreakerEventKind::Success { service } = event.kind {
            sum.fetch_add(service.as_nanos() as usize, Ordering::Relaxed);
        }
    };
    let breaker = BreakerHandle::with_listener(settings(), time::now(), listener).unwrap();
    let (upstream, calls) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (before, during) = (Arc::clone(&upstream), Arc::clone(&calls));
    source::iter(0..400_u32)
        .inspect(move |_| spin(100, &before))
        .map_async(Calls::limit(8).breaker(&breaker), move |n| {
            spin(200, &during);
            std::future::ready(n)
        })
        .ignore()
        .block_on()
        .unwrap();
    let ns = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let (told, took, before) = (ns(&told), ns(&calls), ns(&upstream));
    assert!(told >= took - took / 100, "{told} ns told of {took}");
    assert!(told < took + before / 2, "{told} ns told of {took}");
}

/// Keeps the thread busy for so many microseconds, and counts for how long it was.
fn spin(us: u64, took_ns: &AtomicUsize) {
    let start = time::now();
    while time::now().since(start) < Duration::from_micros(us) {
        std::hint::spin_loop();
    }
    let took = time::now().since(start).as_nanos() as usize;
    took_ns.fetch_add(took, Ordering::Relaxed);
}
