//! Tasks that wait for the same thing.

use std::collections::VecDeque;
use std::task::Waker;

/// So many tasks are remembered; one more, and the oldest is woken to ask again.
const MOST: usize = 1024;

/// The wakers of tasks that wait, each once, and boundedly many.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    wakers: VecDeque<Waker>,
}

impl Waiters {
    /// Remembers a task, unless it is. What is returned must be woken: its place was needed.
    #[must_use]
    pub(crate) fn add(&mut self, waker: &Waker) -> Option<Waker> {
        if self.wakers.iter().any(|other| other.will_wake(waker)) {
            return None;
        }
        self.wakers.push_back(waker.clone());
        if self.wakers.len() > MOST {
            self.wakers.pop_front()
        } else {
            None
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    /// All of them, to be woken where no lock is held.
    #[must_use]
    pub(crate) fn take(&mut self) -> VecDeque<Waker> {
        std::mem::take(&mut self.wakers)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_task_is_remembered_once_and_one_too_many_is_woken() {
        let mut waiters = Waiters::default();
        let first = Waker::from(Arc::new(Task));
        assert!(waiters.add(&first).is_none() && waiters.add(&first).is_none());
        let others: Vec<Waker> = (0..MOST).map(|_| Waker::from(Arc::new(Task))).collect();
        let woken: Vec<Waker> = others
            .iter()
            .filter_map(|waker| waiters.add(waker))
            .collect();
        assert!(woken.len() == 1 && woken.iter().all(|waker| waker.will_wake(&first)));
        assert_eq!(waiters.take().len(), MOST);
        assert!(waiters.is_empty());
    }
}
