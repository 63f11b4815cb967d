//! What is in a queue, and who makes way when it is full: in order of arrival, or by class.

use std::collections::VecDeque;
use std::time::Duration;

use crate::boundary::{Buffer, WhenFull};
use crate::chunk::Meta;
use crate::class::Class;
use crate::control::{self, Evicted, OfferRefusal, PriorityQueue};
use crate::outcome::Reason;
use crate::time::Time;

/// What is in a queue.
#[allow(clippy::large_enum_variant)] // there is one a queue, and it stays where it is
pub(super) enum Store<T> {
    InOrder {
        buffer: Buffer,
        values: VecDeque<(T, Meta)>,
        bytes: u64,
    },
    ByClass(Box<PriorityQueue<(T, Meta)>>),
}

/// What became of a value that was to be put in.
pub(super) enum Put<T> {
    In,
    /// It is to wait until then at most.
    Wait(T, Meta, Time),
    Refused(T, Meta, Reason),
    /// It was full, and is to fail then.
    Overflow(T, Meta),
}

/// A value that was in the queue and made way.
pub(super) type MadeWay<T> = (T, Meta, Reason);

impl<T> Store<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Store::InOrder { values, .. } => values.len(),
            Store::ByClass(queue) => queue.len(),
        }
    }

    /// Whether a value of that class with that many bytes fits now without anything making way.
    pub(super) fn has_room(&self, class: Class, more: u64) -> bool {
        match self {
            Store::InOrder {
                buffer,
                values,
                bytes,
            } => {
                let fits = values.is_empty()
                    || buffer.capacity_bytes() == u64::MAX
                    || *bytes + more <= buffer.capacity_bytes();
                values.len() < buffer.capacity() && fits
            }
            Store::ByClass(queue) => queue.has_room(class, more),
        }
    }

    /// In which order offers are let in that wait: 0 before 1.
    pub(super) fn rank(&self, class: Class) -> usize {
        match self {
            Store::InOrder { .. } => 0,
            Store::ByClass(_) => class.index(),
        }
    }

    /// How long a value of that class waits at most, if it does: it passes nobody who waits already.
    pub(super) fn longest_wait(&self, class: Class) -> Option<Duration> {
        match self {
            Store::InOrder { buffer, .. } => {
                (buffer.policy() == WhenFull::Backpressure).then_some(Duration::MAX)
            }
            Store::ByClass(queue) => queue.settings().longest_wait(class),
        }
    }

    /// Puts a value in, or says why not. What made way for it is added to `out`.
    pub(super) fn put(
        &mut self,
        now: Time,
        value: T,
        meta: Meta,
        out: &mut Vec<MadeWay<T>>,
    ) -> Put<T> {
        let has_room = self.has_room(meta.class.unwrap_or_default(), meta.bytes);
        match self {
            Store::InOrder {
                buffer,
                values,
                bytes,
            } => {
                let policy = buffer.policy();
                match policy {
                    _ if has_room => {}
                    WhenFull::Backpressure => return Put::Wait(value, meta, Time::MAX),
                    WhenFull::DropNew => return Put::Refused(value, meta, Reason::DropNew),
                    WhenFull::Fail => return Put::Overflow(value, meta),
                    WhenFull::DropHead | WhenFull::DropTail | WhenFull::DropBuffer => {
                        let full = |values: &VecDeque<_>, bytes: u64| {
                            values.len() >= buffer.capacity()
                                || (buffer.capacity_bytes() != u64::MAX
                                    && bytes + meta.bytes > buffer.capacity_bytes())
                        };
                        while !values.is_empty()
                            && (policy == WhenFull::DropBuffer || full(values, *bytes))
                        {
                            let given_up = match policy {
                                WhenFull::DropTail => values.pop_back(),
                                _ => values.pop_front(),
                            };
                            if let Some((value, meta)) = given_up {
                                *bytes -= meta.bytes;
                                out.push((value, meta, policy.reason()));
                            }
                        }
                    }
                }
                *bytes += meta.bytes;
                values.push_back((value, meta));
                Put::In
            }
            Store::ByClass(queue) => {
                let class = meta.class.unwrap_or_default();
                let offer = control::Offer::new(class, meta.bytes, meta.since);
                let mut evicted = Vec::new();
                let placed = queue.offer(now, offer, (value, meta), &mut evicted);
                out.extend(evicted.into_iter().map(|Evicted { entry, .. }| {
                    let (value, meta) = entry.payload;
                    (value, meta, Reason::Evicted)
                }));
                match placed {
                    control::Placed::Queued => Put::In,
                    control::Placed::Wait((value, meta), until) => Put::Wait(value, meta, until),
                    control::Placed::Refused((value, meta), OfferRefusal::TimedOut) => {
                        Put::Refused(value, meta, Reason::TimedOut)
                    }
                    control::Placed::Refused((value, meta), OfferRefusal::NoRoom)
                    | control::Placed::Defer((value, meta))
                    | control::Placed::Divert((value, meta)) => {
                        Put::Refused(value, meta, Reason::NoRoom)
                    }
                }
            }
        }
    }

    /// Takes the next value out, if it has no more than so many bytes.
    pub(super) fn take(&mut self, now: Time, most: u64) -> Option<(T, Meta)> {
        match self {
            Store::InOrder { values, bytes, .. } => {
                if values.front().is_some_and(|(_, meta)| meta.bytes > most) {
                    return None;
                }
                let taken = values.pop_front()?;
                *bytes -= taken.1.bytes;
                Some(taken)
            }
            Store::ByClass(queue) => {
                if most != u64::MAX && queue.peek(now).is_some_and(|next| next.bytes > most) {
                    return None;
                }
                queue.pop(now).map(|served| served.entry.payload)
            }
        }
    }

    /// Takes all values out.
    pub(super) fn take_all(&mut self) -> Vec<(T, Meta)> {
        match self {
            Store::InOrder { values, bytes, .. } => {
                *bytes = 0;
                values.drain(..).collect()
            }
            Store::ByClass(queue) => {
                let all = queue.remove(|_| true);
                all.into_iter().map(|entry| entry.payload).collect()
            }
        }
    }
}
