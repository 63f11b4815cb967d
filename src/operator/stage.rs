//! One stage of a running pipeline, as the engine sees it.

use std::sync::{Arc, OnceLock};

use crate::chunk::Meta;
use crate::class::Class;
use crate::ledger::StageLedger;
use crate::outcome::{Outcome, Reason};
use crate::time::Time;

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) id: u32,
    /// A source: what it hands over it made.
    pub(crate) source: bool,
    /// Downstream of a fan-out: its end need not be the end of the source.
    pub(crate) branch: bool,
    pub(crate) ledger: StageLedger,
    /// Its name, once the run starts.
    pub(crate) name: OnceLock<Arc<str>>,
    /// Set once when the whole run ends early, by the runtime.
    pub(crate) ending: OnceLock<Reason>,
}

impl Stage {
    pub(crate) fn new(id: u32, source: bool, branch: bool) -> Stage {
        Stage {
            id,
            source,
            branch,
            ledger: StageLedger::default(),
            name: OnceLock::new(),
            ending: OnceLock::new(),
        }
    }

    /// Tells how an element ended, and counts it here. Any thread may, for elements that this stage
    /// gave to others to keep.
    pub(crate) fn settle(&self, meta: Meta, outcome: Outcome, now: Time) {
        self.ledger.settle(meta.class, outcome, 1);
        if outcome == Outcome::Delivered && meta.since != Time::MAX {
            let class = meta.class.map_or(Class::COUNT, Class::index);
            let took = now.since(meta.since).as_nanos() as u64;
            self.ledger.latency().record(class, took, 1);
        }
        meta.receipt.settle_at(outcome, self.id);
    }
}
