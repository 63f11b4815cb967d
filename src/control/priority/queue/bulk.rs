//! Many elements in one step, for a boundary that moves chunks: what it asks comes to the same as if it
//! had asked for each.

use super::{PriorityQueue, oldest};
use crate::class::Class;
use crate::control::Turn;
use crate::control::priority::store::{Store, Stretch};
use crate::control::priority::{Entry, Victims};
use crate::time::Time;

impl<P, S: Store<P>> PriorityQueue<P, S> {
    /// Adds so many elements of each class with so many bytes, which [fit](Self::fits_all); `put` puts
    /// them into the lanes.
    pub(crate) fn add_all(
        &mut self,
        added: &[(usize, u64); Class::COUNT],
        put: impl FnOnce(&mut [S; Class::COUNT]),
    ) {
        put(&mut self.lanes);
        for (class, (count, bytes)) in added.iter().enumerate().filter(|(_, (n, _))| *n > 0) {
            self.came(class, *count, *bytes);
        }
        self.note_peak();
    }

    /// Whether all of them fit, so many of each class, without anything making way, and no order among
    /// all classes has to be kept.
    pub(crate) fn fits_all(&self, added: &[(usize, u64); Class::COUNT]) -> bool {
        if self.settings.victims == Victims::Oldest {
            return false;
        }
        let items: usize = added.iter().map(|(count, _)| count).sum();
        let bytes = added
            .iter()
            .fold(self.bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        if self.items + items > self.settings.items || bytes > self.settings.bytes {
            return false;
        }
        let Some(places) = &self.settings.places else {
            return true;
        };
        let mut held = 0;
        (0..Class::COUNT).rev().all(|class| {
            held += self.seen[class].items + added[class].0;
            held <= places[class] as usize
        })
    }

    /// The next turns that are alike: at most so many elements of one class that wait since the same
    /// time, the oldest first. `None` if there is nothing, or if the newest of a class is next.
    pub(crate) fn stretch(&self, now: Time, most: usize) -> Option<Stretch<'_, S>> {
        let since = |class| oldest(&self.lanes, class);
        let (turn, count) = self.scheduler.peek_run(now, self.waiting, most, since)?;
        let class = turn.class.index();
        let lane = &self.lanes[class];
        (!self.newest_first(class)).then(|| Stretch {
            turn,
            count: count.min(lane.alike()),
            since: lane.front().map_or(now, |front| front.since),
            lane,
        })
    }

    /// Takes those turns, as many as that; `take` takes the elements out of the front of their lane and
    /// says how many bytes they have.
    pub(crate) fn serve(&mut self, turn: Turn, count: usize, take: impl FnOnce(&mut S) -> u64) {
        self.scheduler.take(turn, count);
        let bytes = take(&mut self.lanes[turn.class.index()]);
        self.served(turn, count, bytes);
    }

    /// Has the elements of a class make way for which the closure says so, and go elsewhere.
    pub(crate) fn evict(
        &mut self,
        class: Class,
        is_out: impl FnMut(&Entry<P>) -> bool,
    ) -> Vec<Entry<P>> {
        let mut out = Vec::new();
        self.take_out(class.index(), is_out, &mut out);
        self.seen[class.index()].evicted_elsewhere += out.len() as u64;
        out
    }
}
