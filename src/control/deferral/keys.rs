//! Which keys have something put aside.

use std::collections::BTreeMap;

/// Counts the elements of each key in the ring, and remembers roughly which keys were spilled.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// At most one entry for each element of the ring.
    held: BTreeMap<u64, usize>,
    /// A bit for the keys that were spilled since the place outside was empty: bounded, and now and
    /// then a key is taken for another, which only defers it needlessly.
    spilled: [u64; 64],
}

fn bit(key: u64) -> (usize, u64) {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
    ((mixed >> 6) as usize, 1 << (mixed & 63))
}

impl Keys {
    pub(super) fn new() -> Keys {
        Keys {
            held: BTreeMap::new(),
            spilled: [0; 64],
        }
    }

    pub(super) fn holds(&self, key: u64) -> bool {
        self.held.contains_key(&key)
    }

    pub(super) fn spilled(&self, key: u64) -> bool {
        let (word, bit) = bit(key);
        self.spilled[word] & bit != 0
    }

    pub(super) fn came(&mut self, key: Option<u64>) {
        if let Some(key) = key {
            *self.held.entry(key).or_default() += 1;
        }
    }

    pub(super) fn left(&mut self, key: Option<u64>) {
        if let Some(key) = key
            && let Some(count) = self.held.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&key);
            }
        }
    }

    pub(super) fn spill(&mut self, key: Option<u64>) {
        if let Some(key) = key {
            let (word, bit) = bit(key);
            self.spilled[word] |= bit;
        }
    }

    pub(super) fn forget_spilled(&mut self) {
        self.spilled = [0; 64];
    }
}
