//! folly's `CoDel`: while the least delay of an interval is above the target, whatever waited longer
//! than twice the target is dropped when it is taken.

use std::collections::VecDeque;

use super::line::Line;
use crate::trace::Item;

/// The rule alone.
#[derive(Debug)]
struct Rule {
    target_ns: u64,
    interval_ns: u64,
    least_ns: u64,
    interval_ends: u64,
    /// The next delay is the first of its interval.
    fresh: bool,
    overloaded: bool,
}

impl Rule {
    /// Whether an element that waited that long is to be dropped.
    fn drops(&mut self, now_ns: u64, delay_ns: u64) -> bool {
        if now_ns > self.interval_ends && !self.fresh {
            self.fresh = true;
            self.interval_ends = now_ns + self.interval_ns;
            self.overloaded = self.least_ns > self.target_ns;
        }
        if self.fresh {
            // One alone in its interval is never dropped.
            self.fresh = false;
            self.least_ns = delay_ns;
            return false;
        }
        self.least_ns = self.least_ns.min(delay_ns);
        self.overloaded && delay_ns > 2 * self.target_ns
    }
}

pub(super) struct Codel {
    items: VecDeque<(u64, Item)>,
    capacity: usize,
    rule: Rule,
}

impl Codel {
    pub(super) fn new(capacity: usize, target_ns: u64, interval_ns: u64) -> Codel {
        Codel {
            items: VecDeque::new(),
            capacity,
            rule: Rule {
                target_ns,
                interval_ns,
                least_ns: 0,
                interval_ends: 0,
                fresh: false,
                overloaded: false,
            },
        }
    }
}

impl Line for Codel {
    fn offer(&mut self, now_ns: u64, item: Item) -> Result<(), Item> {
        if self.items.len() >= self.capacity {
            return Err(item);
        }
        self.items.push_back((now_ns, item));
        Ok(())
    }

    fn take(&mut self, now_ns: u64) -> Option<Item> {
        while let Some((since, item)) = self.items.pop_front() {
            if !self.rule.drops(now_ns, now_ns.saturating_sub(since)) {
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_drops_only_while_the_least_delay_is_above_the_target() {
        let mut rule = Codel::new(1, 5, 100).rule;
        assert!(!(0..300).any(|now| rule.drops(now, 4)), "below the target");
        assert!(
            !(300..390).any(|now| rule.drops(now, 50)),
            "not before an interval is over"
        );
        assert!((390..620).any(|now| rule.drops(now, 50)));
        assert!(!rule.drops(620, 10), "not above twice the target");
        assert!(!(621..900).any(|now| rule.drops(now, 1)));
        assert!(!rule.drops(900, 50), "no longer overloaded");
    }
}
