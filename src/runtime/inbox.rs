//! Messages of the run for one island.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::operator::Control;
use crate::sync::lock;

/// Looked into once a chunk, so that a message is obeyed after the closure that runs.
#[derive(Default)]
pub(crate) struct Inbox {
    some: AtomicBool,
    controls: Mutex<VecDeque<Control>>,
}

impl Inbox {
    pub(crate) fn put(&self, control: Control) {
        lock(&self.controls).push_back(control);
        self.some.store(true, Ordering::Release);
    }

    pub(crate) fn take(&self) -> Option<Control> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let mut controls = lock(&self.controls);
        let first = controls.pop_front();
        if controls.is_empty() {
            self.some.store(false, Ordering::Release);
        }
        first
    }
}
