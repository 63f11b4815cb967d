//! A source whose elements a test sends by hand.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::{PATIENCE, Watched, failed};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::flow::{Accounts, Flow};
use crate::operator::{Answer, Context, Control, Demand, Fill, Held, Operator};
use crate::outcome::{Kind, Outcome};
use crate::position::Tracker;
use crate::receipt::Receipt;

enum End {
    Complete,
    Error(String),
}

struct State<T> {
    queue: VecDeque<T>,
    end: Option<End>,
    /// How much is asked for and not yet there.
    asked: usize,
    outcomes: VecDeque<(u64, Outcome)>,
    cancelled: bool,
    drained: bool,
    waker: Option<Waker>,
}

/// The test's side of a source: see [`source_probe`].
pub struct SourceProbe<T> {
    shared: Arc<Watched<State<T>>>,
    patience: Duration,
}

impl<T> fmt::Debug for SourceProbe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("SourceProbe")
            .field("queued", &state.queue.len())
            .field("asked", &state.asked)
            .field("cancelled", &state.cancelled)
            .finish_non_exhaustive()
    }
}

/// A source whose elements a test sends, and which tells the test what was asked of it and how each
/// element ended.
///
/// ```
/// use forebay::outcome::Kind;
/// use forebay::testkit::{Simulation, sink_probe, source_probe};
///
/// let simulation = Simulation::new(1);
/// let (source, flow) = source_probe();
/// let (sink, end) = sink_probe();
/// let mut run = simulation.start(flow.filter(|n| n % 2 == 0).to(end))?;
///
/// sink.request(1);
/// assert!(source.expect_request() >= 1);
/// source.send([1, 2]);
/// sink.expect_next(2);
/// assert_eq!(source.expect_outcome(Kind::Filtered), 0);
/// assert_eq!(source.expect_outcome(Kind::Delivered), 1);
/// source.complete();
/// sink.expect_complete();
/// run.join()?;
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn source_probe<T: Send + 'static>() -> (SourceProbe<T>, Flow<T>) {
    let shared = Arc::new(Watched::new(State {
        queue: VecDeque::new(),
        end: None,
        asked: 0,
        outcomes: VecDeque::new(),
        cancelled: false,
        drained: false,
        waker: None,
    }));
    let mine = Arc::clone(&shared);
    let flow = Flow::from_operator("source_probe", move |accounts| ProbeSource {
        shared: mine,
        accounts,
        tracker: None,
        number: 0,
    })
    .on_unresolved(Answer::Continue);
    (
        SourceProbe {
            shared,
            patience: PATIENCE,
        },
        flow,
    )
}

impl<T> SourceProbe<T> {
    /// Waits that long for what it expects. Default: 3 s.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn tell(&self, change: impl FnOnce(&mut State<T>)) {
        let waker = self.shared.change(|state| {
            change(state);
            state.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has elements ready, to be handed over when they are asked for.
    pub fn send(&self, values: impl IntoIterator<Item = T>) {
        let values: Vec<T> = values.into_iter().collect();
        self.tell(|state| state.queue.extend(values));
    }

    /// Ends after what was sent.
    pub fn complete(&self) {
        self.tell(|state| state.end = Some(End::Complete));
    }

    /// Fails after what was sent.
    pub fn error(&self, message: impl Into<String>) {
        let message = message.into();
        self.tell(|state| state.end = Some(End::Error(message)));
    }

    /// Waits until elements are asked for that are not there, and says how many.
    #[track_caller]
    pub fn expect_request(&self) -> usize {
        match self.shared.wait(self.patience, |state| {
            (state.asked > 0).then_some(state.asked)
        }) {
            Some(asked) => asked,
            None => failed("source probe", "a request", "nothing was asked for"),
        }
    }

    /// Nothing is asked for, for that long.
    #[track_caller]
    pub fn expect_no_request(&self, span: Duration) {
        if let Some(asked) = self
            .shared
            .wait(span, |state| (state.asked > 0).then_some(state.asked))
        {
            failed(
                "source probe",
                "no request",
                &format!("{asked} elements were asked for"),
            );
        }
    }

    /// Waits until downstream wants no more.
    #[track_caller]
    pub fn expect_cancellation(&self) {
        if self
            .shared
            .wait(self.patience, |state| state.cancelled.then_some(()))
            .is_none()
        {
            failed("source probe", "a cancellation", "none came");
        }
    }

    /// Waits until the run was told to drain.
    #[track_caller]
    pub fn expect_drain(&self) {
        if self
            .shared
            .wait(self.patience, |state| state.drained.then_some(()))
            .is_none()
        {
            failed("source probe", "a drain", "none came");
        }
    }

    /// Waits until one more element has ended, which must be in that way; its number, from 0.
    #[track_caller]
    pub fn expect_outcome(&self, kind: Kind) -> u64 {
        match self
            .shared
            .wait(self.patience, |state| state.outcomes.pop_front())
        {
            Some((number, outcome)) if outcome.kind() == kind => number,
            Some((number, outcome)) => failed(
                "source probe",
                &format!("an element to end {}", kind.name()),
                &format!("element {number} ended {outcome}"),
            ),
            None => failed(
                "source probe",
                &format!("an element to end {}", kind.name()),
                "none ended",
            ),
        }
    }

    /// No element ends, for that long.
    #[track_caller]
    pub fn expect_no_outcome(&self, span: Duration) {
        if let Some((number, outcome)) = self
            .shared
            .wait(span, |state| state.outcomes.front().copied())
        {
            failed(
                "source probe",
                "no element to end",
                &format!("element {number} ended {outcome}"),
            );
        }
    }
}

/// The stage's side.
struct ProbeSource<T> {
    shared: Arc<Watched<State<T>>>,
    accounts: Accounts,
    /// Made when the run has started.
    tracker: Option<Tracker<u64>>,
    number: u64,
}

impl<T: Send + 'static> ProbeSource<T> {
    fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        tracker: &Tracker<u64>,
        values: Vec<T>,
    ) {
        let numbers = self.number..self.number + values.len() as u64;
        self.number = numbers.end;
        let mut chunk = Chunk::default();
        for value in values {
            chunk.push_value(value);
        }
        cx.track(&mut chunk, tracker, numbers.clone());
        for (mut element, number) in chunk.drain().zip(numbers) {
            let shared = Arc::clone(&self.shared);
            let told = Receipt::on_settle(move |outcome| {
                shared.change(|state| state.outcomes.push_back((number, outcome)));
            });
            let tracked = std::mem::take(&mut element.meta.receipt);
            element.meta.receipt = Receipt::group([tracked, told]);
            element.meta.since = cx.now();
            out.push(element);
        }
    }
}

impl<T: Send + 'static> Operator<T> for ProbeSource<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let tracker = self
            .tracker
            .get_or_insert_with(|| self.accounts.tracker())
            .clone();
        let room = match tracker.poll_credit(cx.task()) {
            std::task::Poll::Ready(credit) => want.items.min(credit),
            std::task::Poll::Pending => 0,
        };
        let values = self.shared.change(|state| {
            let count = room.min(state.queue.len());
            let values: Vec<T> = state.queue.drain(..count).collect();
            state.asked = if values.is_empty() { room } else { 0 };
            state.waker = Some(cx.waker().clone());
            values
        });
        if !values.is_empty() {
            self.hand_over(cx, out, &tracker, values);
            return Ok(Fill::More);
        }
        let mut state = self.shared.lock();
        if state.drained || state.queue.is_empty() && matches!(state.end, Some(End::Complete)) {
            return Ok(Fill::Done);
        }
        match state.end.take() {
            Some(End::Error(message)) if state.queue.is_empty() => Err(Stop::error(message)),
            end => {
                state.end = end;
                Ok(Fill::Pending)
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.shared.change(|state| match signal {
            Control::Cancel => state.cancelled = true,
            Control::Drain => state.drained = true,
            _ => {}
        });
        cx.waker().wake_by_ref();
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}
