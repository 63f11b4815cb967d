//! More than 1.5 times the capacity is offered: an emergency begins. Only HIGH passes, the capacity is
//! cut from 100 a second to 10, one alert is raised; once the load is low it is led back in steps. In
//! simulated time.
//!
//! `cargo run --features testkit --example a5_emergency`

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::class::Class;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, EmergencyEvent, EmergencyHandle, EmergencySettings,
    PrioritySettings, ThrottleMode, WhenNoRoom,
};
use forebay::flow::{Flow, Rate};
use forebay::outcome::Reason;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::{self, Time};

const SECOND: Duration = Duration::from_secs(1);

/// Offers of a class at their times, whether there is room or not; for 20 seconds.
fn offers(class: Class, per_second: fn(u64) -> u32) -> Flow<Class> {
    source::unfold_async(Time::ZERO, move |at| async move {
        let second = at.since(Time::ZERO).as_secs();
        if second >= 20 {
            return None;
        }
        time::sleep_until(at).await;
        Some((at + SECOND / per_second(second), class))
    })
    .allow_loss()
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulation = Simulation::new(5);
    let rate = Rate::new(100.0, 20, ThrottleMode::Shaping)?;
    let alerts = Arc::new(Mutex::new(0));
    let (throttle, raised) = (rate.clone(), Arc::clone(&alerts));
    let listener = move |event: &EmergencyEvent| {
        eprintln!("{event}");
        let capacity = match event {
            EmergencyEvent::Alert { capacity, .. } => {
                *raised.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                *capacity
            }
            EmergencyEvent::Eased { capacity, .. } | EmergencyEvent::Relapsed { capacity, .. } => {
                *capacity
            }
            EmergencyEvent::Over { .. } => 100,
        };
        let set = throttle.set(capacity as f64, "the emergency's capacity");
        assert!(set.is_ok(), "{set:?}");
    };
    let settings = EmergencySettings::a5();
    let window = Duration::from_millis(500);
    let emergency = EmergencyHandle::with_listener(settings, window, Time::ZERO, listener)?;
    let admission = AdmissionHandle::with_emergency(AdmissionSettings::default(), &emergency)?;

    // 8 a second are HIGH; of LOW come 52 a second, from the 4th to the 9th second 192.
    let low = |second| if (4..9).contains(&second) { 192 } else { 52 };
    let queue = PrioritySettings::items(20).when_no_room(Class::LOW, WhenNoRoom::Refuse);
    let (pipeline, served) = {
        let served = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&served);
        let pipeline = offers(Class::HIGH, |_| 8)
            .merge([offers(Class::LOW, low)])
            .classify(|class| *class)
            .admit(&admission)
            .buffer_by_class(queue)
            .throttle(&rate)
            .for_each(move |class| {
                let second = time::now().since(Time::ZERO).as_secs();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((class, second));
            });
        (pipeline, served)
    };
    let ((), snapshot) = simulation.run(pipeline)?;
    snapshot.check().map_err(|found| format!("{found:?}"))?;

    let served = served.lock().unwrap_or_else(PoisonError::into_inner);
    let passed = |class, seconds: std::ops::Range<u64>| {
        let of = |(one, second): &&(Class, u64)| *one == class && seconds.contains(second);
        served.iter().filter(of).count()
    };
    assert_eq!(
        passed(Class::HIGH, 0..21),
        160,
        "HIGH passes whatever comes"
    );
    assert!(passed(Class::LOW, 0..4) > 200, "before it all pass");
    assert!(
        passed(Class::LOW, 5..9) <= 20,
        "in it HIGH, and what was in the queue already"
    );
    assert!(passed(Class::LOW, 15..20) > 250, "after it all pass again");
    let alerts = *alerts.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!((alerts, emergency.snapshot().episodes), (1, 1));
    let shed = snapshot
        .stage("admit")
        .map(|stage| stage.counts.reason(Reason::Overload));
    eprintln!("{} served, {shed:?} shed, one alert", served.len());
    Ok(())
}
