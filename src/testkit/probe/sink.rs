//! A sink whose demand a test gives by hand.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{PATIENCE, Watched, failed};
use crate::chunk::{Chunk, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Held, Sink};
use crate::outcome::Outcome;

#[derive(Clone, Debug)]
enum End {
    Complete,
    Error(String),
    Abandoned,
}

struct State<T> {
    /// Asked for and not yet there.
    demand: usize,
    received: VecDeque<T>,
    marks: VecDeque<Mark>,
    end: Option<End>,
    cancel: bool,
    /// How the elements that are held end, oldest first.
    settlements: VecDeque<Outcome>,
    controls: VecDeque<Control>,
    waker: Option<Waker>,
}

/// The test's side of a sink: see [`sink_probe`].
pub struct SinkProbe<T> {
    shared: Arc<Watched<State<T>>>,
    patience: Duration,
}

impl<T> fmt::Debug for SinkProbe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("SinkProbe")
            .field("demand", &state.demand)
            .field("received", &state.received.len())
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

/// A sink that takes what the test asks for, and delivers it; with [`ProbeSink::by_hand`] the test
/// says how each element ends. See [`source_probe`](super::source_probe) for an example.
pub fn sink_probe<T: Send + 'static>() -> (SinkProbe<T>, ProbeSink<T>) {
    let shared = Arc::new(Watched::new(State {
        demand: 0,
        received: VecDeque::new(),
        marks: VecDeque::new(),
        end: None,
        cancel: false,
        settlements: VecDeque::new(),
        controls: VecDeque::new(),
        waker: None,
    }));
    let sink = ProbeSink {
        shared: Arc::clone(&shared),
        by_hand: false,
        open: VecDeque::new(),
    };
    (
        SinkProbe {
            shared,
            patience: PATIENCE,
        },
        sink,
    )
}

impl<T> SinkProbe<T> {
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

    /// Asks for that many elements more.
    pub fn request(&self, count: usize) {
        self.tell(|state| state.demand = state.demand.saturating_add(count));
    }

    /// Wants no more.
    pub fn cancel(&self) {
        self.tell(|state| state.cancel = true);
    }

    /// Sends a message upstream.
    pub fn control(&self, signal: Control) {
        self.tell(|state| state.controls.push_back(signal));
    }

    /// Settles the oldest elements that are held, one for each outcome: for a sink
    /// [`by_hand`](ProbeSink::by_hand).
    pub fn settle(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        let outcomes: Vec<Outcome> = outcomes.into_iter().collect();
        self.tell(|state| state.settlements.extend(outcomes));
    }

    /// Waits for an element, whatever it is.
    #[track_caller]
    pub fn expect_any(&self) -> T {
        let next = self
            .shared
            .wait(self.patience, |state| match state.received.pop_front() {
                Some(value) => Some(Ok(value)),
                None => state.end.clone().map(Err),
            });
        match next {
            Some(Ok(value)) => value,
            Some(Err(end)) => failed("sink probe", "an element", &said(&end)),
            None => failed("sink probe", "an element", "none came"),
        }
    }

    /// Waits for that many elements.
    #[track_caller]
    pub fn expect_any_n(&self, count: usize) -> Vec<T> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            values.push(self.expect_any());
        }
        values
    }

    /// No element, mark or end comes, for that long.
    #[track_caller]
    pub fn expect_no_message(&self, span: Duration)
    where
        T: fmt::Debug,
    {
        let came = self.shared.wait(span, |state| {
            let value = state
                .received
                .front()
                .map(|value| format!("{value:?} came"));
            let mark = state.marks.front().map(|mark| format!("{mark:?} came"));
            value.or(mark).or_else(|| state.end.as_ref().map(said))
        });
        if let Some(came) = came {
            failed("sink probe", "no message", &came);
        }
    }

    /// Waits for a mark.
    #[track_caller]
    pub fn expect_mark(&self) -> Mark {
        match self
            .shared
            .wait(self.patience, |state| state.marks.pop_front())
        {
            Some(mark) => mark,
            None => failed("sink probe", "a mark", "none came"),
        }
    }

    #[track_caller]
    fn expect_end(&self, expected: &str) -> End {
        let found = self.shared.wait(self.patience, |state| {
            if state.received.is_empty() {
                state.end.clone().map(Ok)
            } else {
                Some(Err(state.received.len()))
            }
        });
        match found {
            Some(Ok(end)) => end,
            Some(Err(count)) => failed(
                "sink probe",
                expected,
                &format!("{count} elements came first"),
            ),
            None => failed("sink probe", expected, "no end came"),
        }
    }

    /// Waits for the end, with no element before it.
    #[track_caller]
    pub fn expect_complete(&self) {
        match self.expect_end("the end") {
            End::Complete => {}
            end => failed("sink probe", "the end", &said(&end)),
        }
    }

    /// Waits for an error, with no element before it; its message.
    #[track_caller]
    pub fn expect_error(&self) -> String {
        match self.expect_end("an error") {
            End::Error(message) => message,
            end => failed("sink probe", "an error", &said(&end)),
        }
    }

    /// Waits until the run was ended from elsewhere, with no element before it.
    #[track_caller]
    pub fn expect_abandoned(&self) {
        match self.expect_end("to be abandoned") {
            End::Abandoned => {}
            end => failed("sink probe", "to be abandoned", &said(&end)),
        }
    }
}

impl<T: PartialEq + fmt::Debug> SinkProbe<T> {
    /// Waits for an element, which must be this one.
    #[track_caller]
    pub fn expect_next(&self, value: T) {
        let came = self.expect_any();
        if came != value {
            failed(
                "sink probe",
                &format!("{value:?}"),
                &format!("{came:?} came"),
            );
        }
    }

    /// Waits for these elements, in that order.
    #[track_caller]
    pub fn expect_next_n(&self, values: impl IntoIterator<Item = T>) {
        for value in values {
            self.expect_next(value);
        }
    }

    /// Waits for these elements, in any order.
    #[track_caller]
    pub fn expect_next_unordered(&self, values: impl IntoIterator<Item = T>) {
        let mut left: Vec<T> = values.into_iter().collect();
        while !left.is_empty() {
            let came = self.expect_any();
            match left.iter().position(|value| *value == came) {
                Some(place) => drop(left.swap_remove(place)),
                None => failed(
                    "sink probe",
                    &format!("one of {left:?}"),
                    &format!("{came:?} came"),
                ),
            }
        }
    }

    /// Asks for one element, and waits for it.
    #[track_caller]
    pub fn request_next(&self, value: T) {
        self.request(1);
        self.expect_next(value);
    }
}

fn said(end: &End) -> String {
    match end {
        End::Complete => "the flow completed".to_owned(),
        End::Error(message) => format!("the flow failed: {message}"),
        End::Abandoned => "the run was ended".to_owned(),
    }
}

/// The stage's side of a sink probe, for [`Flow::to`](crate::flow::Flow::to).
pub struct ProbeSink<T> {
    shared: Arc<Watched<State<T>>>,
    by_hand: bool,
    /// Taken and not yet settled, oldest first.
    open: VecDeque<Meta>,
}

impl<T> fmt::Debug for ProbeSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeSink")
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<T> ProbeSink<T> {
    /// Holds elements until the test settles them.
    #[must_use]
    pub fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    fn settle(&mut self, cx: &mut Context<'_, '_>) {
        let count = self.open.len();
        let settlements: Vec<Outcome> = self.shared.change(|state| {
            state.waker = Some(cx.waker().clone());
            let count = count.min(state.settlements.len());
            state.settlements.drain(..count).collect()
        });
        for (meta, outcome) in self.open.drain(..settlements.len()).zip(settlements) {
            cx.settle(meta, outcome);
        }
    }

    fn end(&self, end: End) {
        self.shared.change(|state| {
            state.end.get_or_insert(end);
        });
    }
}

impl<T: Send + 'static> Sink<T> for ProbeSink<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.settle(cx);
        let state = self.shared.lock();
        if state.cancel {
            return Poll::Ready(Ok(None));
        }
        match state.demand {
            0 => Poll::Pending,
            items => Poll::Ready(Ok(Some(Demand::items(items)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for element in chunk.drain() {
            if self.by_hand {
                self.open.push_back(element.meta);
            } else {
                cx.settle(element.meta, Outcome::Delivered);
            }
            self.shared.change(|state| {
                state.demand = state.demand.saturating_sub(1);
                state.received.push_back(element.value);
            });
        }
    }

    fn mark(&mut self, _: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.shared
            .change(|state| state.marks.push_back(mark.clone()));
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.settle(cx);
        self.end(End::Complete);
        if self.open.is_empty() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        let outcome = cx.leftover();
        for meta in self.open.drain(..) {
            cx.settle(meta, outcome);
        }
        self.end(stop.map_or(End::Abandoned, |stop| End::Error(stop.to_string())));
    }

    fn take_control(&mut self) -> Option<Control> {
        self.shared.lock().controls.pop_front()
    }

    fn held(&self) -> Held {
        Held::items(self.open.len())
    }
}
