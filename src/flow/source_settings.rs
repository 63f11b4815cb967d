//! How a source is tracked: methods that come right after it.

use super::Flow;
use crate::operator::Answer;

impl<T: Send + 'static> Flow<T> {
    /// Turns receipts off: nothing is known by source then, and no position is kept. Stages are
    /// still counted.
    pub fn untracked(self) -> Flow<T> {
        self.plan.set_source(&self.stage, "untracked", |settings| {
            settings.tracked = false;
        });
        self
    }

    /// What the source does when an element ends unresolved. One that cannot go back is refused under
    /// [`Answer::Rewind`], and one that has nowhere to divert elements to under [`Answer::Divert`].
    pub fn on_unresolved(self, answer: Answer) -> Flow<T> {
        self.plan
            .set_source(&self.stage, "on_unresolved", |settings| {
                settings.answer = answer;
            });
        self
    }

    /// How many elements may lie between the settled position and the newest one; 0 counts as 1.
    pub fn window(self, elements: usize) -> Flow<T> {
        self.plan.set_source(&self.stage, "window", |settings| {
            settings.window = elements.max(1);
        });
        self
    }

    /// Declares that shed and expired elements may be lost: the settled position passes them.
    pub fn allow_loss(self) -> Flow<T> {
        self.plan
            .set_source(&self.stage, "allow_loss", |settings| settings.loss = true);
        self
    }

    /// Sends a barrier downstream after that many elements each: the end of an epoch.
    pub fn barrier_every(self, elements: usize) -> Flow<T> {
        self.plan
            .set_source(&self.stage, "barrier_every", |settings| {
                settings.barrier_every = elements;
            });
        self
    }
}
