//! The hard gate: while the elements inside take too much memory, nothing more is let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::control::{Adjustment, Invalid, PressureHandle, Reading};
use forebay::time;

use crate::scenario::{ByClass, Memory, Rank};
use crate::trace::{Item, Trace};

/// From which pressure on MEDIUM is turned away; LOW is as soon as there is any.
const MEDIUM_UNTIL: f64 = 0.5;

/// Reads what the elements inside take, against the limit, and turns away whom there is no memory for:
/// LOW under any pressure, MEDIUM under more, HIGH when the gate is shut.
pub(super) struct MemoryGate {
    trace: Arc<Trace>,
    limit_bytes: u64,
    pressure: PressureHandle,
    turned_away: ByClass<AtomicU64>,
}

impl MemoryGate {
    pub(super) fn new(memory: Memory, trace: &Arc<Trace>) -> Result<MemoryGate, Invalid> {
        Ok(MemoryGate {
            trace: Arc::clone(trace),
            limit_bytes: memory.limit_bytes,
            pressure: PressureHandle::new(memory.settings())?,
            turned_away: ByClass::make(|_| AtomicU64::new(0)),
        })
    }

    pub(super) fn pressure(&self) -> &PressureHandle {
        &self.pressure
    }

    /// Whether it is let in; one that is offered is inside already.
    pub(super) fn admits(&self, item: &Item) -> bool {
        let now = time::now();
        let inside = self.trace.inside_bytes() as f64 / self.limit_bytes as f64;
        self.pressure.read(now, Reading::Memory(inside));
        let score = self.pressure.score(now);
        let admits = !self.pressure.gate_is_shut()
            && match item.rank {
                Rank::High => true,
                Rank::Medium => score < MEDIUM_UNTIL,
                Rank::Low => score <= 0.0,
            };
        if !admits {
            let turned_away = self.turned_away.of(item.rank);
            turned_away.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    pub(super) fn turned_away(&self) -> ByClass<u64> {
        ByClass::make(|rank| self.turned_away.of(rank).load(Ordering::Relaxed))
    }

    pub(super) fn adjustments(&self) -> Vec<Adjustment> {
        self.pressure.adjustments()
    }
}
