//! What belongs to one element besides its value.

use std::sync::Arc;

use super::column::Cell;
use super::origin::{Origin, TraceContext};
use crate::class::Class;
use crate::receipt::Receipt;
use crate::time::Time;

/// The receipt of one element and its attributes. An attribute that was never given has a default
/// that says so.
#[derive(Debug)]
pub struct Meta {
    /// What must be told how it ended.
    pub receipt: Receipt,
    /// Its class, once something gave it one.
    pub class: Option<Class>,
    /// When it stops being of use; [`Time::MAX`] if never.
    pub deadline: Time,
    /// When its source took it in; [`Time::MAX`] if not known.
    pub since: Time,
    /// Its weight in bytes; 0 if it was never weighed.
    pub bytes: u64,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// Its trace.
    pub trace: Option<Arc<TraceContext>>,
}

impl Default for Meta {
    fn default() -> Self {
        Meta {
            receipt: Receipt::none(),
            class: None,
            deadline: Time::MAX,
            since: Time::MAX,
            bytes: 0,
            origin: None,
            trace: None,
        }
    }
}

impl Meta {
    /// The meta of a part split off this element: the same attributes, a fork of the receipt.
    pub(crate) fn part(&mut self) -> Meta {
        Meta {
            receipt: self.receipt.fork(),
            ..self.attributes()
        }
    }

    /// The attributes alone.
    pub(crate) fn attributes(&self) -> Meta {
        Meta {
            receipt: Receipt::none(),
            class: self.class,
            deadline: self.deadline,
            since: self.since,
            bytes: self.bytes,
            origin: self.origin.clone(),
            trace: self.trace.clone(),
        }
    }

    /// The meta of an element merged from several: the highest class, the earliest deadline, the
    /// oldest since, the summed bytes, origins in order, the first trace with links to the rest.
    pub(crate) fn merge(parts: Vec<Meta>) -> Meta {
        let mut whole = Meta::default();
        let mut origins = Vec::new();
        let mut traces: Vec<Arc<TraceContext>> = Vec::new();
        let mut receipts = Vec::with_capacity(parts.len());
        for part in parts {
            whole.absorb(part.class, part.deadline, part.since, part.bytes);
            origins.extend(part.origin);
            traces.extend(part.trace);
            receipts.push(part.receipt);
        }
        whole.receipt = Receipt::group(receipts);
        whole.origin = join_origins(origins);
        whole.trace = join_traces(traces);
        whole
    }

    pub(super) fn absorb(&mut self, class: Option<Class>, deadline: Time, since: Time, bytes: u64) {
        self.class = match (self.class, class) {
            (Some(mine), Some(other)) => Some(mine.min(other)),
            (mine, other) => mine.or(other),
        };
        self.deadline = self.deadline.min(deadline);
        self.since = self.since.min(since);
        self.bytes += bytes;
    }
}

pub(super) fn join_origins(mut origins: Vec<Origin>) -> Option<Origin> {
    match origins.len() {
        0 | 1 => origins.pop(),
        _ => Some(Origin::many(origins)),
    }
}

pub(super) fn join_traces(mut traces: Vec<Arc<TraceContext>>) -> Option<Arc<TraceContext>> {
    traces.dedup_by(|a, b| Arc::ptr_eq(a, b));
    match traces.len() {
        0 | 1 => traces.pop(),
        _ => {
            let mut first = TraceContext::clone(&traces[0]);
            for rest in &traces[1..] {
                first.links.push((rest.trace_id, rest.span_id));
                first.links.extend(&rest.links);
            }
            Some(Arc::new(first))
        }
    }
}

impl Cell for Option<Class> {
    fn absent() -> Self {
        None
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Cell for Time {
    fn absent() -> Self {
        Time::MAX
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Cell for u64 {
    fn absent() -> Self {
        0
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl<S> Cell for Option<Arc<S>> {
    fn absent() -> Self {
        None
    }
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        }
    }
}

/// A value and what belongs to it.
#[derive(Debug, Default)]
pub struct Element<T> {
    /// The value users see.
    pub value: T,
    /// Receipt and attributes.
    pub meta: Meta,
}

impl<T> Element<T> {
    /// An untracked element without attributes.
    pub fn new(value: T) -> Element<T> {
        Element {
            value,
            meta: Meta::default(),
        }
    }
}
