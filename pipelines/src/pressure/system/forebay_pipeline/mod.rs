//! The pipeline under test. Everything that a scenario's `[policies]` can set is put together in
//! [`pipeline`], and nowhere else.

mod controllers;
mod memory;
mod parts;

use std::sync::Arc;
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::control::{BatchHandle, BatchSample, Invalid};
use forebay::flow::{Fallible, Flow, Pipeline};
use forebay::operator::Calls;
use forebay::source::{Offered, Queue};
use forebay::time;

use super::{BreakerState, Built, Observation, Setup, System, Transition, Work};
use crate::scenario::{Order, Policies, Rank};
use crate::shop::{CallFailed, Shop};
use crate::trace::Item;
use controllers::Controllers;
use memory::MemoryGate;

/// Builds forebay's pipeline as the policies say. A mechanism has its fields in [`Policies`], its name
/// in `MECHANISMS` so that it can be left out, its stage here, and its state in `Controllers`.
fn pipeline(
    setup: &Setup<'_>,
    policies: &Policies,
) -> Result<(Queue<Item>, Pipeline<()>, Controllers), Invalid> {
    let mut controllers = controllers(setup, policies)?;
    let (queue, mut flow) = parts::inbox(policies)?;
    let queue = queue
        .classify(|item: &Item| item.rank.class())
        .weigh(|item: &Item| item.bytes);
    let expires = policies.expire && policies.has("expire");
    if expires {
        flow = flow.deadline_by(|item: &Item| Some(Duration::from_nanos(item.useful_ns)));
    }
    if let Some(admission) = &controllers.admission {
        flow = flow.admit(admission);
    }
    if policies.has("priority") {
        let mut buffer = parts::by_class(setup, policies);
        if let Some(admission) = &controllers.admission {
            buffer = buffer.feeding(admission);
        }
        if let Some(memory) = &controllers.memory {
            buffer = buffer.under(memory.pressure());
        }
        controllers.queue = Some(buffer.view());
        flow = flow.buffer_by_class(buffer);
    } else {
        let places = setup.places(policies.queue_services);
        let buffer = Buffer::items(places).bytes(policies.queue_bytes);
        flow = flow.buffer(buffer.when_full(WhenFull::DropHead));
        if expires {
            flow = flow.expire();
        }
    }
    if let Some(rate) = &controllers.throttle {
        flow = flow.throttle(rate);
    }
    let mut elsewhere = None;
    if policies.asks_for("divert")
        && let Some(breaker) = &controllers.breaker
    {
        let workers = policies.divert.workers;
        let (calls, diverted) = flow.divert_while_open(breaker, workers);
        let shop = Arc::clone(setup.shop);
        flow = calls;
        elsewhere = Some(diverted.map_async_unordered(workers, move |item| {
            let shop = Arc::clone(&shop);
            async move { shop.serve_elsewhere(item).await }
        }));
    }
    let calls = calls(setup, &controllers);
    let shop = Arc::clone(setup.shop);
    let mut served = match &controllers.batch {
        None => {
            let wanted = |item: &Item| {
                (item.rank != Rank::High).then(|| Duration::from_nanos(item.left_ns()))
            };
            tried(setup, policies, flow, calls, wanted, move |item| {
                let shop = Arc::clone(&shop);
                async move { shop.serve(item).await }
            })
        }
        Some(size) => {
            let size = size.clone();
            let flow = flow.batch(&size);
            // The answer to a batch is of use as long as that to any of it.
            let wanted = |_: &Vec<Item>| None;
            tried(setup, policies, flow, calls, wanted, move |batch| {
                in_batch(Arc::clone(&shop), size.clone(), batch)
            })
        }
    };
    if let Some(elsewhere) = elsewhere {
        served = served.merge([elsewhere]);
    }
    Ok((queue, served.ignore(), controllers))
}

/// The controllers that the policies ask for; the queue shows itself once it is built.
fn controllers(setup: &Setup<'_>, policies: &Policies) -> Result<Controllers, Invalid> {
    let trace = setup.shop.trace();
    let emergency = parts::emergency(setup, policies)?;
    let target = Duration::from_nanos(setup.services(policies.batch.target_services));
    Ok(Controllers {
        trace: Arc::clone(trace),
        queue: None,
        admission: parts::admission(setup, policies, emergency.as_ref())?,
        emergency,
        limit: parts::limit(policies, setup.scenario.workers)?,
        breaker: parts::breaker(setup, policies)?,
        batch: if policies.asks_for("batch") {
            policies.batch.handle(target)?
        } else {
            None
        },
        throttle: parts::throttle(setup, policies)?,
        memory: if policies.asks_for("memory") {
            Some(MemoryGate::new(policies.memory, trace)?)
        } else {
            None
        },
    })
}

/// On what terms the destination is called.
fn calls(setup: &Setup<'_>, controllers: &Controllers) -> Calls {
    let workers = setup.scenario.workers;
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
    calls
}

/// One call for several elements; the size learns how long it took.
async fn in_batch(shop: Arc<Shop>, size: BatchHandle, batch: Vec<Item>) -> Result<(), CallFailed> {
    let (items, began) = (batch.len(), time::now());
    let result = shop.serve_all(batch).await;
    let now = time::now();
    let sample = BatchSample {
        items,
        service: now.since(began),
        ..BatchSample::default()
    };
    size.on_batch(now, &sample);
    result
}

/// Calls, each for so long, and again as the policies say.
fn tried<T, F, Fut>(
    setup: &Setup<'_>,
    policies: &Policies,
    flow: Flow<T>,
    calls: Calls,
    wanted: fn(&T) -> Option<Duration>,
    call: F,
) -> Flow<()>
where
    T: Clone + Send + 'static,
    F: FnMut(T) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), CallFailed>> + Send + 'static,
{
    let services = |count: f64| Duration::from_nanos(setup.services(count));
    let mut tried: Fallible<T, (), CallFailed> = match policies.order {
        Order::Free => flow.try_map_async_unordered(calls, call),
        Order::Kept => flow.try_map_async(calls, call),
    };
    if policies.asks_for("retry") {
        let budget = policies.asks_for("retry_budget");
        tried = tried.retry(policies.retry.retry(services, budget));
    }
    if policies.has("timeout") {
        tried = tried.timeout(services(policies.timeout_services));
    }
    if policies.uses("give_up_late") {
        tried = tried.give_up_after(wanted);
    }
    tried.or_fail()
}

struct Offers {
    queue: Queue<Item>,
    controllers: Controllers,
}

impl System for Offers {
    fn offer(&self, item: Item) -> Result<(), Item> {
        let memory = self.controllers.memory.as_ref();
        if memory.is_some_and(|memory| !memory.admits(&item)) {
            return Err(item);
        }
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
