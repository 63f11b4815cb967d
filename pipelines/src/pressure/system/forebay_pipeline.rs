//! The pipeline under test. Everything that a scenario's `[policies]` can set is put together in
//! [`pipeline`], and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use forebay::boundary::{Buffer, ClassBuffer, ClassQueueView, WhenFull};
use forebay::control::{Aging, DeferralSettings, PrioritySettings};
use forebay::flow::{Flow, Pipeline};
use forebay::source::{self, Offered, Queue};

use super::{Built, Observation, Setup, System, Task, Work};
use crate::scenario::{ByClass, Order, Policies, Rank};
use crate::shop::CallFailed;
use crate::trace::Item;

/// A pipeline, the queue it is fed by, and what shows its controllers' state.
struct Parts {
    queue: Queue<Item>,
    pipeline: Pipeline<()>,
    /// What has to run beside it: offers that wait (see `Driver`).
    tasks: Vec<Task>,
    observe: Observe,
}

type Observe = Box<dyn Fn() -> Observation + Send + Sync>;

/// Builds forebay's pipeline as the policies say. A mechanism has its field in [`Policies`], its name
/// in `MECHANISMS` so that it can be left out, its stage here, and its state in `observe`.
fn pipeline(setup: &Setup<'_>, policies: &Policies) -> Parts {
    let workers = setup.scenario.workers;
    let inbox = Buffer::items(policies.inbox_items)
        .bytes(policies.queue_bytes)
        .when_full(WhenFull::Backpressure);
    let (queue, mut flow) = source::queue::<Item>(inbox);
    let queue = queue
        .classify(|item: &Item| item.rank.class())
        .weigh(|item: &Item| item.bytes);
    let expires = policies.expire && policies.has("expire");
    if expires {
        flow = flow.deadline_by(|item: &Item| Some(Duration::from_nanos(item.useful_ns)));
    }
    let places = ((workers as f64 * policies.queue_services).ceil() as usize).max(1);
    let mut view = None;
    if policies.has("priority") {
        let buffer = by_class(setup, policies, places);
        view = Some(buffer.view());
        flow = flow.buffer_by_class(buffer);
    } else {
        let buffer = Buffer::items(places).bytes(policies.queue_bytes);
        flow = flow.buffer(buffer.when_full(WhenFull::DropHead));
        if expires {
            flow = flow.expire();
        }
    }
    let shop = Arc::clone(setup.shop);
    let call = move |item: Item| {
        let shop = Arc::clone(&shop);
        async move { shop.serve(item).await }
    };
    let called: Flow<Result<(), CallFailed>> = match policies.order {
        Order::Free => flow.map_async_unordered(workers, call),
        Order::Kept => flow.map_async(workers, call),
    };
    Parts {
        queue,
        pipeline: called.try_map(|result| *result).or_fail().ignore(),
        tasks: Vec::new(),
        observe: Box::new(move || observe(view.as_ref())),
    }
}

/// The queue that serves by class and gives up by class.
fn by_class(setup: &Setup<'_>, policies: &Policies, places: usize) -> ClassBuffer {
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let aging = if policies.has("aging") {
        Aging::share(policies.aging_share).least_wait(services(policies.aging_wait_services))
    } else {
        Aging::none()
    };
    let mut settings = PrioritySettings::items(places)
        .bytes(policies.queue_bytes)
        .aging(aging);
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
    if policies.defer_items > 0 {
        let ttl = Duration::from_millis(policies.defer_ttl_ms);
        buffer = buffer.defer(DeferralSettings::items(policies.defer_items).ttl(ttl));
    }
    buffer
}

fn observe(view: Option<&ClassQueueView>) -> Observation {
    let Some(seen) = view.and_then(ClassQueueView::snapshot) else {
        return Observation::default();
    };
    let lane = |rank: Rank| seen.queue.lane(rank.class());
    Observation {
        aging_grants: Rank::ALL.map(|rank| lane(rank).aged).iter().sum(),
        deferrals: Some(ByClass::make(|rank| {
            let lane = lane(rank);
            lane.deferred + lane.evicted_elsewhere
        })),
        ..Observation::default()
    }
}

struct Offers {
    queue: Queue<Item>,
    observe: Observe,
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
        (self.observe)()
    }
}

pub(super) fn build(setup: &Setup<'_>, policies: &Policies) -> Built {
    let parts = pipeline(setup, policies);
    let bound = parts.pipeline.topology().bound();
    Built {
        system: Arc::new(Offers {
            queue: parts.queue,
            observe: parts.observe,
        }),
        work: Work {
            tasks: parts.tasks,
            pipeline: Some(parts.pipeline),
        },
        bound_bytes: Some(setup.bound_bytes(bound)),
    }
}
