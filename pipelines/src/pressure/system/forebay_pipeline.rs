//! The pipeline under test. Everything that a scenario's `[policies]` can set is put together in
//! [`pipeline`], and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::flow::{Flow, Pipeline};
use forebay::source::{self, Offered, Queue};

use super::{Built, Observation, Setup, System, Task, Work};
use crate::scenario::{Order, Policies};
use crate::shop::CallFailed;
use crate::trace::Item;

/// A pipeline, the queue it is fed by, and what shows its controllers' state.
struct Parts {
    queue: Queue<Item>,
    pipeline: Pipeline<()>,
    /// What has to run beside it: offers that wait (see `Driver`).
    tasks: Vec<Task>,
    bound_bytes: u64,
    observe: Observe,
}

type Observe = Box<dyn Fn() -> Observation + Send + Sync>;

/// Builds forebay's pipeline as the policies say. A mechanism has its field in [`Policies`], its name
/// in `MECHANISMS` so that it can be left out, its stage here, and its state in `observe`.
fn pipeline(setup: &Setup<'_>, policies: &Policies) -> Parts {
    let workers = setup.scenario.workers;
    let when_full = if policies.has("drop_head") {
        policies.when_full.policy()
    } else {
        WhenFull::DropNew
    };
    let buffer = Buffer::items(policies.queue_items)
        .bytes(policies.queue_bytes)
        .when_full(when_full);
    let (queue, flow) = source::queue::<Item>(buffer);
    let queue = queue
        .classify(|item: &Item| item.rank.class())
        .weigh(|item: &Item| item.bytes);
    let mut flow = flow;
    if policies.expire && policies.has("expire") {
        flow = flow
            .deadline_by(|item: &Item| Some(Duration::from_nanos(item.useful_ns)))
            .expire();
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
    let pipeline = called.try_map(|result| *result).or_fail().ignore();
    let held = (policies.queue_items as u64 * setup.max_bytes)
        .min(policies.queue_bytes.saturating_add(setup.max_bytes));
    Parts {
        queue,
        pipeline,
        tasks: Vec::new(),
        bound_bytes: held + setup.bound_bytes(0),
        observe: Box::new(Observation::default),
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
    Built {
        system: Arc::new(Offers {
            queue: parts.queue,
            observe: parts.observe,
        }),
        work: Work {
            tasks: parts.tasks,
            pipeline: Some(parts.pipeline),
        },
        bound_bytes: Some(parts.bound_bytes),
    }
}
