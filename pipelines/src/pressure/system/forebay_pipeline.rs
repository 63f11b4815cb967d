//! The pipeline under test. Everything that a scenario's `[policies]` can set is put together in
//! [`pipeline`], and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use forebay::boundary::{Buffer, ClassBuffer, ClassQueueView, WhenFull};
use forebay::control::limit::{Aimd, Gradient2, LimitHandle, Vegas};
use forebay::control::{
    Adjustment, AdmissionHandle, AdmissionSettings, Aging, BreakerEventKind, BreakerHandle,
    BreakerSettings, BreakerState as State, DeferralSettings, Invalid, PrioritySettings,
    WhenNoRoom, WhenOpen,
};
use forebay::flow::{Flow, Pipeline};
use forebay::operator::Calls;
use forebay::source::{self, Offered, Queue};
use forebay::time::{self, Time};

use super::{BreakerState, Built, Observation, Setup, System, Transition, Work};
use crate::scenario::{ByClass, HowMany, Mode, Open, Order, Policies, Rank};
use crate::trace::{Item, Trace};

/// The controllers of a pipeline, as far as the policies have them.
struct Controllers {
    trace: Arc<Trace>,
    queue: Option<ClassQueueView>,
    admission: Option<AdmissionHandle>,
    limit: Option<LimitHandle>,
    breaker: Option<BreakerHandle>,
}

/// Builds forebay's pipeline as the policies say. A mechanism has its fields in [`Policies`], its name
/// in `MECHANISMS` so that it can be left out, its stage here, and its state in `Controllers`.
fn pipeline(
    setup: &Setup<'_>,
    policies: &Policies,
) -> Result<(Queue<Item>, Pipeline<()>, Controllers), Invalid> {
    let workers = setup.scenario.workers;
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let mut controllers = Controllers {
        trace: Arc::clone(setup.shop.trace()),
        queue: None,
        admission: None,
        limit: limit(policies, workers)?,
        breaker: breaker(setup, policies)?,
    };
    let (queue, mut flow) = inbox(policies)?;
    let queue = queue
        .classify(|item: &Item| item.rank.class())
        .weigh(|item: &Item| item.bytes);
    let expires = policies.expire && policies.has("expire");
    if expires {
        flow = flow.deadline_by(|item: &Item| Some(Duration::from_nanos(item.useful_ns)));
    }
    if policies.admission && policies.has("admission") {
        let target = services(policies.admission_target_services);
        let window = services(policies.admission_window_services);
        let admission = AdmissionHandle::new(AdmissionSettings::target(target).window(window))?;
        flow = flow.admit(&admission);
        controllers.admission = Some(admission);
    }
    let places = setup.places(policies.queue_services);
    if policies.has("priority") {
        let mut buffer = by_class(setup, policies);
        if let Some(admission) = &controllers.admission {
            buffer = buffer.feeding(admission);
        }
        controllers.queue = Some(buffer.view());
        flow = flow.buffer_by_class(buffer);
    } else {
        let buffer = Buffer::items(places).bytes(policies.queue_bytes);
        flow = flow.buffer(buffer.when_full(WhenFull::DropHead));
        if expires {
            flow = flow.expire();
        }
    }
    let mut calls = match &controllers.limit {
        Some(limit) => Calls::under(limit),
        None => Calls::limit(workers),
    };
    if let Some(breaker) = &controllers.breaker {
        calls = calls.breaker(breaker);
    }
    if let Some(admission) = &controllers.admission {
        calls = calls.feeding(admission);
    }
    let shop = Arc::clone(setup.shop);
    let call = move |item: Item| {
        let shop = Arc::clone(&shop);
        async move { shop.serve(item).await }
    };
    let mut called = match policies.order {
        Order::Free => flow.try_map_async_unordered(calls, call),
        Order::Kept => flow.try_map_async(calls, call),
    };
    if policies.has("timeout") {
        called = called.timeout(services(policies.timeout_services));
    }
    if policies.give_up_late && policies.has("give_up_late") {
        called = called.give_up_after(|item: &Item| {
            (item.rank != Rank::High).then(|| Duration::from_nanos(item.left_ns()))
        });
    }
    Ok((queue, called.or_fail().ignore(), controllers))
}

/// The producers' queue: lower classes make way in it, too.
fn inbox(policies: &Policies) -> Result<(Queue<Item>, Flow<Item>), Invalid> {
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
fn limit(policies: &Policies, workers: usize) -> Result<Option<LimitHandle>, Invalid> {
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

fn breaker(setup: &Setup<'_>, policies: &Policies) -> Result<Option<BreakerHandle>, Invalid> {
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
    let now = match setup.scenario.mode {
        // The simulation has not begun.
        Mode::Simulated => Time::ZERO,
        Mode::Wall => time::now(),
    };
    Ok(Some(BreakerHandle::new(settings, now)?))
}

/// As many as may be offered again at once.
fn workers(setup: &Setup<'_>) -> u32 {
    u32::try_from(setup.scenario.workers).unwrap_or(u32::MAX)
}

/// The queue that serves by class and gives up by class.
fn by_class(setup: &Setup<'_>, policies: &Policies) -> ClassBuffer {
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

impl Controllers {
    fn observe(&self) -> Observation {
        let mut observed = Observation::default();
        if let Some(seen) = self.queue.as_ref().and_then(ClassQueueView::snapshot) {
            let lane = |rank: Rank| seen.queue.lane(rank.class());
            observed.aging_grants = Rank::ALL.map(|rank| lane(rank).aged).iter().sum();
            observed.deferrals = Some(ByClass::make(|rank| {
                lane(rank).deferred + lane(rank).evicted_elsewhere
            }));
        }
        if let Some(admission) = &self.admission {
            observed.reject_ratio = Some(admission.snapshot().reject_ratio);
            observed.adjustments.extend(admission.adjustments());
        }
        if let Some(limit) = &self.limit {
            observed.limit = Some(limit.limit() as f64);
            observed.adjustments.extend(limit.adjustments());
        }
        if let Some(breaker) = &self.breaker {
            observed.breaker = Some(shown(breaker.state()));
            observed.adjustments.extend(breaker.adjustments());
            observed.transitions = self.transitions(breaker);
        }
        let since = |at: Time| Time::from_nanos(self.at_ns(at));
        for adjustment in &mut observed.adjustments {
            *adjustment = Adjustment {
                at: since(adjustment.at),
                ..*adjustment
            };
        }
        observed.adjustments.sort_by_key(|adjustment| adjustment.at);
        observed
    }

    /// Nanoseconds after the start of the run.
    fn at_ns(&self, at: Time) -> u64 {
        let since = at.since(self.trace.clock(0));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn transitions(&self, breaker: &BreakerHandle) -> Vec<Transition> {
        let events = breaker.events().into_iter();
        let transitions = events.filter_map(|event| match event.kind {
            BreakerEventKind::Transition { to, .. } => Some(Transition {
                at_ns: self.at_ns(event.at),
                to: shown(to),
            }),
            _ => None,
        });
        transitions.collect()
    }
}

fn shown(state: State) -> BreakerState {
    match state {
        State::Open | State::ForcedOpen => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
        _ => BreakerState::Closed,
    }
}

struct Offers {
    queue: Queue<Item>,
    controllers: Controllers,
}

impl System for Offers {
    fn offer(&self, item: Item) -> Result<(), Item> {
        match self.queue.try_offer(item) {
            Offered::Enqueued => Ok(()),
            refused => refused.into_value().map_or(Ok(()), Err),
        }
    }

    fn close(&self) {
        self.queue.complete();
    }

    fn observe(&self) -> Observation {
        self.controllers.observe()
    }
}

pub(super) fn build(setup: &Setup<'_>, policies: &Policies) -> Result<Built, String> {
    let (queue, pipeline, controllers) =
        pipeline(setup, policies).map_err(|invalid| format!("policies: {invalid}"))?;
    let bound = pipeline.topology().bound();
    Ok(Built {
        system: Arc::new(Offers { queue, controllers }),
        work: Work {
            tasks: Vec::new(),
            pipeline: Some(pipeline),
        },
        bound_bytes: Some(setup.bound_bytes(bound)),
    })
}
