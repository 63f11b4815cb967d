//! How it hands over what waits, one partition after the other.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::ConsumerStage;
use crate::chunk::{Chunk, Originals};
use crate::kafka::consumer::partition::{Due, Partition};
use crate::kafka::consumer::shared::State;
use crate::kafka::record::{Batch, Record, TopicPartition};
use crate::operator::{Context, Demand};
use crate::time;

impl ConsumerStage {
    /// Hands over what waits of one partition, in turn: a tracker numbers a whole chunk.
    pub(super) fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        state: &mut State,
        out: &mut Chunk<Record>,
        want: Demand,
    ) {
        let capacity = self.shared.settings.hand_over;
        let mut tried = BTreeSet::new();
        let due = self.shared.settings.until_due.map(|longest_ms| Due {
            now_ms: now_ms(cx),
            longest_ms,
        });
        let is_due = |partition: &Partition| {
            due.is_none_or(|due| {
                let first = partition.due_ms(due.longest_ms);
                first.is_none_or(|first| first <= due.now_ms)
            })
        };
        loop {
            let mut behind = state
                .partitions
                .iter()
                .filter(|(at, partition)| {
                    partition.lane == self.lane
                        && partition.gives()
                        && !tried.contains(*at)
                        && is_due(partition)
                })
                .map(|(at, _)| at);
            let next = match &self.last {
                Some(last) => {
                    let all: Vec<&TopicPartition> = behind.collect();
                    all.iter()
                        .find(|at| **at > last)
                        .or(all.first())
                        .map(|at| (**at).clone())
                }
                None => behind.next().cloned(),
            };
            let Some(next) = next else {
                return;
            };
            let Some(partition) = state.partitions.get_mut(&next) else {
                return;
            };
            let Poll::Ready(credit) = partition.tracker.poll_credit(cx.task()) else {
                tried.insert(next);
                continue;
            };
            let mut offsets = Vec::with_capacity(want.items.min(partition.queued()));
            let count = want.items.min(credit);
            partition.pop(count, want.bytes, due, |record| {
                offsets.push(record.offset());
                out.push_value(record);
            });
            if self.shared.settings.origin {
                out.columns.originate(&origins(&out.values));
            }
            out.columns.weigh(out.values.iter().map(Record::weight));
            self.since_barrier += offsets.len();
            partition.handed(cx.now(), offsets.len() as u64);
            // Under the lock: a revocation comes wholly before or wholly after.
            cx.track(out, &partition.tracker, offsets);
            if partition.is_short && partition.room(capacity) >= capacity.div_ceil(2) {
                partition.is_short = false;
                state.unpark();
            }
            self.last = Some(next);
            return;
        }
    }

    /// Has the task woken when the next record is due. Meanwhile its partition gives nothing; the others go
    /// on, and the client is polled.
    pub(super) fn wait_until_due(&mut self, cx: &mut Context<'_, '_>, state: &State) {
        let Some(longest_ms) = self.shared.settings.until_due else {
            return;
        };
        let now = now_ms(cx);
        let waiting = state
            .held_by(self.lane)
            .filter(|partition| partition.gives());
        let due = waiting
            .filter_map(|partition| partition.due_ms(longest_ms))
            .filter(|due| *due > now);
        self.next_due = due.min().map(|due| {
            let wait_ms = u64::try_from(due - now).unwrap_or(0);
            Box::pin(time::sleep_until(cx.now() + Duration::from_millis(wait_ms)))
        });
        if let Some(sleep) = &mut self.next_due
            && sleep.as_mut().poll(cx.task()).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }
}

/// Milliseconds since 1970.
fn now_ms(cx: &Context<'_, '_>) -> i64 {
    i64::try_from(time::since_1970(cx.now()).as_millis()).unwrap_or(i64::MAX)
}

/// The batches of these records, each with the places that follow one another in it.
fn origins<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> Vec<(Arc<dyn Originals>, Range<u32>)> {
    let mut all: Vec<(Arc<dyn Originals>, Range<u32>)> = Vec::new();
    for record in records {
        let (batch, place) = record.origin();
        if let Some((last, places)) = all.last_mut()
            && places.end == place
            && ptr::addr_eq(Arc::as_ptr(last), Arc::as_ptr(batch))
        {
            places.end += 1;
            continue;
        }
        let batch: Arc<dyn Originals> = Arc::<Batch>::clone(batch);
        all.push((batch, place..place + 1));
    }
    all
}
