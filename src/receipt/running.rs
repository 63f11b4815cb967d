//! Which stage runs on this thread: asked only when a receipt is dropped unsettled.

use std::cell::Cell;

use crate::position::NO_STAGE;

thread_local! {
    static RUNNING: Cell<u32> = const { Cell::new(NO_STAGE) };
}

/// A stage runs on this thread until this is dropped; then the one that called it does.
pub(crate) struct RunningStage {
    caller: u32,
}

impl RunningStage {
    pub(crate) fn enter(stage: u32) -> RunningStage {
        RunningStage {
            caller: RUNNING.replace(stage),
        }
    }
}

impl Drop for RunningStage {
    fn drop(&mut self) {
        RUNNING.set(self.caller);
    }
}

pub(super) fn stage() -> u32 {
    RUNNING.get()
}
