//! The parts of the pipeline, as the policies set them up.

use std::time::Duration;

use forebay::boundary::{Buffer, ClassBuffer, WhenFull};
use forebay::control::limit::{Aimd, Gradient2, LimitHandle, Vegas};
use forebay::control::{
    AdmissionHandle, AdmissionSettings, Aging, BreakerHandle, BreakerSettings, DeferralSettings,
    EmergencyHandle, Invalid, PrioritySettings, ThrottleMode, WhenNoRoom, WhenOpen,
};
use forebay::flow::{Flow, Rate};
use forebay::source::{self, Queue};
use forebay::time::{self, Time};

use super::Setup;
use crate::scenario::{HowMany, Mode, Open, Policies, Rank};
use crate::trace::Item;

/// The producers' queue: lower classes make way in it, too.
pub(super) fn inbox(policies: &Policies) -> Result<(Queue<Item>, Flow<Item>), Invalid> {
    if !policies.has("priority") {
        let buffer = Buffer::items(policies.inbox_items).bytes(policies.queue_bytes);
        return Ok(source::queue(buffer.when_full(WhenFull::Backpressure)));
    }
    let mut settings = PrioritySettings::items(policies.inbox_items)
        .bytes(policies.queue_bytes)
        .aging(Aging::none());
    for rank in Rank::ALL {
        settings = settings.when_no_room(rank.class(), WhenNoRoom::Refuse);
        if !policies.has("eviction") {
            settings = settings.never_evict(rank.class());
        }
    }
    source::queue_by_class(settings)
}

/// How many calls are in flight, where that is found rather than known.
pub(super) fn limit(policies: &Policies, workers: usize) -> Result<Option<LimitHandle>, Invalid> {
    let most = workers * policies.limit_most_per_worker;
    let least = policies.limit_least.min(most);
    if policies.limit != HowMany::Workers && !policies.has("limit") {
        let fixed = forebay::control::limit::Fixed::new(most)?;
        return Ok(Some(LimitHandle::new(fixed)));
    }
    Ok(match policies.limit {
        HowMany::Workers => None,
        HowMany::Aimd => Some(LimitHandle::new(
            Aimd::builder().initial(least).bounds(least, most).build()?,
        )),
        HowMany::Vegas => Some(LimitHandle::new(
            Vegas::builder()
                .initial(least)
                .bounds(least, most)
                .build()?,
        )),
        HowMany::Gradient2 => Some(LimitHandle::new(
            Gradient2::builder()
                .initial(least)
                .bounds(least, most)
                .build()?,
        )),
    })
}

pub(super) fn breaker(
    setup: &Setup<'_>,
    policies: &Policies,
) -> Result<Option<BreakerHandle>, Invalid> {
    if !policies.breaker || !policies.has("breaker") {
        return Ok(None);
    }
    let slow = Duration::from_nanos(setup.services(policies.breaker_slow_services));
    let open = Duration::from_nanos(setup.services(policies.breaker_open_services));
    let settings = BreakerSettings::quick(slow)
        .open(open, 1.0, open)
        .when_open(match policies.when_open {
            Open::Reject => WhenOpen::Reject,
            Open::Pause => WhenOpen::PauseDemand,
        })
        .log(4096, false);
    Ok(Some(BreakerHandle::new(settings, start(setup))?))
}

/// When the pipeline is built, by its own clock.
fn start(setup: &Setup<'_>) -> Time {
    match setup.scenario.mode {
        // The simulation has not begun.
        Mode::Simulated => Time::ZERO,
        Mode::Wall => time::now(),
    }
}

/// What only HIGH passes under far too much load.
pub(super) fn emergency(
    setup: &Setup<'_>,
    policies: &Policies,
) -> Result<Option<EmergencyHandle>, Invalid> {
    if !policies.asks_for("emergency") {
        return Ok(None);
    }
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let alarm = policies.emergency;
    let settings = alarm.settings(setup.capacity_per_s(), services(alarm.hold_services));
    let window = services(alarm.window_services);
    EmergencyHandle::new(settings, window, start(setup)).map(Some)
}

pub(super) fn admission(
    setup: &Setup<'_>,
    policies: &Policies,
    emergency: Option<&EmergencyHandle>,
) -> Result<Option<AdmissionHandle>, Invalid> {
    if !policies.admission || !policies.has("admission") {
        return Ok(None);
    }
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let settings = AdmissionSettings::target(services(policies.admission_target_services))
        .window(services(policies.admission_window_services));
    Ok(Some(match emergency {
        Some(emergency) => AdmissionHandle::with_emergency(settings, emergency)?,
        None => AdmissionHandle::new(settings)?,
    }))
}

/// How many calls a second the destination is asked for.
pub(super) fn throttle(setup: &Setup<'_>, policies: &Policies) -> Result<Option<Rate>, Invalid> {
    if !policies.asks_for("throttle") {
        return Ok(None);
    }
    let shaping = policies.throttle;
    let per_s = setup.capacity_per_s() * shaping.level;
    Rate::new(per_s, shaping.burst, ThrottleMode::Shaping).map(Some)
}

/// As many as may be offered again at once.
pub(super) fn workers(setup: &Setup<'_>) -> u32 {
    u32::try_from(setup.scenario.workers).unwrap_or(u32::MAX)
}

/// The queue that serves by class and gives up by class.
pub(super) fn by_class(setup: &Setup<'_>, policies: &Policies) -> ClassBuffer {
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let aging = if policies.has("aging") {
        Aging::share(policies.aging_share).least_wait(services(policies.aging_wait_services))
    } else {
        Aging::none()
    };
    let mut settings = PrioritySettings::items(setup.places(policies.queue_services))
        .bytes(policies.queue_bytes)
        .aging(aging);
    if policies.has("reserve") {
        let lower = setup.places(policies.queue_lower_services);
        settings = settings.at_most(Rank::Medium.class(), lower);
    }
    for rank in Rank::ALL {
        settings = settings
            .when_no_room(rank.class(), policies.no_room(rank))
            .order(rank.class(), policies.in_class.of(rank).lane());
        if !policies.has("eviction") {
            settings = settings.never_evict(rank.class());
        }
    }
    let mut buffer = ClassBuffer::new(settings);
    if policies.has("stale") {
        buffer = buffer.give_up_stale(
            services(policies.stale_services),
            services(policies.stale_interval_services),
        );
    }
    if policies.defer_items > 0 && policies.has("defer") {
        let deferral = DeferralSettings::items(policies.defer_items)
            .ttl(Duration::from_millis(policies.defer_ttl_ms))
            .rate(policies.defer_per_s, workers(setup));
        buffer = buffer.defer(deferral);
    }
    buffer
}
