//! The two pipelines whose costs are compared, on the same elements and the same service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::limit::Vegas;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, BreakerHandle, BreakerSettings, Invalid, LimitHandle,
    PrioritySettings, WhenNoRoom, WhenOpen,
};
use forebay::flow::{Flow, Pipeline};
use forebay::operator::Calls;
use forebay::time::{Time, TimedOut};

/// How many calls may be in flight, in both.
const CALLS: usize = 16;
/// How long an element may take, in services; and as many can be served until the deadline of the
/// last. Ten, as in the scenarios, would be less than the machine needs to wake a thread.
const DEADLINE_SERVICES: u32 = 1000;
const PLACES: usize = DEADLINE_SERVICES as usize;

/// A pipeline that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Which {
    /// A buffer, and calls.
    Bare,
    /// All that overload asks for: classes and deadlines, admission, a buffer by class, calls under a
    /// limit that adapts, behind a breaker, each with a time-out.
    Full,
}

impl Which {
    pub(crate) const BOTH: [Which; 2] = [Which::Bare, Which::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Which::Bare => "bare",
            Which::Full => "full",
        }
    }
}

/// What comes in: its number, of which its class follows.
pub(crate) type Element = u64;

/// Four fifths HIGH, as at half of the capacity in the scenarios.
fn class(element: Element) -> Class {
    match element % 10 {
        0 => Class::MEDIUM,
        1 => Class::LOW,
        _ => Class::HIGH,
    }
}

/// An error that a call may have, and these never do.
#[derive(Debug)]
struct CallFailed;

impl From<TimedOut> for CallFailed {
    fn from(_: TimedOut) -> CallFailed {
        CallFailed
    }
}

/// Elements that ended delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completed(Arc<AtomicU64>);

impl Completed {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn sink(&self, flow: Flow<Element>) -> Pipeline<()> {
        let count = Arc::clone(&self.0);
        flow.for_each(move |element| {
            std::hint::black_box(element);
            count.fetch_add(1, Ordering::Relaxed);
        })
    }
}

/// One of the pipelines behind that source, with that service, which takes so long; it begins then.
pub(crate) fn pipeline(
    which: Which,
    source: Flow<Element>,
    serve: impl Fn() + Clone + Send + 'static,
    service: Duration,
    now: Time,
) -> Result<(Pipeline<()>, Completed), Invalid> {
    let completed = Completed::default();
    let flow = match which {
        Which::Bare => bare(source, serve),
        Which::Full => full(source, serve, service, now)?,
    };
    Ok((completed.sink(flow), completed))
}

fn bare(source: Flow<Element>, serve: impl Fn() + Clone + Send + 'static) -> Flow<Element> {
    source.buffer(PLACES).map_async(CALLS, move |element| {
        let serve = serve.clone();
        async move {
            serve();
            element
        }
    })
}

/// As the order pipeline has it under `--overload`.
fn full(
    source: Flow<Element>,
    serve: impl Fn() + Clone + Send + 'static,
    service: Duration,
    now: Time,
) -> Result<Flow<Element>, Invalid> {
    let deadline = service * DEADLINE_SERVICES;
    let settings = AdmissionSettings::target(deadline / 4).window(Duration::from_millis(50));
    let admission = AdmissionHandle::new(settings)?;
    let limit = LimitHandle::new(Vegas::builder().initial(CALLS).bounds(1, CALLS).build()?);
    let settings = BreakerSettings::default().when_open(WhenOpen::PauseDemand);
    let breaker = BreakerHandle::new(settings, now)?;
    let settings = [Class::HIGH, Class::MEDIUM, Class::LOW]
        .into_iter()
        .fold(PrioritySettings::items(PLACES), |settings, class| {
            settings.when_no_room(class, WhenNoRoom::Refuse)
        });
    let calls = Calls::under(&limit).breaker(&breaker).feeding(&admission);
    let flow = source
        .classify(|element| class(*element))
        .deadline(deadline)
        .admit(&admission)
        .buffer_by_class(ClassBuffer::new(settings).feeding(&admission))
        .try_map_async(calls, move |element| {
            let serve = serve.clone();
            async move {
                serve();
                Ok::<Element, CallFailed>(element)
            }
        })
        .timeout(deadline)
        .or_fail();
    Ok(flow)
}
