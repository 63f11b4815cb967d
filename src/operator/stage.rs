//! One stage of a running pipeline, as the engine sees it.

use std::sync::{Arc, OnceLock};

use crate::ledger::StageLedger;
use crate::outcome::Reason;

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
}
