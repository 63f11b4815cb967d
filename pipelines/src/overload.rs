//! More orders than the service can take: what the pipeline does about it, and how much that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::limit::Vegas;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, BreakerHandle, BreakerSettings, LimitHandle,
    PrioritySettings, WhenNoRoom, WhenOpen,
};
use forebay::flow::Flow;
use forebay::operator::Calls;
use forebay::outcome::Kind;
use forebay::runtime::Snapshot;
use forebay::time;
use serde::Serialize;

use crate::cli::{OrdersOptions, unusable};
use crate::event::OrderPaid;
use crate::http_log::HttpLog;
use crate::input::Input;
use crate::order::Order;
use crate::post::{Poster, parse_url};
use crate::status;

/// How late the built-in service answers if nothing else is asked for: without it the service would
/// be as fast as the machine, and what is offered would take the cores that serve.
const SLOW_MS: u64 = 20;
/// For how long orders are offered at least.
const SPAN_S: f64 = 10.0;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_millis(1500);

/// A load that exceeds what can be done, and what holds it.
pub(crate) struct Overload {
    times: f64,
    capacity_per_s: f64,
    /// How long an order may take: ten times as long as a post.
    deadline: Duration,
    admission: AdmissionHandle,
    limit: LimitHandle,
    breaker: BreakerHandle,
    buffer: usize,
}

/// What became of the load, as `--json` prints it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Outcome {
    times: f64,
    capacity_per_s: f64,
    offered_per_s: f64,
    deadline_ms: u64,
    delivered_per_s: f64,
    high_lost: u64,
    breaker_trips: u64,
    /// The most memory that the process had so far, the service and its clients included.
    peak_rss_kib: Option<u64>,
}

#[allow(clippy::cast_sign_loss)] // rates and spans are not negative
impl Overload {
    /// Measures what the service can do, and sets the options for so many times of it.
    pub(crate) async fn measure(
        options: &mut OrdersOptions,
        times: f64,
    ) -> anyhow::Result<Overload> {
        if options.faults.slow_ms == 0 {
            options.faults.slow_ms = SLOW_MS;
        }
        let capacity_per_s = if options.print_topology.is_some() {
            1e3 * f64::from(options.concurrency) / options.faults.slow_ms as f64
        } else {
            capacity(options).await?
        };
        if capacity_per_s < 1.0 {
            return Err(unusable(
                "--overload: the service takes less than an order a second; make it faster",
            ));
        }
        let offered_per_s = capacity_per_s * times;
        options.rate = Some((offered_per_s as u32).max(1));
        if let Some(total) = Input::open(options).await?.total {
            let passes = (SPAN_S * offered_per_s / total.max(1) as f64).ceil();
            options.repeat = options.repeat.max(passes as u32);
        }
        let deadline =
            Duration::from_secs_f64(10.0 * f64::from(options.concurrency) / capacity_per_s);
        // From the oldest order that is unsettled to the newest: all that comes in the longest time
        // that one can take.
        let longest_s = deadline.as_secs_f64() + options.timeout_ms as f64 / 1e3;
        let window = (offered_per_s * longest_s).min(f64::from(1 << 20)) as u32;
        options.window = options.window.max(window);
        Overload::new(options, times, capacity_per_s, deadline)
    }

    fn new(
        options: &OrdersOptions,
        times: f64,
        capacity_per_s: f64,
        deadline: Duration,
    ) -> anyhow::Result<Overload> {
        let most = usize::from(options.concurrency);
        let settings = AdmissionSettings::target(deadline / 4).window(Duration::from_millis(50));
        let limit = Vegas::builder().initial(most).bounds(1, most).build()?;
        let breaker = BreakerSettings::default().when_open(WhenOpen::PauseDemand);
        // As much as can be served until the deadline of the last.
        let buffer = (capacity_per_s * deadline.as_secs_f64()).max(1.0) as usize;
        Ok(Overload {
            times,
            capacity_per_s,
            deadline,
            admission: AdmissionHandle::new(settings)?,
            limit: LimitHandle::new(limit),
            breaker: BreakerHandle::new(breaker, time::now())?,
            buffer: buffer.max(options.buffer as usize),
        })
    }

    /// What comes before the posts: orders that can be served are let in, and wait by their class.
    pub(crate) fn admit(&self, orders: Flow<Order>) -> Flow<Bytes> {
        let settings = [Class::HIGH, Class::MEDIUM, Class::LOW]
            .into_iter()
            .fold(PrioritySettings::items(self.buffer), |settings, class| {
                settings.when_no_room(class, WhenNoRoom::Refuse)
            });
        orders
            .deadline(self.deadline)
            .admit(&self.admission)
            .named("admit")
            .map(|order| OrderPaid::from(order).json())
            .named("event")
            .buffer_by_class(ClassBuffer::new(settings).feeding(&self.admission))
            .named("buffer")
    }

    pub(crate) fn calls(&self, window: usize) -> Calls {
        Calls::under(&self.limit)
            .window(window)
            .breaker(&self.breaker)
            .feeding(&self.admission)
    }

    pub(crate) fn outcome(&self, snapshot: &Snapshot, took: Duration) -> Outcome {
        let counts = snapshot.total();
        let high = &counts.classes[Class::HIGH.index()];
        let per_s = |count: u64| (count as f64 / took.as_secs_f64().max(1e-9)).round();
        Outcome {
            times: self.times,
            capacity_per_s: self.capacity_per_s.round(),
            offered_per_s: per_s(counts.entered),
            deadline_ms: self.deadline.as_millis() as u64,
            delivered_per_s: per_s(counts.outcome(Kind::Delivered)),
            high_lost: high.total() - high.outcomes[Kind::Delivered as usize],
            breaker_trips: self.breaker.snapshot(time::now()).counts.trips,
            peak_rss_kib: status::kib("VmHWM"),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "overload       {} orders/s offered, {:.1} times the measured capacity of {}\n\
             served         {} orders/s, each within {} ms or not at all\n\
             HIGH           {}{}",
            self.offered_per_s,
            self.offered_per_s / self.capacity_per_s,
            self.capacity_per_s,
            self.delivered_per_s,
            self.deadline_ms,
            match self.high_lost {
                0 => "all delivered".to_owned(),
                lost => format!("{lost} LOST"),
            },
            self.peak_rss_kib.map_or(String::new(), |kib| {
                format!("\nmemory         {kib} KiB at most, the service included")
            })
        )
    }
}

/// How many posts a second the service answers to as many clients as there may be calls, without an
/// engine: each posts again when it has its answer.
async fn capacity(options: &OrdersOptions) -> anyhow::Result<f64> {
    let service = HttpLog::start(0, options.faults.clone(), None).await?;
    let poster = Poster::new(parse_url(&service.url())?, usize::from(options.concurrency));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..options.concurrency)
        .map(|client| {
            let (poster, answered) = (poster.clone(), Arc::clone(&answered));
            let event = Bytes::from(format!("{{\"orderId\":\"measured-{client}\"}}"));
            tokio::spawn(async move {
                loop {
                    if poster.clone().post(event.clone()).await.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let (before, from) = (answered.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let count = answered.load(Ordering::Relaxed) - before;
    let per_s = count as f64 / from.elapsed().as_secs_f64();
    for client in clients {
        client.abort();
    }
    Ok(per_s)
}
