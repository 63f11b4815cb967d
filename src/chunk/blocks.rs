//! A first-in first-out store of values that moves whole chunks without copying them.

use std::collections::VecDeque;
use std::mem;

use super::Chunk;

/// Emptied blocks kept for the next ones.
const SPARE: usize = 8;

/// Values in order, in blocks of up to a chunk: a block comes and goes by swapping buffers; only one
/// that is taken in parts is copied, and one that small additions are gathered in.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    /// The block that is being taken in parts.
    front: VecDeque<T>,
    rest: VecDeque<Vec<T>>,
    spare: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks {
            front: VecDeque::new(),
            rest: VecDeque::new(),
            spare: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Blocks<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.front
            .front()
            .or_else(|| self.rest.front().and_then(|block| block.first()))
    }

    /// Adds all values, which leave their vector with another's space.
    pub(super) fn append(&mut self, values: &mut Vec<T>) {
        self.len += values.len();
        match self.rest.back_mut() {
            Some(last) if last.len() + values.len() <= Chunk::<T>::MAX => last.append(values),
            None if !self.front.is_empty()
                && self.front.len() + values.len() <= Chunk::<T>::MAX =>
            {
                self.front.extend(values.drain(..));
            }
            _ if values.is_empty() => {}
            _ => {
                let space = self.spare.pop().unwrap_or_default();
                self.rest.push_back(mem::replace(values, space));
            }
        }
    }

    pub(super) fn push_back(&mut self, value: T) {
        self.len += 1;
        match self.rest.back_mut() {
            Some(last) if last.len() < Chunk::<T>::MAX => last.push(value),
            None if self.front.len() < Chunk::<T>::MAX => self.front.push_back(value),
            _ => {
                let mut block = self.spare.pop().unwrap_or_default();
                block.push(value);
                self.rest.push_back(block);
            }
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        if self.front.is_empty()
            && let Some(block) = self.rest.pop_front()
        {
            self.open(block);
        }
        let value = self.front.pop_front()?;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn pop_back(&mut self) -> Option<T> {
        let value = match self.rest.back_mut() {
            Some(last) => {
                let value = last.pop();
                if last.is_empty()
                    && let Some(block) = self.rest.pop_back()
                {
                    self.keep(block);
                }
                value
            }
            None => self.front.pop_back(),
        }?;
        self.len -= 1;
        Some(value)
    }

    /// Moves the first `count` values to the end of `out`.
    pub(super) fn move_front(&mut self, count: usize, out: &mut Vec<T>) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            if !self.front.is_empty() {
                let some = left.min(self.front.len());
                out.extend(self.front.drain(..some));
                left -= some;
                continue;
            }
            let Some(mut block) = self.rest.pop_front() else {
                return;
            };
            if block.len() > left {
                self.open(block);
                continue;
            }
            left -= block.len();
            if out.is_empty() {
                mem::swap(out, &mut block);
            } else {
                out.append(&mut block);
            }
            self.keep(block);
        }
    }

    /// Makes a block the one that is taken in parts.
    fn open(&mut self, block: Vec<T>) {
        let space = mem::replace(&mut self.front, VecDeque::from(block));
        self.keep(Vec::from(space));
    }

    fn keep(&mut self, block: Vec<T>) {
        if self.spare.len() < SPARE && block.capacity() > 0 {
            self.spare.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(
            steps in proptest::collection::vec((0..5_u8, 0..600_usize), 1..60)
        ) {
            let mut blocks = Blocks::default();
            let mut model = VecDeque::new();
            let mut next = 0_u32;
            for (step, size) in steps {
                match step {
                    0 => {
                        let mut values: Vec<u32> = (next..next + size as u32).collect();
                        next += size as u32;
                        model.extend(values.iter().copied());
                        blocks.append(&mut values);
                        prop_assert!(values.is_empty());
                    }
                    1 => {
                        blocks.push_back(next);
                        model.push_back(next);
                        next += 1;
                    }
                    2 => prop_assert_eq!(blocks.pop_front(), model.pop_front()),
                    3 => prop_assert_eq!(blocks.pop_back(), model.pop_back()),
                    _ => {
                        let mut out = vec![u32::MAX; size % 3];
                        let before = out.len();
                        blocks.move_front(size, &mut out);
                        let expected: Vec<u32> = model.drain(..size.min(model.len())).collect();
                        prop_assert_eq!(&out[before..], &expected[..]);
                    }
                }
                prop_assert_eq!(blocks.len(), model.len());
                prop_assert_eq!(blocks.front(), model.front());
            }
        }
    }
}
