//! Members are taken together, and who waits for less is woken.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000)
}

fn delay(ms: u32) -> Reading {
    Reading::QueueDelay(MS * ms)
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_stage_at_ease_does_not_hide_one_in_trouble() {
    let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
    let (mut slow, mut idle) = (pressure.join(), pressure.join());
    slow.read(ms(0), delay(100));
    idle.read(ms(1), delay(0));
    idle.read(ms(1), Reading::SlowCalls(0.3));
    slow.read(ms(1), Reading::SlowCalls(0.0));
    let why = pressure.explain(ms(1));
    assert_eq!((why.score, why.signal), (1.0, Some(Signal::QueueDelay)));
    assert!((why.scores[Signal::SlowCalls as usize].unwrap() - 0.5).abs() < 1e-9);
    // The one in trouble says no more of itself: after a second it does not count, the other does.
    idle.read(ms(999), Reading::SlowCalls(0.0));
    assert_eq!(pressure.score(ms(1000)), 1.0);
    assert_eq!(
        idle.stale_at(ms(1000)),
        Some(ms(1000) + Duration::from_nanos(1))
    );
    assert_eq!(pressure.score(ms(1001)), 0.0);
    idle.read(ms(1002), delay(0));
    assert_eq!(pressure.score(ms(1002)), 0.0);
}

#[test]
fn the_processor_counts_while_any_of_them_has_a_queue() {
    let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
    let (mut one, mut other) = (pressure.join(), pressure.join());
    pressure.read(ms(0), Reading::Cpu(1.0));
    one.read(ms(0), Reading::Queued(3));
    other.read(ms(0), Reading::Queued(0));
    assert_eq!(pressure.score(ms(0)), 1.0);
    drop(one);
    assert_eq!(pressure.score(ms(0)), 0.0);
}

#[test]
fn who_waits_is_woken_when_a_reading_brings_the_score_below_and_the_gate_is_open() {
    let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
    let (mut queue, mut waits) = (pressure.join(), pressure.join());
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let mut task = Context::from_waker(&waker);
    let times = || woken.0.swap(0, Ordering::SeqCst);
    assert!(waits.poll_below(&mut task, ms(0), 0.5).is_ready());
    queue.read(ms(0), delay(100));
    assert!(waits.poll_below(&mut task, ms(0), 0.5).is_pending());
    assert!(waits.poll_below(&mut task, ms(1), 0.5).is_pending());
    assert_eq!(
        waits.stale_at(ms(1)),
        Some(ms(1000) + Duration::from_nanos(1))
    );
    queue.read(ms(2), delay(80));
    assert_eq!(times(), 0, "not low enough");
    pressure.read(ms(2), Reading::Memory(0.95));
    queue.read(ms(3), delay(0));
    assert_eq!(times(), 0, "the gate is shut");
    pressure.read(ms(4), Reading::Memory(0.1));
    assert_eq!(times(), 1, "once for two polls");
    assert!(waits.poll_below(&mut task, ms(4), 0.5).is_ready());
    assert_eq!(waits.stale_at(ms(4)), None);
    // The one in trouble leaves.
    queue.read(ms(5), delay(100));
    assert!(waits.poll_below(&mut task, ms(5), 0.5).is_pending());
    drop(queue);
    assert_eq!(times(), 1);
    // Nobody reads any more: the time that was told is the one to look again.
    let mut queue = pressure.join();
    queue.read(ms(6), delay(100));
    assert!(waits.poll_below(&mut task, ms(6), 0.5).is_pending());
    let again = waits.stale_at(ms(6)).unwrap();
    assert!(waits.poll_below(&mut task, again, 0.5).is_ready());
}

proptest! {
    /// Whatever members read: the handle scores as one pressure that is read the greatest of them.
    #[test]
    fn members_count_as_the_greatest_of_them(
        steps in proptest::collection::vec((0..300_u64, 0..3_usize, 0..150_u32, 0.0..0.6_f64), 1..100),
    ) {
        let settings = PressureSettings::new().hysteresis(0.0);
        let pressure = PressureHandle::new(settings).unwrap();
        let mut members: Vec<_> = (0..3).map(|_| pressure.join()).collect();
        let mut told = [None; 3];
        let mut now = 0;
        for (after, at, wait, slow) in steps {
            now += after;
            members[at].read(ms(now), delay(wait));
            members[at].read(ms(now), Reading::SlowCalls(slow));
            told[at] = Some((now, wait, slow));
            let mut score = 0.0_f64;
            for (then, wait, slow) in told.into_iter().flatten() {
                if now - then <= 1000 {
                    score = score.max((f64::from(wait) - 5.0) / 95.0);
                    score = score.max((slow - 0.1) / 0.4);
                }
            }
            let seen = pressure.score(ms(now));
            prop_assert!((seen - score.clamp(0.0, 1.0)).abs() < 1e-9, "{seen}, not {score}");
        }
    }
}
