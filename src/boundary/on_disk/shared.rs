//! What the two sides of a buffer on disk know of each other.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::DiskSnapshot;
use super::error::DiskError;
use super::files::Wrote;
use super::place::{Found, Place, Segment};
use super::settled::{DiskPosition, Settled};
use crate::boundary::bell::{Bell, Place as Waits};
use crate::boundary::link::Link;
use crate::error::Stop;
use crate::operator::Control;
use crate::outcome::Reason;
use crate::sync::{WakeLock, wake_lock};

pub(super) struct Shared {
    pub(super) place: Arc<Place>,
    state: Mutex<State>,
}

pub(super) struct State {
    /// Oldest first; the last one is being written to.
    segments: VecDeque<Segment>,
    /// The number of the next record to be written.
    next: u64,
    settled: Settled,
    seen: DiskSnapshot,
    /// The files are as long as they may be, and more is to be written.
    is_short: bool,
    /// More is settled than was saved.
    is_unsaved: bool,
    /// Files that are settled whole are to be given up at once.
    is_wanted: bool,
    /// Of the task that saves.
    keeper: Option<Waker>,
    pub(super) link: Link,
}

impl State {
    /// Records that are there and not settled.
    pub(super) fn items(&self) -> u64 {
        let settled = self.settled.base.next + self.settled.above();
        self.next.saturating_sub(settled)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// The length of the file that is being written to; 0 if there is none.
    pub(super) fn newest_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.len)
    }

    pub(super) fn settled(&self) -> &Settled {
        &self.settled
    }
}

/// Who waits there, if somebody does.
fn ring(place: &mut Waits, always: bool) -> Option<Waker> {
    let mut bell = Bell::default();
    if !bell.is_waited_at(place) && always {
        bell.follow(place);
    }
    bell.into_waker()
}

impl Shared {
    pub(super) fn new(place: Arc<Place>, found: Found) -> Shared {
        Shared {
            place,
            state: Mutex::new(State {
                segments: found.segments.into(),
                next: found.next,
                settled: found.settled,
                seen: DiskSnapshot::default(),
                is_short: false,
                is_unsaved: false,
                is_wanted: false,
                keeper: None,
                link: Link::default(),
            }),
        }
    }

    pub(super) fn lock(&self) -> WakeLock<'_, State> {
        wake_lock(&self.state)
    }

    /// The writer has written: the reader may read it.
    pub(super) fn wrote(&self, wrote: Wrote, records: usize) {
        let mut state = self.lock();
        if wrote.anew {
            state.segments.clear();
        }
        for segment in wrote.segments {
            match state.segments.back_mut() {
                Some(last) if last.first == segment.first => *last = segment,
                _ => state.segments.push_back(segment),
            }
        }
        state.next = wrote.next;
        state.seen.written += records as u64;
        state.seen.syncs += u64::from(wrote.synced);
        let bytes = state.bytes();
        state.seen.peak_bytes = state.seen.peak_bytes.max(bytes);
        let items = state.items();
        state.seen.peak_items = state.seen.peak_items.max(items);
        let consumer = ring(&mut state.link.consumer, false);
        state.wake(consumer);
    }

    /// Records were refused, because there was no room.
    pub(super) fn refused(&self, records: usize) {
        self.lock().seen.refused += records as u64;
    }

    /// The reader came upon damage.
    pub(super) fn damaged(&self, records: u64, bytes: u64) {
        let mut state = self.lock();
        state.seen.damages += 1;
        state.seen.lost_records += records;
        state.seen.damaged_bytes += bytes;
    }

    /// The files are as long as they may be: what is settled whole is to be given up.
    pub(super) fn want_room(state: &mut WakeLock<'_, State>) {
        let next = state.settled.base.next;
        let second = state.segments.get(1);
        let some = second.is_some_and(|second| second.first <= next);
        state.is_short = !some;
        if some {
            state.is_wanted = true;
            let keeper = state.keeper.take();
            state.wake(keeper);
        }
    }

    /// More is settled: there may be room.
    pub(super) fn settle(&self, base: DiskPosition, done: Option<Settled>) {
        let mut state = self.lock();
        if base.next < state.settled.base.next {
            return;
        }
        let before = state.items();
        let changed = match done {
            Some(settled) => {
                let changed = settled != state.settled;
                state.settled = settled;
                changed
            }
            None => {
                let changed = base.next != state.settled.base.next;
                state.settled.base = base;
                changed
            }
        };
        if changed {
            state.is_unsaved = true;
            let keeper = state.keeper.take();
            state.wake(keeper);
        }
        if state.is_short {
            Shared::want_room(&mut state);
        }
        if state.items() < before || state.items() == 0 {
            let producer = ring(&mut state.link.producer, false);
            state.wake(producer);
        }
    }

    /// Whether there is something to be saved in a while, and whether at once; else the task is woken
    /// when there is.
    pub(super) fn keeps(&self, keeper: &Waker) -> (bool, bool) {
        let mut state = self.lock();
        state.keeper = Some(keeper.clone());
        (state.is_unsaved, state.is_wanted)
    }

    /// Saves how far all is settled, and gives up the files that nothing is wanted of any more. On a
    /// thread that may block.
    pub(super) fn save(&self, sync: bool) -> Result<(), DiskError> {
        let (settled, gone) = {
            let mut state = self.lock();
            (state.is_unsaved, state.is_wanted) = (false, false);
            let next = state.settled.base.next;
            let all_but_last = state.segments.len().saturating_sub(1);
            let segments = state.segments.iter().take(all_but_last);
            let gone: Vec<Segment> = segments
                .take_while(|segment| segment.next <= next)
                .cloned()
                .collect();
            (state.settled.clone(), gone)
        };
        self.place.save(&settled, sync)?;
        if gone.is_empty() {
            return Ok(());
        }
        for segment in &gone {
            match fs::remove_file(&segment.path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.map_err(DiskError::io("remove", &segment.path))?,
            }
        }
        let mut state = self.lock();
        let is_gone = |segment: &Segment| gone.iter().any(|gone| gone.first == segment.first);
        state.segments.retain(|segment| !is_gone(segment));
        let producer = ring(&mut state.link.producer, false);
        state.wake(producer);
        Ok(())
    }

    /// The file with that first number, or the one after it.
    pub(super) fn segment(state: &State, first: u64, after: bool) -> Option<Segment> {
        let fits =
            |segment: &&Segment| segment.first == first && !after || segment.first > first && after;
        state.segments.iter().find(fits).cloned()
    }

    /// Where a file lies, for messages.
    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.place.file(first)
    }

    /// The writer ends.
    pub(super) fn end(&self, stop: Option<Stop>) {
        let mut state = self.lock();
        state.link.end(stop);
        let consumer = ring(&mut state.link.consumer, false);
        state.wake(consumer);
    }

    /// The reader leaves.
    pub(super) fn cancel(&self, why: Option<Reason>) {
        let mut state = self.lock();
        state.link.cancel(why);
        let producer = ring(&mut state.link.producer, true);
        state.wake(producer);
    }

    /// A message for upstream.
    pub(super) fn send(&self, control: Control) {
        let mut state = self.lock();
        state.link.send(control);
        let producer = ring(&mut state.link.producer, true);
        state.wake(producer);
    }

    pub(super) fn snapshot(&self) -> DiskSnapshot {
        let state = self.lock();
        DiskSnapshot {
            items: state.items(),
            bytes: state.bytes(),
            files: state.segments.len(),
            ..state.seen
        }
    }
}
