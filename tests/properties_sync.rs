//! The synchronous operators against models on vectors: whatever the size of chunks, the demand, the
//! moment of a cancellation or of a failure, and wherever barriers lie, the results are those of the
//! model, and every element is accounted for.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::class::Class;
use forebay::control::BatchLimits;
use forebay::error::{RunError, Stop};
use forebay::flow::{Flow, Restart, restarting};
use forebay::operator::{Answer, Context, Control, Demand, Fill, Held, Input, Operator, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::replay;
use forebay::topology::Guarantee;
use proptest::prelude::*;

/// User code that panics, without a word to standard error.
fn panic_unless(sound: bool) {
    if !sound {
        std::panic::resume_unwind(Box::new("as planned"));
    }
}

/// A small generator of its own, so that stages can be random by a seed alone.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Hands on elements in chunks of random sizes, with pauses, and may fail after so many.
struct Choppy<T> {
    input: Input<T>,
    random: Random,
    left: usize,
}

impl<T: Send> Operator<T> for Choppy<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.left == 0 {
            return Err(Stop::error("as planned"));
        }
        if self.random.below(4) == 0 {
            cx.waker().wake_by_ref();
            return Ok(Fill::Pending);
        }
        let most = (1 + self.random.below(20) as usize).min(self.left);
        let fill = self.input.fill(cx, out, want.at_most(most))?;
        self.left -= out.len();
        if matches!(fill, Fill::Done) && self.left < usize::MAX / 2 {
            // The failure is not to be forgotten where there are fewer elements.
            self.left = 0;
            return if out.is_empty() {
                Err(Stop::error("as planned"))
            } else {
                Ok(Fill::More)
            };
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

/// Takes random numbers of elements at random times, and wants no more after so many.
struct Hesitant<T> {
    random: Random,
    asked: Demand,
    left: usize,
    by_bytes: bool,
    taken: Arc<Mutex<Vec<T>>>,
}

impl<T: Send> Sink<T> for Hesitant<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        if self.random.below(3) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let items = 1 + self.random.below(30) as usize;
        let bytes = if self.by_bytes {
            1 + self.random.below(60)
        } else {
            u64::MAX
        };
        self.asked = Demand { items, bytes };
        Poll::Ready(Ok(Some(self.asked)))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        assert!(chunk.len() <= self.asked.items, "more than was asked for");
        assert!(
            chunk.len() == 1 || chunk.bytes() <= self.asked.bytes,
            "more bytes than asked for"
        );
        self.left = self.left.saturating_sub(chunk.len());
        let values = chunk.drain().map(|element| {
            cx.settle(element.meta, Outcome::Delivered);
            element.value
        });
        self.taken.lock().unwrap().extend(values);
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// How one run goes.
#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    count: usize,
    /// Upstream fails after so many elements.
    fails_after: Option<usize>,
    /// Downstream wants no more after so many.
    cancels_after: Option<usize>,
    barrier_every: usize,
    buffered: bool,
    by_bytes: bool,
}

impl Case {
    /// How many elements reach the operator if nobody cancels.
    fn reaches(&self) -> usize {
        self.fails_after.unwrap_or(usize::MAX).min(self.count)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (
        any::<u64>(),
        0..120_usize,
        proptest::option::weighted(0.25, 1..100_usize),
        proptest::option::weighted(0.25, 1..60_usize),
        prop_oneof![2 => Just(0), 1 => 1..30_usize],
        any::<bool>(),
        proptest::bool::weighted(0.3),
    )
        .prop_map(
            |(seed, count, fails_after, cancels_after, barrier_every, buffered, by_bytes)| Case {
                seed,
                count,
                fails_after,
                cancels_after,
                barrier_every,
                buffered,
                by_bytes,
            },
        )
}

struct Ran<U> {
    values: Vec<U>,
    snapshot: Snapshot,
    result: Result<(), RunError>,
}

fn run<U: Send + 'static>(case: &Case, operator: impl FnOnce(Flow<u64>) -> Flow<U>) -> Ran<U> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let random = Random(case.seed);
    let mut flow = source::iter(0..case.count as u64)
        .barrier_every(case.barrier_every)
        .weigh(|n| n % 23);
    if case.buffered {
        flow = flow.buffer(7);
    }
    let (left, chops) = (case.fails_after.unwrap_or(usize::MAX), random.clone());
    let flow = flow.stage("choppy", move |input| Choppy {
        input,
        random: chops,
        left,
    });
    let sink = Hesitant {
        random: Random(case.seed ^ 0x5555),
        asked: Demand::NONE,
        left: case.cancels_after.unwrap_or(usize::MAX),
        by_bytes: case.by_bytes,
        taken: Arc::clone(&taken),
    };
    let pipeline = operator(flow).named("operator").to(sink);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (snapshot, result) = runtime.block_on(async move {
        let mut running = pipeline.run().unwrap();
        let result = tokio::time::timeout(Duration::from_secs(20), running.join()).await;
        (running.snapshot(), result.expect("the run came to a halt"))
    });
    let values = std::mem::take(&mut *taken.lock().unwrap());
    Ran {
        values,
        snapshot,
        result,
    }
}

/// The model gets what reaches the operator, and whether upstream completed.
fn judge<U: Send + Clone + PartialEq + std::fmt::Debug + 'static>(
    case: &Case,
    operator: impl FnOnce(Flow<u64>) -> Flow<U>,
    model: impl FnOnce(&[u64], bool) -> Vec<U>,
) -> Result<Ran<U>, TestCaseError> {
    let ran = run(case, operator);
    if let Err(found) = ran.snapshot.check() {
        return Err(TestCaseError::fail(format!("{found:?}\n{}", ran.snapshot)));
    }
    let input: Vec<u64> = (0..case.reaches() as u64).collect();
    let model = model(&input, case.fails_after.is_none());
    match case.cancels_after {
        Some(wanted) if wanted <= ran.values.len() => {
            prop_assert_eq!(&ran.values[..], &model[..ran.values.len()]);
        }
        _ => prop_assert_eq!(&ran.values, &model),
    }
    if case.fails_after.is_none() {
        prop_assert!(ran.result.is_ok(), "{:?}", ran.result);
    } else if case.cancels_after.is_none() && ran.result.is_ok() {
        // Nobody but an operator that ends on purpose may hide a failure.
        prop_assert_eq!(ran.snapshot.stage("operator").unwrap().kind, "take");
    }
    Ok(ran)
}

fn held_peak<U>(ran: &Ran<U>) -> u64 {
    ran.snapshot.stage("operator").unwrap().counts.held_peak
}

/// Cuts a sequence at barriers.
fn epochs<'a>(case: &Case, input: &'a [u64]) -> Vec<&'a [u64]> {
    match case.barrier_every {
        0 => vec![input],
        every => input.chunks(every).collect(),
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn map_and_map_in_place_and_inspect(case in cases(), panics in 1..9_u64) {
        let keep = move |n: &u64| n % 11 != panics;
        let ran = judge(
            &case,
            |flow| flow.map(move |n| { panic_unless(keep(&n)); n + 1 }),
            |input, _| input.iter().copied().filter(keep).map(|n| n + 1).collect(),
        )?;
        prop_assert_eq!(held_peak(&ran), 0);
        judge(
            &case,
            |flow| flow.map_in_place(move |n| { panic_unless(keep(n)); *n *= 2; }),
            |input, _| input.iter().copied().filter(keep).map(|n| n * 2).collect(),
        )?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let see = Arc::clone(&seen);
        let ran = judge(
            &case,
            |flow| flow.inspect(move |n| { panic_unless(keep(n)); see.lock().unwrap().push(*n); }),
            |input, _| input.iter().copied().filter(keep).collect(),
        )?;
        prop_assert_eq!(&seen.lock().unwrap()[..ran.values.len()], &ran.values[..]);
    }

    #[test]
    fn filter_and_filter_map(case in cases(), modulus in 1..9_u64) {
        let ran = judge(
            &case,
            |flow| flow.filter(move |n| { panic_unless(n % 13 != 5); n % modulus == 0 }),
            |input, _| input.iter().copied().filter(|n| n % 13 != 5 && n % modulus == 0).collect(),
        )?;
        if case.cancels_after.is_none() {
            let counts = &ran.snapshot.stage("operator").unwrap().counts;
            let panicked = (0..case.reaches() as u64).filter(|n| n % 13 == 5).count() as u64;
            prop_assert_eq!(counts.outcome(Kind::Failed), panicked);
            prop_assert_eq!(
                counts.reason(Reason::Predicate),
                case.reaches() as u64 - panicked - ran.values.len() as u64
            );
        }
        judge(
            &case,
            |flow| flow.filter_map(move |n| {
                panic_unless(n % 13 != 5);
                (n % modulus != 0).then(|| n.to_string())
            }),
            |input, _| {
                let kept = input.iter().filter(|n| *n % 13 != 5 && *n % modulus != 0);
                kept.map(ToString::to_string).collect()
            },
        )?;
    }

    #[test]
    fn map_concat(case in cases(), most in 1..40_u64) {
        let expand = move |n: u64| (0..n % most).map(move |part| n * 1000 + part);
        let ran = judge(
            &case,
            |flow| flow.map_concat(expand),
            |input, _| input.iter().copied().flat_map(expand).collect(),
        )?;
        prop_assert!(held_peak(&ran) <= 256);
        if case.cancels_after.is_none() {
            let total = ran.snapshot.total();
            let empty = (0..case.reaches() as u64).filter(|n| n % most == 0).count() as u64;
            prop_assert_eq!(total.outcome(Kind::Filtered), empty);
            prop_assert_eq!(total.outcome(Kind::Delivered), case.reaches() as u64 - empty);
        }
    }

    #[test]
    fn map_concat_with_panics_midway(case in cases()) {
        // An element whose expansion panics fails; the values made before that go on.
        let expand = |n: u64| (0..n % 5).map(move |part| {
            panic_unless(n % 7 != 3 || part < 2);
            n * 10 + part
        });
        let ran = judge(
            &case,
            |flow| flow.map_concat(expand),
            |input, _| input.iter().flat_map(|n| {
                let parts = if n % 7 == 3 { (n % 5).min(2) } else { n % 5 };
                (0..parts).map(move |part| n * 10 + part)
            }).collect(),
        )?;
        if case.cancels_after.is_none() {
            let failed = (0..case.reaches() as u64).filter(|n| n % 7 == 3 && n % 5 > 2).count();
            prop_assert_eq!(ran.snapshot.total().outcome(Kind::Failed), failed as u64);
        }
    }

    #[test]
    fn stateful_map_and_scan(case in cases()) {
        judge(
            &case,
            |flow| flow.stateful_map(0, |last, n| n - std::mem::replace(last, n)),
            |input, _| input.iter().map(|n| n.min(&1)).copied().collect(),
        )?;
        judge(
            &case,
            |flow| flow.scan(0, |sum, n| *sum += n),
            |input, _| input.iter().map(|n| n * (n + 1) / 2).collect(),
        )?;
    }

    #[test]
    fn a_stateful_stage_stops_at_a_panic(mut case in cases(), at in 0..100_u64) {
        case.fails_after = None;
        let ran = run(&case, |flow| flow.scan(0, move |sum, n| { panic_unless(n != at); *sum += n; }));
        ran.snapshot.check().unwrap();
        let whole = case.reaches() as u64 > at && case.cancels_after.is_none_or(|wanted| wanted as u64 > at);
        if whole {
            prop_assert_eq!(ran.values.len() as u64, at);
            let stopped = matches!(&ran.result, Err(RunError::Stopped { stage, .. }) if stage == "operator");
            prop_assert!(stopped, "{:?}", ran.result);
            prop_assert_eq!(ran.snapshot.stage("operator").unwrap().counts.outcome(Kind::Failed), 1);
        }
    }

    #[test]
    fn take_and_skip(case in cases(), count in 0..80_usize) {
        let ran = judge(
            &case,
            |flow| flow.take(count),
            |input, _| input.iter().copied().take(count).collect(),
        )?;
        let counts = &ran.snapshot.stage("operator").unwrap().counts;
        prop_assert!(counts.entered <= count as u64, "it asked for more than it hands on");
        if case.cancels_after.is_none() && count < case.reaches() {
            prop_assert!(ran.result.is_ok());
            let total = ran.snapshot.total();
            prop_assert_eq!(total.outcome(Kind::Delivered), count as u64);
            prop_assert_eq!(total.outcome(Kind::Cancelled), total.entered - count as u64);
        }
        judge(
            &case,
            |flow| flow.skip(count),
            |input, _| input.iter().copied().skip(count).collect(),
        )?;
    }

    #[test]
    fn aggregate(case in cases()) {
        let ran = judge(
            &case,
            |flow| flow.aggregate((0, 0), |(sum, count), n| { *sum += n; *count += 1; }),
            |input, completed| {
                let all = (input.iter().sum::<u64>(), input.len());
                completed.then_some(all).into_iter().collect()
            },
        )?;
        prop_assert_eq!(ran.snapshot.total().outcome(Kind::Delivered), case.reaches() as u64);
    }

    #[test]
    fn grouped(case in cases(), size in 1..20_usize) {
        let ran = judge(
            &case,
            |flow| flow.grouped(size),
            |input, _| epochs(&case, input)
                .into_iter()
                .flat_map(|epoch| epoch.chunks(size).map(<[u64]>::to_vec))
                .collect(),
        )?;
        prop_assert!(held_peak(&ran) <= size as u64, "held {}", held_peak(&ran));
    }

    #[test]
    fn grouped_within_by_number_and_bytes(case in cases(), size in 1..20_usize, bytes in 1..80_u64) {
        // Its time is never up here: what time does is tested where time is simulated.
        let limits = BatchLimits::new(size, Duration::from_hours(1)).bytes(bytes);
        let weight = |n: &u64| if n.is_multiple_of(23) { 8 } else { n % 23 };
        let ran = judge(
            &case,
            |flow| flow.grouped_within(limits),
            |input, _| {
                let mut groups: Vec<Vec<u64>> = Vec::new();
                for epoch in epochs(&case, input) {
                    let mut group: Vec<u64> = Vec::new();
                    for n in epoch {
                        let sum: u64 = group.iter().map(weight).sum();
                        if !group.is_empty() && (group.len() == size || sum + weight(n) > bytes) {
                            groups.push(std::mem::take(&mut group));
                        }
                        group.push(*n);
                    }
                    groups.extend((!group.is_empty()).then_some(group));
                }
                groups
            },
        )?;
        prop_assert!(held_peak(&ran) <= 2 * size as u64, "held {}", held_peak(&ran));
        if case.cancels_after.is_none() {
            prop_assert_eq!(ran.snapshot.total().outcome(Kind::Delivered), case.reaches() as u64);
        }
    }

    #[test]
    fn classify_weigh_and_deadlines(case in cases()) {
        let class = |n: &u64| match n % 3 { 0 => Class::HIGH, 1 => Class::MEDIUM, _ => Class::LOW };
        let ran = judge(
            &case,
            |flow| flow.classify(move |n| { panic_unless(n % 17 != 4); class(n) }),
            |input, _| input.iter().copied().filter(|n| n % 17 != 4).collect(),
        )?;
        if case.cancels_after.is_none() {
            let total = ran.snapshot.total();
            for (index, name) in [Class::HIGH, Class::MEDIUM, Class::LOW].iter().enumerate() {
                let expected = ran.values.iter().filter(|n| class(n) == *name).count() as u64;
                prop_assert_eq!(total.classes[index].total(), expected);
            }
        }
        judge(
            &case,
            |flow| flow.weigh(|n| { panic_unless(n % 17 != 4); n % 31 }),
            |input, _| input.iter().copied().filter(|n| n % 17 != 4).collect(),
        )?;
        let ran = judge(
            &case,
            |flow| {
                let late = |n: &u64| {
                    panic_unless(n % 17 != 4);
                    n.is_multiple_of(2).then_some(Duration::ZERO)
                };
                flow.deadline_by(late).deadline(Duration::from_hours(1)).expire()
            },
            |input, _| input.iter().copied().filter(|n| n % 17 != 4 && n % 2 == 1).collect(),
        )?;
        if case.cancels_after.is_none() {
            let late = (0..case.reaches() as u64).filter(|n| n % 2 == 0 && n % 17 != 4).count();
            prop_assert_eq!(ran.snapshot.total().outcome(Kind::Expired), late as u64);
        }
    }

    /// All of them in a row: what one holds does not upset another.
    #[test]
    fn a_chain_of_them(case in cases(), size in 1..9_usize) {
        judge(
            &case,
            |flow| flow
                .filter(|n| n % 5 != 0)
                .map_concat(|n| vec![n; (n % 4) as usize])
                .stateful_map(0, |count, n| { *count += 1; (*count, n) })
                .map_in_place(|(count, _)| *count += 1)
                .filter_map(|(count, n)| (n % 3 != 0).then_some(count))
                .skip(2)
                .scan(0_u64, |sum, n| *sum = sum.wrapping_mul(31) + n)
                .weigh(|n| n % 7)
                .take(90)
                .grouped(size)
                .map_concat(|group| group)
                .inspect(|_| {}),
            |input, _| {
                let mut count = 0;
                let mut sum = 0_u64;
                input
                    .iter()
                    .copied()
                    .filter(|n| n % 5 != 0)
                    .flat_map(|n| vec![n; (n % 4) as usize])
                    .map(|n| { count += 1; (count + 1, n) })
                    .filter_map(|(count, n)| (n % 3 != 0).then_some(count))
                    .skip(2)
                    .map(|n| { sum = sum.wrapping_mul(31) + n; sum })
                    .take(90)
                    .collect()
            },
        )?;
    }
}

/// Fails an element the first time it sees one of those numbers, and delivers all others.
struct Fussy<T, F> {
    fails: Vec<u64>,
    numbers: F,
    asked: usize,
    random: Random,
    delivered: Arc<Mutex<Vec<T>>>,
}

impl<T: Send, F: Fn(&T) -> Vec<u64> + Send> Sink<T> for Fussy<T, F> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        if self.random.below(3) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.asked = 1 + self.random.below(9) as usize;
        Poll::Ready(Ok(Some(Demand::items(self.asked))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for element in chunk.drain() {
            let numbers = (self.numbers)(&element.value);
            if let Some(at) = self.fails.iter().position(|n| numbers.contains(n)) {
                self.fails.remove(at);
                cx.settle(element.meta, Outcome::Failed(Reason::Error));
            } else {
                cx.settle(element.meta, Outcome::Delivered);
                self.delivered.lock().unwrap().push(element.value);
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

fn rewound<U: Send + 'static>(
    seed: u64,
    fails: &[u64],
    operator: impl FnOnce(Flow<u64>) -> Flow<U>,
    numbers: impl Fn(&U) -> Vec<u64> + Copy + Send + 'static,
) -> Result<(), TestCaseError> {
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let flow = replay(0..100).on_unresolved(Answer::Rewind).window(40);
    let random = Random(seed);
    let chops = random.clone();
    let flow = flow.stage("choppy", move |input| Choppy {
        input,
        random: chops,
        left: usize::MAX,
    });
    let sink = Fussy {
        fails: fails.to_vec(),
        numbers,
        asked: 0,
        random,
        delivered: Arc::clone(&delivered),
    };
    let pipeline = operator(flow).to(sink);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let snapshot = runtime.block_on(async move {
        let mut running = pipeline.run().unwrap();
        let result = tokio::time::timeout(Duration::from_secs(20), running.join()).await;
        result.expect("the run came to a halt").unwrap();
        running.snapshot()
    });
    if let Err(found) = snapshot.check() {
        return Err(TestCaseError::fail(format!("{found:?}\n{snapshot}")));
    }
    let mut all: Vec<u64> = delivered.lock().unwrap().iter().flat_map(numbers).collect();
    all.sort_unstable();
    all.dedup();
    prop_assert_eq!(
        all,
        (0..100).collect::<Vec<_>>(),
        "each is delivered, some twice"
    );
    prop_assert!(snapshot.total().replayed >= 1 || fails.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_rewind_reaches_what_is_held(
        seed in any::<u64>(),
        // The third rewind to one place would stop the run, as it must.
        fails in proptest::collection::btree_set(0..100_u64, 0..3),
        size in 1..12_usize,
    ) {
        let fails: Vec<u64> = fails.into_iter().collect();
        let long = Duration::from_hours(1);
        rewound(seed, &fails, |flow| flow.grouped(size), Vec::clone)?;
        rewound(seed, &fails, |flow| flow.grouped_within((size, long)), Vec::clone)?;
        rewound(
            seed,
            &fails,
            |flow| flow.weigh(|n| n % 7 + 1).grouped_within(BatchLimits::new(size, long).bytes(9)),
            Vec::clone,
        )?;
        rewound(seed, &fails, |flow| flow.map_concat(|n| [n, n, n]), |n| vec![*n])?;
        rewound(seed, &fails, |flow| flow.map_in_place(|_| {}).filter(|_| true), |n| vec![*n])?;
    }
}

#[test]
fn a_rewind_rebuilds_the_state() {
    let rebuilt = Arc::new(Mutex::new(0));
    let count = Arc::clone(&rebuilt);
    rewound(
        7,
        &[20, 60],
        move |flow| {
            flow.stateful_map_with_rebuild(
                0_u64,
                |seen, n| {
                    *seen += 1;
                    n
                },
                move |seen, _| {
                    *seen = 0;
                    *count.lock().unwrap() += 1;
                },
            )
        },
        |n| vec![*n],
    )
    .unwrap();
    assert_eq!(
        *rebuilt.lock().unwrap(),
        2,
        "once for each time the source went back"
    );
}

#[test]
fn what_cannot_keep_a_guarantee_is_refused_by_name() {
    let refused = |flow: Flow<u64>, guarantee| {
        let error = flow
            .named("culprit")
            .ignore()
            .guarantee(guarantee)
            .block_on()
            .unwrap_err();
        assert!(error.to_string().contains("culprit"), "{error}");
    };
    let numbers = || replay(0..9);
    refused(
        numbers().aggregate(0, |sum, n| *sum += n),
        Guarantee::AtLeastOnce,
    );
    refused(
        numbers().deadline(Duration::ZERO).expire(),
        Guarantee::AtLeastOnce,
    );
    refused(
        numbers().scan(0, |sum, n| *sum += n),
        Guarantee::ExactlyOnce,
    );
    refused(numbers().stateful_map(0, |_, n| n), Guarantee::ExactlyOnce);
    refused(numbers().take(3), Guarantee::ExactlyOnce);
    refused(numbers().skip(3), Guarantee::ExactlyOnce);
    let kept = numbers()
        .stateful_map_with_rebuild(0, |_, n| n, |_, _| {})
        .grouped(4);
    assert_eq!(
        kept.collect()
            .guarantee(Guarantee::AtLeastOnce)
            .block_on()
            .unwrap()
            .len(),
        3
    );
    let error = numbers().grouped(0).ignore().block_on().unwrap_err();
    assert!(error.to_string().contains("grouped"), "{error}");
}

#[test]
fn a_group_larger_than_the_window_of_its_source_is_refused() {
    let numbers = || replay(0..90).window(40);
    let refused = numbers()
        .map(|n| n)
        .buffer(10)
        .grouped(41)
        .named("culprit")
        .ignore()
        .block_on();
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("culprit") && error.contains("replay"),
        "{error}"
    );
    for fits in [
        numbers().grouped(40),
        numbers().barrier_every(40).grouped(41),
        numbers().untracked().grouped(41),
        numbers().map_concat(|n| [n, n]).grouped(41),
    ] {
        assert!(!fits.collect().block_on().unwrap().is_empty());
    }
}

/// One thread, an endless source, and a part that lets nothing through: an abort must get through.
fn lets_others_run(part: impl FnOnce(Flow<u64>) -> Flow<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = part(source::iter(0_u64..)).ignore().run().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        running.abort().await;
        running.snapshot().check().unwrap();
    });
}

#[test]
fn a_stage_that_leaves_everything_out_lets_others_run() {
    lets_others_run(|flow| flow.filter(|_| false));
    lets_others_run(|flow| flow.filter_map(|_| None));
    lets_others_run(|flow| flow.map_concat(|_| []));
    lets_others_run(|flow| flow.skip(usize::MAX));
    lets_others_run(|flow| flow.aggregate(0, |sum: &mut u64, n| *sum ^= n));
    lets_others_run(|flow| flow.try_map(|_| Err::<u64, _>("none")).or_discard());
    lets_others_run(|flow| flow.deadline(Duration::ZERO).expire());
    lets_others_run(|flow| flow.divert_to(4, |_| true, |side| side.take(0).ignore()));
    lets_others_run(|flow| flow.group_by(4, |n| n % 2, |_, group| group.take(0)));
    lets_others_run(|flow| flow.group_by(4, |n| n % 2, |_, group| group.filter(|_| false)));
}

#[test]
fn a_stage_whose_closure_always_panics_lets_others_run() {
    fn never(n: u64) -> u64 {
        panic_unless(n == u64::MAX);
        n
    }
    lets_others_run(|flow| flow.map(never));
    lets_others_run(|flow| flow.map_in_place(|n| *n = never(*n)));
    lets_others_run(|flow| flow.filter(|n| never(*n) > 0));
    lets_others_run(|flow| flow.map_concat(|n| Some(never(n))));
    lets_others_run(|flow| flow.weigh(|n| never(*n)));
    lets_others_run(|flow| flow.map_async(4, |n| async move { never(n) }));
    lets_others_run(|flow| flow.map_async_unordered(4, |n| async move { never(n) }));
    lets_others_run(|flow| flow.map_async_keyed(4, |n| never(*n), |n| async move { n }));
    lets_others_run(|flow| flow.map_parallel(2, never));
    lets_others_run(|flow| {
        flow.try_map(|n| Ok::<_, std::fmt::Error>(never(*n)))
            .or_stop()
    });
    lets_others_run(|flow| {
        let (left, right) = flow.divert(4, |n| never(*n) > 0);
        left.merge([right])
    });
    lets_others_run(|flow| {
        let [left, right] = flow.partition(4, |n| never(*n) as usize);
        left.merge([right])
    });
    lets_others_run(|flow| flow.group_by(4, |n| never(*n), |_, group| group));
}

#[test]
fn a_flow_that_is_built_anew_without_a_wait_lets_others_run() {
    let at_once = || Restart::backoff(Duration::ZERO, Duration::ZERO);
    lets_others_run(|flow| {
        flow.filter(|_| false)
            .merge([restarting(at_once().on_completion(), |_| source::iter([]))])
    });
    lets_others_run(|flow| {
        flow.filter(|_| false)
            .merge([restarting(at_once(), |_| source::failed("always"))])
    });
}
